package consensusmanager

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/xiaonanln/goverse/cluster/sharding"
	"github.com/xiaonanln/goverse/internal/event"
)

// Each order that somebody gives is told of with it, and what was not carried out is not.
func TestActs(t *testing.T) {
	w := newTown(t, "a:1", "b:1")
	ctx := WithOperator(t.Context(), "ann@laptop")
	for _, order := range []func() (Mark, error){
		func() (Mark, error) { return Drain(ctx, w.kv, "/goverse", "a:1", false) },
		func() (Mark, error) { return Drain(ctx, w.kv, "/goverse", "a:1", false) }, // was so already
		func() (Mark, error) { return Undrain(ctx, w.kv, "/goverse", "a:1", false) },
		func() (Mark, error) { return Drain(t.Context(), w.kv, "/goverse", "b:1", false) }, // nobody's
		func() (Mark, error) { return Undrain(t.Context(), w.kv, "/goverse", "b:1", false) },
		func() (Mark, error) { return Pin(ctx, w.kv, "/goverse", 3, "b:1") },
		func() (Mark, error) { return Unpin(ctx, w.kv, "/goverse", 3) },
		func() (Mark, error) { return Unpin(ctx, w.kv, "/goverse", 3) },
		func() (Mark, error) { return Move(ctx, w.kv, "/goverse", 4, "a:1", time.Hour) },
		func() (Mark, error) { return PinAll(ctx, w.kv, "/goverse", []sharding.ID{1, 2}, "a:1") },
		func() (Mark, error) { return Mark{}, Record(ctx, w.kv, "/goverse", Pushes, "gate:1/x") },
	} {
		if _, err := order(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := Pin(ctx, w.kv, "/goverse", 3, "nobody:1"); err == nil {
		t.Error("a pin to nobody")
	}
	if got, want := w.acts(), "1 ann@laptop drain a:1\n2 ann@laptop undrain a:1\n3 ann@laptop pin shard 3 to b:1\n4 ann@laptop unpin shard 3\n5 ann@laptop move shard 4 to a:1\n6 ann@laptop pin 2 shards to a:1: [1 2]\n7 ann@laptop push gate:1/x\n"; got != want {
		t.Errorf("%s\nwant\n%s", got, want)
	}
}

func (w *town) acts() string {
	w.Helper()
	v, err := Read(w.Context(), w.kv, "/goverse")
	if err != nil {
		w.Fatal(err)
	}
	var b strings.Builder
	for _, a := range v.Acts() {
		fmt.Fprintf(&b, "%d %s %v\n", a.Number, a.Who, a)
	}
	return b.String()
}

// The list stays bounded, keeps its numbers, and begins anew where it cannot be read.
func TestActsAreBounded(t *testing.T) {
	w := newTown(t, "a:1")
	ctx := WithOperator(t.Context(), strings.Repeat("é", actText))
	for range keptActs + 3 {
		if err := Record(ctx, w.kv, "/goverse", Pushes, strings.Repeat("x", 10*actText)); err != nil {
			t.Fatal(err)
		}
	}
	v, err := Read(t.Context(), w.kv, "/goverse")
	if err != nil {
		t.Fatal(err)
	}
	list := v.Acts()
	if len(list) != keptActs || list[0].Number != 4 || list[keptActs-1].Number != keptActs+3 || len(list[0].Who) != actText || len(list[0].On) != actText {
		t.Errorf("%d of them, from %d; %q", len(list), list[0].Number, list[0].Who)
	}
	for _, garbage := range []string{"garbage", `{"acts":[{"n":2},{"n":2}]}`, `{"acts":[{"n":0}]}`} {
		w.put("acts", garbage, 0)
		if v, err = Read(t.Context(), w.kv, "/goverse"); err != nil || len(v.Acts()) != 0 || len(v.Damage()) != 1 {
			t.Errorf("%s: %v, %v, %v", garbage, v.Acts(), v.Damage(), err)
		}
		if _, err := Drain(ctx, w.kv, "/goverse", "a:1", true); err != nil {
			t.Error(err)
		}
		if _, err := Undrain(ctx, w.kv, "/goverse", "a:1", true); err != nil {
			t.Error(err)
		}
		if got := strings.Count(w.acts(), "\n"); got != 2 {
			t.Errorf("%s: %d acts after it", garbage, got)
		}
	}
}

// Two who give orders at once: both are told of.
func TestActsAtOnce(t *testing.T) {
	w := newTown(t, "a:1", "b:1")
	first := true
	kv := &before{KV: w.kv, commit: func(int) {
		if first {
			first = false
			if err := Record(WithOperator(t.Context(), "bob@desk"), w.kv, "/goverse", Pushes, "x"); err != nil {
				t.Error(err)
			}
		}
	}}
	if _, err := Drain(WithOperator(t.Context(), "ann@laptop"), kv, "/goverse", "a:1", false); err != nil {
		t.Fatal(err)
	}
	if got, want := w.acts(), "1 bob@desk push x\n2 ann@laptop drain a:1\n"; got != want {
		t.Errorf("%s\nwant\n%s", got, want)
	}
}

// One process tells of an act, and goes on where the one before has died.
func TestActsAreToldOnce(t *testing.T) {
	bubble(t, func(w *world) {
		var mu sync.Mutex
		var told []string
		listens := func(address string) func(*Config) {
			return func(c *Config) {
				c.Listener.SensitiveOperation = func(e event.SensitiveOperation) {
					mu.Lock()
					defer mu.Unlock()
					told = append(told, fmt.Sprintf("%s: %v %v %s %s", address, e.Where, e.What, e.User, e.ID))
				}
			}
		}
		kv := w.etcd.Connect()
		defer kv.Close()
		ctx := WithOperator(t.Context(), "ann@laptop")
		order := func(on string) {
			t.Helper()
			if err := Record(ctx, kv, "/goverse", Pins, on); err != nil {
				t.Error(err)
			}
			synctest.Wait()
		}
		a := w.node("a:1", listens("a:1"))
		time.Sleep(time.Minute) // of the bubble's: all is well
		order("before b came")
		w.node("b:1", listens("b:1"))
		w.node("g:1", listens("g:1"), gate)
		time.Sleep(time.Minute)
		order("with both")
		if err := Record(ctx, kv, "/goverse", "juggle", "what is not known here"); err != nil {
			t.Error(err)
		}
		if err := Record(ctx, kv, "/goverse", Pushes, "which its node tells of"); err != nil {
			t.Error(err)
		}
		a.leave()
		w.all = w.all[1:]
		time.Sleep(time.Minute)
		order("without a")
		mu.Lock()
		defer mu.Unlock()
		if want := []string{
			"a:1: cluster operator_pins ann@laptop before b came", "a:1: cluster operator_pins ann@laptop with both", "b:1: cluster operator_pins ann@laptop without a",
		}; !slices.Equal(told, want) {
			t.Errorf("%q\nwant\n%q", told, want)
		}
	})
}
