package server

import (
	"context"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/xiaonanln/goverse/cluster/sharding"
	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/internal/peer"
	"github.com/xiaonanln/goverse/node"
	"github.com/xiaonanln/goverse/object"
)

// What is wrong with the bounds is said at once, with what to do.
func TestBoundsAreChecked(t *testing.T) {
	err := ServerConfig{MaxActivations: -1, MaxExecutions: 63}.Validate()
	if err == nil {
		t.Fatal("they are taken")
	}
	for _, want := range []string{"MaxActivations is -1; it must be at least 1", "MaxExecutions is 63; it must be at least 64"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is missing in: %v", want, err)
		}
	}
	for _, n := range []int{0, 64, 100_000} {
		if err := (ServerConfig{MaxExecutions: n}).Validate(); err != nil {
			t.Error(err)
		}
	}
}

type door struct {
	object.BaseObject
	entered chan<- struct{}
	open    <-chan struct{}
}

type doorKey struct{}

func (d *door) Enter(ctx context.Context, _ *emptypb.Empty) (*emptypb.Empty, error) {
	at := ctx.Value(doorKey{}).(*door)
	at.entered <- struct{}{}
	<-at.open
	return &emptypb.Empty{}, nil
}

// MaxExecutions is the node's.
func TestMaxExecutions(t *testing.T) {
	const most = 64
	s, err := New(ServerConfig{MaxExecutions: most, NumShards: 1})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Node.RegisterObjectType((*door)(nil), object.WithMode(object.Concurrent)); err != nil {
		t.Fatal(err)
	}
	running, stop := context.WithCancel(t.Context())
	var all sync.WaitGroup
	defer all.Wait()
	defer stop()
	all.Go(func() {
		if err := s.Node.Run(running); err != nil {
			t.Error(err)
		}
	})
	s.Node.Start()
	refused, err := s.Node.Open(t.Context(), "n:1#a", func() bool { return true }, []node.Claim{{Shard: sharding.ID(0), Epoch: 1}})
	if err != nil || len(refused) > 0 {
		t.Fatal(refused, err)
	}
	entered, open := make(chan struct{}), make(chan struct{})
	ctx := context.WithValue(t.Context(), doorKey{}, &door{entered: entered, open: open})
	call := func() error {
		_, err := s.Node.ServeCall(ctx, &peer.Request{Call: object.Call{Ref: object.Ref{Type: "door", ID: "x"}, Method: "Enter"}})
		return err
	}
	var calls sync.WaitGroup
	for range most {
		calls.Go(func() {
			if err := call(); err != nil {
				t.Error(err)
			}
		})
	}
	for range most {
		<-entered
	}
	if err := call(); fault.KindOf(err) != fault.Overloaded || fault.OutcomeOf(err) != fault.NotExecuted || !strings.Contains(err.Error(), "64 calls under way") {
		t.Error(err)
	}
	close(open)
	calls.Wait()

	w := httptest.NewRecorder()
	s.operations(nil).ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	if !strings.Contains(w.Body.String(), "goverse_limit_reached_total{limit=\"executions\"} 1\n") {
		t.Errorf("the refusal was not counted:\n%s", w.Body)
	}
}
