package node

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/xiaonanln/goverse/internal/access"
	"github.com/xiaonanln/goverse/internal/callctx"
	"github.com/xiaonanln/goverse/internal/event"
	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/internal/peer"
	"github.com/xiaonanln/goverse/object"
)

// ruled gives the node rules, and notes what it refuses.
func ruled(t testing.TB, denied *[]event.AccessDenied, rules []access.Rule, lifecycles ...access.LifecycleRule) setup {
	t.Helper()
	r, err := access.Compile(rules, lifecycles)
	if err != nil {
		t.Fatal(err)
	}
	return func(w *world, c *Config) {
		c.Access = r
		c.Listener.AccessDenied = func(e event.AccessDenied) {
			w.mu.Lock()
			defer w.mu.Unlock()
			*denied = append(*denied, e)
		}
	}
}

// byClient is the context of what a client itself asks.
func byClient() context.Context {
	return callctx.With(bg, &callctx.Info{Caller: callctx.Caller{ClientID: "g:1/c", UserID: "ann", Roles: []string{"admin"}, Client: true}})
}

// Who asks decides, and who asks is who makes this very call: an object that a client has
// called is an object.
func TestAccessIsOfWhoeverAsks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var denied []event.AccessDenied
		w := start(t, kept, object.InternalMethods("Other"), ruled(t, &denied, []access.Rule{
			{Type: "Kept", ID: "/no.*/", Access: access.Reject},
			{Type: "Kept", ID: "in", Access: access.Internal},
			{Type: "Kept", ID: "out", Method: "/Change|Read/", Access: access.External},
		}))
		nested := func(target string) (inner error) {
			_, err := w.call(byClient(), "Kept/via.Change", func(ctx context.Context, _ *Thing) error {
				_, inner = w.call(ctx, target)
				return nil
			})
			w.must(err)
			return inner
		}
		after := func(target string) error { // with the context of a method that has returned
			var kept context.Context
			if _, err := w.call(byClient(), "Kept/via.Change", func(ctx context.Context, _ *Thing) error {
				kept = context.WithoutCancel(ctx)
				return nil
			}); err != nil {
				return err
			}
			_, err := w.call(kept, target)
			return err
		}
		askers := []struct {
			name   string
			client bool
			ask    func(target string) error
		}{
			{"a client", true, func(target string) error { _, err := w.call(byClient(), target); return err }},
			{"the program", false, func(target string) error { _, err := w.call(bg, target); return err }},
			{"an object for a client", false, nested},
			{"an object, later", false, after},
		}
		for target, who := range map[string]access.Access{
			"Kept/no.Change": access.Reject, "Kept/none.Read": access.Reject,
			"Kept/in.Change": access.Internal, "Kept/free.Other": access.Internal,
			"Kept/out.Read": access.External, "Kept/out.Change": access.External,
			"Kept/out.Look": access.Allow, "Kept/free.Change": access.Allow,
		} {
			for _, a := range askers {
				may := who == access.Allow || who == access.External && a.client || who == access.Internal && !a.client
				denied = nil
				err := a.ask(target)
				switch {
				case may && err != nil:
					t.Errorf("%s may not call %s: %v", a.name, target, err)
				case may:
				case fault.KindOf(err) != fault.Forbidden || len(denied) != 1:
					t.Errorf("%s calls %s: %v, %v", a.name, target, err, denied)
				case a.client:
					isFault(t, err, fault.Forbidden, fault.NotExecuted)
					if d := denied[0]; d.Client != "g:1/c" || d.User != "ann" || "Kept/"+d.ID+"."+d.Method != target || d.Where != event.AtNode {
						t.Errorf("told as %+v", d)
					}
				}
			}
		}
	})
}

// A gate renews what its clients follow, as they may.
func TestAGateAsksForItsClients(t *testing.T) {
	for verdict, rule := range map[bool]access.Access{true: access.External, false: access.Internal} {
		var denied []event.AccessDenied
		n := &Node{}
		r, err := access.Compile([]access.Rule{{Type: "Room", Access: rule}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		n.SetAccess(r)
		n.on.AccessDenied = func(e event.AccessDenied) { denied = append(denied, e) }
		req := &peer.Request{Call: object.Call{Ref: object.Ref{Type: "Room", ID: "1"}, Method: object.SubscribeMethod}}
		if err := n.permit(req, &callctx.Info{}); (err == nil) != verdict {
			t.Errorf("under %v: %v, %v", rule, err, denied)
		}
	}
}

// What is refused brings nothing to life, and reads nothing.
func TestARefusedCallActivatesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var denied []event.AccessDenied
		w := start(t, kept, ruled(t, &denied, []access.Rule{{Method: "Change", Access: access.Internal}},
			access.LifecycleRule{Lifecycle: access.Create, Access: access.Internal}, access.LifecycleRule{ID: "x", Lifecycle: access.Delete, Access: access.Reject}))
		_, err := w.call(byClient(), "Kept/x.Change")
		isFault(t, err, fault.Forbidden, fault.NotExecuted)
		isFault(t, w.create(byClient(), "Kept/x"), fault.Forbidden, fault.NotExecuted)
		isFault(t, w.delete(byClient(), "Kept/x"), fault.Forbidden, fault.NotExecuted)
		isFault(t, w.delete(bg, "Kept/x"), fault.Forbidden, fault.NotExecuted)
		w.wantEvents()
		var got []string
		for _, d := range denied {
			got = append(got, fmt.Sprintf("%s %s %d", d.Method, d.Why, d.Rule))
		}
		want := "Change access_rule 1; CreateObject lifecycle_rule 1; DeleteObject lifecycle_rule 2; DeleteObject lifecycle_rule 2"
		if strings.Join(got, "; ") != want {
			t.Errorf("got %q", got)
		}
		w.must(w.create(bg, "Kept/y"))
		w.must(w.delete(byClient(), "Kept/y"))
	})
}

