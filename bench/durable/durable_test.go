package durable

import (
	"context"
	"errors"
	"math"
	"strconv"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/xiaonanln/goverse/object"
	"github.com/xiaonanln/goverse/object/memstore"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Every way works on both stores again and again, and nothing is left.
func TestPair(t *testing.T) {
	p, err := NewPair(t.Context(), memstore.New(), memstore.New())
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range Ways {
		for range 2 {
			c, err := p.Measure(t.Context(), w, 3, 3*time.Millisecond)
			if err != nil || len(c.Fenced) != 3 || len(c.Bare) != 3 {
				t.Fatalf("%s: %+v, %v", w.Name, c, err)
			}
			for name, v := range c.Report() {
				if !(v > 0) || math.IsInf(v, 0) {
					t.Errorf("%s: %s is %v", w.Name, name, v)
				}
			}
		}
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
}

func TestReport(t *testing.T) {
	r := Cost{Fenced: []float64{30, 10, 20}, Bare: []float64{60, 40, 20}}.Report()
	if r["fenced/s"] != 20 || r["bare/s"] != 40 || r["fenced/bare-%"] != 50 {
		t.Errorf("%v", r)
	}
}

// broken is a store that fails at the n-th commit.
type broken struct {
	object.FencedProvider
	left int
}

var errBroken = errors.New("broken")

func (b *broken) Commit(ctx context.Context, owner string, saves []object.Save) ([]object.Verdict, error) {
	if b.left--; b.left < 0 {
		return nil, errors.Join(errBroken, object.ErrNotCommitted)
	}
	return b.FencedProvider.Commit(ctx, owner, saves)
}

func (b *broken) Lanes() int { return 1 }

// What fails is no rate.
func TestFailuresAreTold(t *testing.T) {
	store := &broken{memstore.New(), 5}
	h, err := Start(t.Context(), store)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := NewDesk(store).Saves(t.Context(), time.Minute, 1, 4); !errors.Is(err, errBroken) {
		t.Errorf("saves end with %v", err)
	}
	ctx, stop := context.WithCancel(t.Context())
	stop()
	if _, err := h.Calls(ctx, time.Minute, Load{Callers: 2, ID: strconv.Itoa}); err == nil {
		t.Error("calls that were given up are no error")
	}
	if err := h.Close(); err != nil {
		t.Error(err)
	}
}

// A store that another node has used would refuse the saves one by one.
func TestStoreOfAnotherNode(t *testing.T) {
	store := memstore.New()
	if v := LateSave(t.Context(), store); v.Kind != object.FenceLost {
		t.Errorf("%+v", v)
	}
	if _, err := Start(t.Context(), store); err == nil {
		t.Error("a host takes a store whose fences are another's")
	}
	if v := LateSave(t.Context(), store); v.Err == nil {
		t.Errorf("%+v", v)
	}
}
