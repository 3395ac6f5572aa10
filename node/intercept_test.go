package node

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/xiaonanln/goverse/internal/callctx"
	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/object"
)

// around gives the node interceptors.
func around(all ...object.Interceptor) setup {
	return func(_ *world, c *Config) { c.Interceptors = append(c.Interceptors, all...) }
}

// doing is an interceptor that does what the test says, and goes on where it says nothing.
type doing struct {
	now atomic.Pointer[object.Interceptor]
}

func (d *doing) set(f object.Interceptor) { d.now.Store(&f) }

func (d *doing) run(ctx context.Context, call *object.CallInfo, req proto.Message, next object.Next) (proto.Message, error) {
	if f := d.now.Load(); f != nil && *f != nil {
		return (*f)(ctx, call, req, next)
	}
	return next(ctx, req)
}

func TestInterceptorsSeeTheCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var seen []string
		named := func(name string) object.Interceptor {
			return func(ctx context.Context, call *object.CallInfo, req proto.Message, next object.Next) (proto.Message, error) {
				seen = append(seen, fmt.Sprintf("%s(%v.%s id=%q read=%v by %s %s %v in %v)", name, call.Ref, call.Method, call.CallID, call.ReadOnly, call.ClientID, call.UserID, call.Roles, call.Chain))
				reply, err := next(ctx, req)
				seen = append(seen, fmt.Sprintf("%s=%v,%v", name, reply.(*wrapperspb.Int64Value).GetValue(), err))
				return reply, err
			}
		}
		w := start(t, kept, around(named("first"), named("second")), object.Intercept(named("third")))
		ctx := callctx.With(bg, &callctx.Info{Caller: callctx.Caller{ClientID: "g:1/c", UserID: "ann", Roles: []string{"admin"}, Client: true}})
		_, err := w.call(ctx, "Kept/a.Change", func(ctx context.Context, o *Thing) error {
			o.N = 5
			_, err := w.call(ctx, "Kept/b.Read")
			return err
		})
		w.must(err)
		by := " by g:1/c ann [admin] in "
		outer, inner := `(Kept/a.Change id="" read=false`+by+`[])`, `(Kept/b.Read id="" read=true`+by+`[Kept/a.Change])`
		want := []string{"first" + outer, "second" + outer, "third" + outer, "first" + inner, "second" + inner, "third" + inner,
			"third=0,<nil>", "second=0,<nil>", "first=0,<nil>", "third=5,<nil>", "second=5,<nil>", "first=5,<nil>"}
		if !slices.Equal(seen, want) {
			t.Errorf("seen:\n%s\nwant:\n%s", strings.Join(seen, "\n"), strings.Join(want, "\n"))
		}
		seen = nil
		_, err = w.once(bg, "id-1", "Kept/a.Change")
		w.must(err)
		if !strings.Contains(seen[0], `id="id-1"`) {
			t.Error(seen)
		}
	})
}

// Taker tells what request it got.
type Taker struct{ object.BaseObject }

func (*Taker) Take(_ context.Context, req *wrapperspb.StringValue) (*wrapperspb.StringValue, error) {
	if req.Value == "fail" {
		return nil, errUser
	}
	return wrapperspb.String("took " + req.Value), nil
}

