package fleet

import (
	"context"
	"errors"
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"

	"github.com/xiaonanln/goverse/bench/load/child"
	"github.com/xiaonanln/goverse/bench/load/meter"
)

// TestMain also is the processes of its fleets.
func TestMain(m *testing.M) {
	if run := Roles[child.Role()]; run != nil {
		if err := Serve(run); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	goleak.VerifyTestMain(m)
}

// Calls arrive, here and there, and nothing is left when the fleet is closed.
func TestFleetAnswersOnEveryRoad(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes")
	}
	f, err := Start(t.Context(), true)
	if err != nil {
		t.Fatal(err)
	}
	for _, remote := range []bool{true, false} {
		for _, id := range f.IDs(3, remote) {
			q := meter.Question(60, 1, 2)
			reply, err := NewRef(f.Node(), Lasting, id).Say(t.Context(), q)
			if err := errors.Join(err, meter.Check(q, reply)); err != nil {
				t.Errorf("from node to node (%v): %v", remote, err)
			}
			reply, err = NewRef(f.Gate(), Fleeting, id).Say(t.Context(), q)
			if err := errors.Join(err, meter.Check(q, reply)); err != nil {
				t.Errorf("through the gate: %v", err)
			}
		}
	}
	if n := len(f.Processes()); n != 3 {
		t.Errorf("there are %d children", n)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
}

func TestStartThatIsGivenUp(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	stop()
	if _, err := Start(ctx, true); !errors.Is(err, context.Canceled) {
		t.Errorf("the error is %v", err)
	}
}
