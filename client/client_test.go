package client_test

import (
	"context"
	"testing"

	"go.uber.org/goleak"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/xiaonanln/goverse/client"
	"github.com/xiaonanln/goverse/internal/callctx"
	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/object"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// ChatClient is a client object as older programs have them.
type ChatClient struct {
	client.BaseClient
	rooms []string
}

func (c *ChatClient) Join(ctx context.Context, room *wrapperspb.StringValue) (*wrapperspb.Int64Value, error) {
	c.rooms = append(c.rooms, room.GetValue())
	return wrapperspb.Int64(int64(len(c.rooms))), c.PushMessage(ctx, room)
}

// world notes what is pushed.
type world struct{ pushed []object.Push }

func (w *world) Call(context.Context, object.Call) (object.Payload, error) {
	return object.Payload{}, nil
}

func (w *world) Push(_ context.Context, p object.Push) error {
	w.pushed = append(w.pushed, p)
	return nil
}

func TestBaseClient(t *testing.T) {
	ts := object.NewTypes()
	if err := ts.Register((*ChatClient)(nil)); err != nil {
		t.Fatal(err)
	}
	typ, _ := ts.Lookup("ChatClient")
	if names := typ.MethodNames(); len(names) != 1 || names[0] != "Join" {
		t.Fatalf("callable: %q", names)
	}
	c := typ.New().(*ChatClient)
	var w world
	asked := callctx.With(object.WithRuntime(t.Context(), &w), &callctx.Info{Caller: callctx.Caller{ClientID: "gate:1/ann", Client: true}})
	if _, err := typ.Methods["Join"].Invoke(asked, c, wrapperspb.String("general")); err != nil {
		t.Fatal(err)
	}
	if len(w.pushed) != 1 || w.pushed[0].Broadcast || len(w.pushed[0].ClientIDs) != 1 || w.pushed[0].ClientIDs[0] != "gate:1/ann" || c.ClientID(asked) != "gate:1/ann" {
		t.Errorf("%+v", w.pushed)
	}
	if err := c.PushMessage(object.WithRuntime(t.Context(), &w), wrapperspb.String("x")); fault.KindOf(err) != fault.Invalid || len(w.pushed) != 1 {
		t.Errorf("without a client: %v", err)
	}
	err := c.PushMessage(t.Context(), wrapperspb.String("x"))
	if fault.KindOf(err) != fault.NotReady || fault.OutcomeOf(err) != fault.NotExecuted {
		t.Errorf("outside of a method: %v", err)
	}
}
