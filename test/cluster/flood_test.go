package cluster

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/xiaonanln/goverse/goverseapi"
	"github.com/xiaonanln/goverse/goversetest"
)

// Hose pushes.
type Hose struct{ goverseapi.BaseObject }

// Say pushes to a client what its request says behind the client's id.
func (*Hose) Say(ctx context.Context, words *wrapperspb.StringValue) (*wrapperspb.StringValue, error) {
	id, text, _ := strings.Cut(words.Value, " ")
	return words, goverseapi.PushMessageToClient(ctx, id, wrapperspb.String(text))
}

// Pour pushes 4 MiB to a client.
func (*Hose) Pour(ctx context.Context, id *wrapperspb.StringValue) (*wrapperspb.StringValue, error) {
	drop := wrapperspb.String(strings.Repeat("x", 64<<10))
	for range 64 {
		if err := goverseapi.PushMessageToClient(ctx, id.Value, drop); err != nil {
			return nil, err
		}
	}
	return id, nil
}

// While a gate takes nothing for a moment, one of its clients is flooded with more than the
// node keeps for the gate. That one loses pushes; the others lose none, nor does who follows
// an object have to begin anew.
func TestAFloodedClientCostsNobodyElseAnything(t *testing.T) {
	types := []goversetest.Type{
		goversetest.Of((*Hose)(nil)), goversetest.Of((*FleetingTally)(nil), goverseapi.ReadOnlyMethods("Look"), goverseapi.WithDurability(goverseapi.Volatile)),
	}
	goversetest.Sim(t, goversetest.Cluster{Nodes: 1, Gates: 1, Types: types}, func(w *goversetest.World) {
		const times = 5
		flooded, quiet, follows := w.Connect(), w.Connect(), &watcher{t: t, ref: "FleetingTally/0"}
		ctx, cancel := context.WithCancel(context.Background())
		var watching sync.WaitGroup
		defer watching.Wait()
		defer cancel()
		s := w.Connect().Subscribe(follows.ref)
		watching.Go(func() { defer s.Close(); follows.watch(ctx, s) })
		say := func(id, words string) { w.Call("Hose/0", "Say", wrapperspb.String(id+" "+words)) }

		w.Partition(w.Nodes()[0], w.Gates()[0])
		for i := range times {
			say(quiet.ID(), fmt.Sprint(i))
			w.Call("Hose/0", "Pour", wrapperspb.String(flooded.ID()))
			w.Call(follows.ref, "Add", wrapperspb.Int64(0))
		}
		w.Heal()
		say(quiet.ID(), "last")

		for i := range times {
			if got := quiet.Next().(*wrapperspb.StringValue).Value; got != fmt.Sprint(i) {
				t.Fatalf("the quiet client heard %.20q where %d was due", got, i)
			}
		}
		if got := quiet.Next().(*wrapperspb.StringValue).Value; got != "last" {
			t.Errorf("in the end the quiet client heard %.20q", got)
		}
		w.Settle()
		time.Sleep(30 * time.Second) // of the bubble
		if !flooded.Ended() {        // it reads nothing, and has no place for what was on its way alone
			t.Error("the flooded client was not flooded")
		}
		if n, resets := follows.at(); n != times || resets != 0 {
			t.Errorf("the object was followed to %d of %d, with %d resets", n, times, resets)
		}
	})
}