func TestInterceptorsReplace(t *testing.T) {
	own := errors.New("the interceptor's own error")
	for name, c := range map[string]struct {
		do      object.Interceptor
		want    string
		fails   error
		kind    fault.Kind
		outcome fault.Outcome
	}{
		"nothing": {do: nil, want: "took req"},
		"the request": {want: "took other", do: func(ctx context.Context, _ *object.CallInfo, _ proto.Message, next object.Next) (proto.Message, error) {
			return next(ctx, wrapperspb.String("other"))
		}},
		"the context": {want: "took req", do: func(ctx context.Context, _ *object.CallInfo, req proto.Message, next object.Next) (proto.Message, error) {
			ctx, cancel := context.WithCancel(ctx)
			defer cancel()
			return next(ctx, req)
		}},
		"the reply": {want: "reply", do: func(ctx context.Context, _ *object.CallInfo, req proto.Message, next object.Next) (proto.Message, error) {
			_, err := next(ctx, req)
			return wrapperspb.String("reply"), err
		}},
		"the method": {want: "instead", do: func(context.Context, *object.CallInfo, proto.Message, object.Next) (proto.Message, error) {
			return wrapperspb.String("instead"), nil
		}},
		"the error": {fails: own, kind: fault.Failed, outcome: fault.Executed, do: func(ctx context.Context, _ *object.CallInfo, _ proto.Message, next object.Next) (proto.Message, error) {
			_, err := next(ctx, wrapperspb.String("fail"))
			if err != errUser {
				t.Errorf("it got %v, not the method's own error", err)
			}
			return nil, own
		}},
		"a reply by an error": {fails: own, kind: fault.Failed, outcome: fault.Executed, do: func(ctx context.Context, _ *object.CallInfo, req proto.Message, next object.Next) (proto.Message, error) {
			_, err := next(ctx, req)
			return nil, errors.Join(own, err)
		}},
		"an error by a reply": {want: "all is well", do: func(ctx context.Context, _ *object.CallInfo, _ proto.Message, next object.Next) (proto.Message, error) {
			_, _ = next(ctx, wrapperspb.String("fail"))
			return wrapperspb.String("all is well"), nil
		}},
		"a refusal": {fails: own, kind: fault.Failed, outcome: fault.NotExecuted, do: func(context.Context, *object.CallInfo, proto.Message, object.Next) (proto.Message, error) {
			return nil, own
		}},
		"a refusal with its kind": {fails: &fault.Error{Kind: fault.Forbidden}, kind: fault.Forbidden, outcome: fault.NotExecuted, do: func(context.Context, *object.CallInfo, proto.Message, object.Next) (proto.Message, error) {
			return nil, fmt.Errorf("not you: %w", &fault.Error{Kind: fault.Forbidden})
		}},
		"a refusal by another call's fault": {kind: fault.Failed, outcome: fault.NotExecuted, do: func(context.Context, *object.CallInfo, proto.Message, object.Next) (proto.Message, error) {
			return nil, fault.New(fault.NotFound, "nobody").On("CallObject", "User/ann.Roles")
		}},
		"an end of its time": {kind: fault.Deadline, outcome: fault.NotExecuted, do: func(context.Context, *object.CallInfo, proto.Message, object.Next) (proto.Message, error) {
			return nil, context.DeadlineExceeded
		}},
		"nothing at all": {kind: fault.Failed, outcome: fault.NotExecuted, do: func(context.Context, *object.CallInfo, proto.Message, object.Next) (proto.Message, error) {
			return (*wrapperspb.StringValue)(nil), nil
		}},
		"a reply by nothing": {kind: fault.Failed, outcome: fault.Executed, do: func(ctx context.Context, _ *object.CallInfo, req proto.Message, next object.Next) (proto.Message, error) {
			_, err := next(ctx, req)
			return nil, err
		}},
		"the request's type": {kind: fault.Invalid, outcome: fault.NotExecuted, do: func(ctx context.Context, _ *object.CallInfo, _ proto.Message, next object.Next) (proto.Message, error) {
			return next(ctx, wrapperspb.Int64(1))
		}},
		"no request": {kind: fault.Invalid, outcome: fault.NotExecuted, do: func(ctx context.Context, _ *object.CallInfo, _ proto.Message, next object.Next) (proto.Message, error) {
			return next(ctx, nil)
		}},
		"a context that is not its own": {kind: fault.Invalid, outcome: fault.NotExecuted, do: func(_ context.Context, _ *object.CallInfo, req proto.Message, next object.Next) (proto.Message, error) {
			return next(bg, req)
		}},
		"once more": {kind: fault.Failed, outcome: fault.Executed, do: func(ctx context.Context, _ *object.CallInfo, req proto.Message, next object.Next) (proto.Message, error) {
			_, _ = next(ctx, req)
			return next(ctx, req)
		}},
	} {
		bubble(t, name, func(t *testing.T) {
			var d doing
			d.set(c.do)
			w := start(t, around(d.run), func(w *world, _ *Config) { w.must(w.types.Register((*Taker)(nil))) })
			reply, err := w.send(bg, object.Call{Ref: object.Ref{Type: "Taker", ID: "x"}, Method: "Take", Payload: object.OfMessage(wrapperspb.String("req"))})
			if c.kind != 0 {
				isFault(t, err, c.kind, c.outcome)
				if c.fails != nil && !errors.Is(err, c.fails) {
					t.Errorf("%v is not %v", err, c.fails)
				}
				return
			}
			w.must(err)
			if got := reply.Message.(*wrapperspb.StringValue).Value; got != c.want {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
}

func TestARefusedCallLeavesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var d doing
		w := start(t, kept, around(d.run))
		refuse := func(context.Context, *object.CallInfo, proto.Message, object.Next) (proto.Message, error) {
			return nil, errUser
		}
		d.set(refuse)
		_, err := w.call(bg, "Kept/x.Change")
		isFault(t, err, fault.Failed, fault.NotExecuted)
		if r := w.stored("Kept/x"); r.Data != nil {
			t.Errorf("an object was stored of which no method ran: %s", r.Data)
		}
		// What ran within the refusing interceptor is kept all the same.
		d.set(func(ctx context.Context, call *object.CallInfo, req proto.Message, next object.Next) (proto.Message, error) {
			if call.Method == "Other" {
				return next(ctx, req)
			}
			_, err := w.call(ctx, "Kept/x.Other", func(_ context.Context, o *Thing) error { o.N = 9; return nil })
			return nil, errors.Join(errUser, err)
		})
		_, err = w.call(bg, "Kept/x.Change")
		isFault(t, err, fault.Failed, fault.NotExecuted)
		w.wantStored("Kept/x", 9, 1)
	})
}

func TestPanicsInInterceptors(t *testing.T) {
	blow := func(context.Context, *object.CallInfo, proto.Message, object.Next) (proto.Message, error) {
		panic("oh")
	}
	after := func(ctx context.Context, _ *object.CallInfo, req proto.Message, next object.Next) (proto.Message, error) {
		_, _ = next(ctx, req)
		panic("oh")
	}
	for name, do := range map[string]object.Interceptor{"before": blow, "after": after} {
		bubble(t, name, func(t *testing.T) {
			var d doing
			w := start(t, kept, around(d.run))
			w.want(bg, "Kept/x.Change", 1)
			d.set(do)
			_, err := w.call(bg, "Kept/x.Change")
			isFault(t, err, fault.Panicked, fault.Executed)
			d.set(nil)
			w.want(bg, "Kept/x.Change", 2) // loaded anew
			if said := w.said(); strings.Count(said, "panic x.Change: oh") != 1 {
				t.Error(said)
			}
		})
	}
	bubble(t, "of the method", func(t *testing.T) {
		var got error
		w := start(t, kept, around(func(ctx context.Context, _ *object.CallInfo, req proto.Message, next object.Next) (proto.Message, error) {
			var reply proto.Message
			if reply, got = next(ctx, req); got != nil {
				return wrapperspb.Int64(0), nil // it hides it
			}
			return reply, nil
		}))
		_, err := w.call(bg, "Kept/x.Change", func(context.Context, *Thing) error { panic("oh") })
		isFault(t, err, fault.Panicked, fault.Executed)
		isFault(t, got, fault.Panicked, fault.Executed)
		w.want(bg, "Kept/x.Change", 1)
	})
	for _, where := range []string{"interceptor", "method"} {
		bubble(t, "exit of the "+where, func(t *testing.T) {
			var d doing
			w := start(t, kept, around(d.run))
			exits := func(context.Context, *Thing) error { runtime.Goexit(); return nil }
			if where == "interceptor" {
				d.set(func(context.Context, *object.CallInfo, proto.Message, object.Next) (proto.Message, error) {
					runtime.Goexit()
					return nil, nil
				})
			}
			gone := make(chan struct{})
			go func() {
				defer close(gone)
				w.call(bg, "Kept/x.Change", exits)
			}()
			<-gone
			d.set(nil)
			w.want(bg, "Kept/x.Change", 1)
		})
	}
}

// A method runs on its turn, whatever its interceptors do.
func TestAMethodThatItsInterceptorLeftBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var late error
		b := newBlock()
		left, letLate := make(chan struct{}), make(chan struct{})
		var d doing
		d.set(func(ctx context.Context, _ *object.CallInfo, req proto.Message, next object.Next) (proto.Message, error) {
			go func() { _, _ = next(ctx, req); close(left) }()
			<-b.entered
			go func() { <-letLate; _, late = next(ctx, req) }()
			return wrapperspb.Int64(77), nil
		})
		w := start(t, kept, around(d.run))
		first := w.start(bg, "Kept/x.Change", b.run)
		<-b.entered
		second := w.start(bg, "Kept/x.Other")
		if !first.running() || !second.running() {
			t.Error("the turn was given up while the method ran")
		}
		d.set(nil)
		close(b.let)
		if n, err := first.wait(); n != 77 || err != nil {
			t.Error(n, err)
		}
		<-left
		second.wait()
		close(letLate)
		synctest.Wait()
		isFault(t, late, fault.Invalid, fault.NotExecuted)
		w.want(bg, "Kept/x.Read", 1)
	})
}