// A client learns nothing of what is not for it: neither whether there is such a type, nor
// such a method.
func TestARefusalTellsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var denied []event.AccessDenied
		w := start(t, ruled(t, &denied, []access.Rule{{Type: "Thing", Method: "/Read|Change/", Access: access.Allow}, {Access: access.Internal}}))
		for _, target := range []string{"Nothing/1.M", "Thing/1.Nothing", "Thing/1.Other"} {
			_, err := w.call(byClient(), target)
			isFault(t, err, fault.Forbidden, fault.NotExecuted)
		}
		_, err := w.call(bg, "Thing/1.Nothing")
		isFault(t, err, fault.UnknownMethod, fault.NotExecuted)
	})
}

// Sends go out for the object that makes them, also when they are delivered much later.
func TestASendIsTheObjects(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var denied []event.AccessDenied
		w := start(t, kept, ruled(t, &denied, []access.Rule{{ID: "in", Access: access.Internal}}))
		var who callctx.Caller
		for _, from := range []string{"Kept/a.Change", "Thing/a.Change"} {
			_, err := w.call(byClient(), from, w.sends("Kept/in.Change"))
			w.must(err)
			w.settleSends()
		}
		w.want(bg, "Kept/in.Read", 2)
		_, err := w.call(byClient(), "Kept/a.Change", func(ctx context.Context, _ *Thing) error {
			who = callctx.From(ctx).Caller
			return nil
		})
		w.must(err)
		if !who.Client || who.UserID != "ann" || len(denied) > 0 {
			t.Errorf("%+v, %v", who, denied)
		}
	})
}

// The record of a call id may hold the reply of a method that is not for clients.
func TestAClientSettlesOnlyWhereAllMethodsAreForIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		settle := func(w *world, ctx context.Context, ref object.Ref) error {
			_, err := w.ServeCall(ctx, &peer.Request{Call: object.Call{Op: object.OpSettle, Ref: ref, ID: "id-1"}})
			return err
		}
		var denied []event.AccessDenied
		w := start(t, kept, ruled(t, &denied, []access.Rule{{ID: "shut", Method: "Change", Access: access.Internal}}))
		isFault(t, settle(w, byClient(), object.Ref{Type: "Kept", ID: "shut"}), fault.Forbidden, fault.NotExecuted)
		if len(denied) != 1 || denied[0].Why != event.ByRule {
			t.Error(denied)
		}
		isFault(t, settle(w, byClient(), object.Ref{Type: "Kept", ID: "open"}), fault.CallSettled, fault.NotExecuted)
		isFault(t, settle(w, bg, object.Ref{Type: "Kept", ID: "shut"}), fault.CallSettled, fault.NotExecuted)

		w = start(t, kept, object.InternalMethods("Other"))
		isFault(t, settle(w, byClient(), object.Ref{Type: "Kept", ID: "open"}), fault.Forbidden, fault.NotExecuted)
	})
}

// The methods of a call chain, and those of what they send, know who asked first.
func TestTheUserGoesDownTheChain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, kept)
		see := func(ctx context.Context, o *Thing) error {
			if c := callctx.From(ctx).Caller; c.UserID != "ann" || len(c.Roles) != 1 || c.Roles[0] != "admin" || c.ClientID != "g:1/c" {
				t.Errorf("%s sees %+v", o.Id(), c)
			}
			o.N++
			return nil
		}
		_, err := w.call(byClient(), "Kept/a.Change", func(ctx context.Context, o *Thing) error {
			w.must(see(ctx, o))
			_, err := w.call(ctx, "Kept/b.Change", func(ctx context.Context, o *Thing) error {
				w.must(see(ctx, o))
				_, err := w.call(ctx, "Thing/c.Change", see)
				return err
			})
			return err
		})
		w.must(err)
		w.want(bg, "Kept/b.Read", 1)
		w.want(bg, "Thing/c.Read", 1)
	})
}
