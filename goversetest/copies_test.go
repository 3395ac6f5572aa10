package goversetest

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"

	"go.uber.org/goleak"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/xiaonanln/goverse/object"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Keeper changes a request behind the call that brought it.
type Keeper struct {
	object.BaseObject
	req *wrapperspb.StringValue
}

func (k *Keeper) Keep(_ context.Context, req *wrapperspb.StringValue) (*wrapperspb.StringValue, error) {
	k.req = req
	return wrapperspb.String("kept"), nil
}

func (k *Keeper) Spoil(context.Context, *wrapperspb.StringValue) (*wrapperspb.StringValue, error) {
	k.req.Value = "spoiled"
	return wrapperspb.String("spoiled"), nil
}

// ear hears what would fail the test.
type ear struct {
	testing.TB
	heard []string
}

func (e *ear) Error(args ...any) { e.heard = append(e.heard, fmt.Sprint(args...)) }

func TestCopyMessagesFindsTheMistake(t *testing.T) {
	for _, copying := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			c := Cluster{Types: []Type{Of((*Keeper)(nil))}, CopyMessages: copying}
			e := &ear{TB: t}
			inhabit(t, c, newSim(e, c), func(w *World) {
				sent := wrapperspb.String("sent")
				w.Call("Keeper/x", "Keep", sent)
				w.Call("Keeper/x", "Spoil", nil)
				if isolated := sent.Value == "sent"; isolated != copying {
					t.Errorf("copying is %v, and the caller's message is %q now", copying, sent.Value)
				}
			})
			all := strings.Join(e.heard, "\n")
			if found := strings.Contains(all, "Keeper/x changed the request that Keep got"); found != copying {
				t.Errorf("copying is %v, and the test heard %q", copying, all)
			}
		})
	}
}

func TestCopyMessagesInNet(t *testing.T) {
	c := Cluster{Types: []Type{Of((*Keeper)(nil))}, CopyMessages: true}
	Net(t, c, func(w *World) {
		sent := wrapperspb.String("sent")
		w.Call("Keeper/x", "Keep", sent)
		if sent.Value != "sent" {
			t.Error(sent)
		}
	})
}