// Nor does an object begin anew beside a method of its own, when the interceptor panics
// or ends its goroutine.
func TestAMethodThatAPanicLeftBehind(t *testing.T) {
	for name, end := range map[string]func(){"panic": func() { panic("oh") }, "exit": runtime.Goexit} {
		bubble(t, name, func(t *testing.T) {
			var d doing
			b := newBlock()
			d.set(func(ctx context.Context, _ *object.CallInfo, req proto.Message, next object.Next) (proto.Message, error) {
				go next(ctx, req)
				<-b.entered
				end()
				return nil, nil
			})
			w := start(t, kept, around(d.run))
			first := w.start(bg, "Kept/x.Change", b.run)
			<-b.entered
			d.set(nil)
			second := w.start(bg, "Kept/x.Change")
			if !first.running() || !second.running() {
				t.Error("the turn was given up while the method ran")
			}
			close(b.let)
			if _, err := first.wait(); name == "panic" {
				isFault(t, err, fault.Panicked, fault.Executed)
			}
			if n, err := second.wait(); n != 1 || err != nil {
				t.Error(n, err)
			}
		})
	}
}

func TestInterceptorsAndCallIDs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var d doing
		var asked int
		w := start(t, kept, around(d.run))
		d.set(func(context.Context, *object.CallInfo, proto.Message, object.Next) (proto.Message, error) {
			asked++
			return nil, errUser
		})
		for range 2 { // refused each time: there is no record
			_, err := w.once(bg, "a", "Kept/x.Change")
			isFault(t, err, fault.Failed, fault.NotExecuted)
		}
		if asked != 2 {
			t.Errorf("asked %d times; want 2", asked)
		}
		d.set(func(context.Context, *object.CallInfo, proto.Message, object.Next) (proto.Message, error) {
			return wrapperspb.Int64(50), nil
		})
		w.wantOnce("a", "Kept/x.Change", 50) // from elsewhere; also not recorded
		d.set(nil)
		w.wantOnce("a", "Kept/x.Change", 1)
		d.set(func(ctx context.Context, _ *object.CallInfo, req proto.Message, next object.Next) (proto.Message, error) {
			asked++
			_, err := next(ctx, req)
			return wrapperspb.Int64(60), err
		})
		w.wantOnce("a", "Kept/x.Change", 1) // by its record
		w.wantOnce("b", "Kept/x.Change", 60)
		d.set(nil)
		w.wantOnce("b", "Kept/x.Change", 60) // what the caller was told
		w.endActivations()
		w.wantOnce("b", "Kept/x.Change", 60)
		w.want(bg, "Kept/x.Read", 2)
		if asked != 3 {
			t.Errorf("interceptors ran %d times; want 3: a record runs none", asked)
		}

		d.set(func(context.Context, *object.CallInfo, proto.Message, object.Next) (proto.Message, error) {
			return wrapperspb.Int64(70), nil
		})
		w.wantOnce("c", "Kept/x.Change", 70)
		_, err := w.send(bg, object.Call{Op: object.OpSettle, Ref: object.Ref{Type: "Kept", ID: "x"}, ID: "c"})
		isFault(t, err, fault.CallSettled, fault.NotExecuted) // it never ran
	})
}

// Whoever joins a call that an interceptor refuses asks the interceptor himself.
func TestWhoJoinsARefusedCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var d doing
		w := start(t, kept, around(d.run))
		entered, let := make(chan struct{}), make(chan struct{})
		d.set(func(context.Context, *object.CallInfo, proto.Message, object.Next) (proto.Message, error) {
			close(entered)
			<-let
			return nil, errUser
		})
		first := begin(func() (int64, error) { return w.once(bg, "a", "Kept/x.Change") })
		<-entered
		second := begin(func() (int64, error) { return w.once(bg, "a", "Kept/x.Change") })
		synctest.Wait()
		d.set(nil)
		close(let)
		_, err := first.wait()
		isFault(t, err, fault.Failed, fault.NotExecuted)
		if n, err := second.wait(); n != 1 || err != nil {
			t.Error(n, err)
		}
	})
}

// A call out of a method with an id that is refused surely did not run: the method's end
// counts.
func TestARefusedCallOutOfAnIDedMethod(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, kept, around(func(ctx context.Context, call *object.CallInfo, req proto.Message, next object.Next) (proto.Message, error) {
			if call.Ref.ID == "b" {
				return nil, errUser
			}
			return next(ctx, req)
		}))
		calls := func(ctx context.Context, o *Thing) error {
			o.N = 3
			if _, err := w.call(ctx, "Kept/b.Change"); fault.OutcomeOf(err) != fault.NotExecuted {
				t.Error(err)
			}
			return nil
		}
		if n, err := w.once(bg, "a", "Kept/a.Change", calls); n != 3 || err != nil {
			t.Error(n, err)
		}
		w.wantStored("Kept/a", 3, 1)
	})
}

func TestAHiddenErrorIsUndone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, kept, tried(object.Durable), around(func(ctx context.Context, _ *object.CallInfo, req proto.Message, next object.Next) (proto.Message, error) {
			reply, err := next(ctx, req)
			if err != nil {
				return wrapperspb.Int64(-1), nil
			}
			return reply, nil
		}))
		if n, err := w.call(bg, "Tried/x.Change", func(_ context.Context, o *Thing) error { o.N = 100; return errUser }); n != -1 || err != nil {
			t.Error(n, err)
		}
		w.want(bg, "Tried/x.Read", 0)
	})
}

// Interceptors are where the object is: each method that runs has them around it once,
// while its shard moves.
func TestInterceptorsWhileAShardMoves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ran, methods atomic.Int64
		f := startFleet(t, 2, shared(), around(func(ctx context.Context, call *object.CallInfo, req proto.Message, next object.Next) (proto.Message, error) {
			ran.Add(1)
			return next(ctx, req)
		}))
		var callers sync.WaitGroup
		for range 4 {
			callers.Go(func() {
				for range 25 {
					if _, err := f.call(bg, x5+".Change", func(_ context.Context, o *Thing) error { o.N++; methods.Add(1); return nil }); err != nil {
						t.Error(err)
					}
				}
			})
		}
		for i := range 4 {
			f.move(5, (i+1)%2)
		}
		callers.Wait()
		f.want(x5+".Read", 100)
		if ran.Load() != 101 || methods.Load() != 100 {
			t.Errorf("%d interceptors around %d methods", ran.Load(), methods.Load())
		}
	})
}
