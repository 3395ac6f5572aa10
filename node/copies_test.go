package node

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"

	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/xiaonanln/goverse/internal/event"
	"github.com/xiaonanln/goverse/object"
)

// Hoarder keeps the messages of its calls, and changes them later on.
type Hoarder struct {
	object.BaseObject
	kept *wrapperspb.StringValue
}

type text = wrapperspb.StringValue

// Keep keeps its request.
func (h *Hoarder) Keep(_ context.Context, req *text) (*text, error) {
	h.kept = req
	return &text{}, nil
}

// Spoil changes what it has kept.
func (h *Hoarder) Spoil(context.Context, *text) (*text, error) {
	h.kept.Value += " spoiled"
	return &text{}, nil
}

// Trim changes its request at once.
func (h *Hoarder) Trim(_ context.Context, req *text) (*text, error) {
	req.Value = strings.TrimSpace(req.Value)
	return wrapperspb.String(req.Value), nil
}

// Show returns what it has kept, and keeps it.
func (h *Hoarder) Show(context.Context, *text) (*text, error) { return h.kept, nil }

// Ask has another one keep what it keeps itself.
func (h *Hoarder) Ask(ctx context.Context, to *text) (*text, error) {
	h.kept = wrapperspb.String("asked")
	return h.out(ctx, to, "Keep", h.kept)
}

// Take keeps what another one shows.
func (h *Hoarder) Take(ctx context.Context, from *text) (reply *text, err error) {
	h.kept, err = h.out(ctx, from, "Show", nil)
	return &text{}, err
}

// Twice sends one message two times, and another text each time.
func (h *Hoarder) Twice(ctx context.Context, to *text) (*text, error) {
	req := wrapperspb.String("first")
	if _, err := h.out(ctx, to, "Show", req); err != nil {
		return nil, err
	}
	req.Value = "second"
	return h.out(ctx, to, "Show", req)
}

func (h *Hoarder) out(ctx context.Context, to *text, method string, req *text) (*text, error) {
	rt, _ := object.RuntimeFrom(ctx)
	reply, err := rt.Call(ctx, object.Call{Ref: object.Ref{Type: "Hoarder", ID: to.Value}, Method: method, Payload: object.OfMessage(req)})
	if err != nil {
		return nil, err
	}
	return reply.Message.(*text), nil
}

// hoarders is a node of them, and what it says of changed messages.
func hoarders(t *testing.T, copying bool, opts ...object.TypeOption) (w *world, do func(target, text string) string, changes func() string) {
	var heard []string
	w = start(t, func(w *world, c *Config) {
		c.CopyMessages = copying
		c.Listener.MessageChanged = func(e event.MessageChanged) { heard = append(heard, e.String()) }
		w.must(w.types.Register((*Hoarder)(nil), append(opts, object.ReadOnlyMethods("Show"))...))
	})
	do = func(target, req string) string {
		t.Helper()
		ref, method := w.parse("Hoarder/" + target)
		reply, err := w.send(bg, object.Call{Ref: ref, Method: method, Payload: object.OfMessage(wrapperspb.String(req))})
		w.must(err)
		return reply.Message.(*text).Value
	}
	return w, do, func() string {
		all := strings.Join(heard, "\n")
		heard = nil
		return all
	}
}

func TestMessagesAreSharedOrCopied(t *testing.T) {
	for _, copying := range []bool{false, true} {
		name := map[bool]string{false: "shared", true: "copied"}[copying]
		bubble(t, name, func(t *testing.T) {
			w, do, _ := hoarders(t, copying)
			other := func(shared, copied string) string {
				if copying {
					return copied
				}
				return shared
			}
			want := func(what, got, want string) {
				t.Helper()
				if got != want {
					t.Errorf("%s: %q, want %q", what, got, want)
				}
			}
			mine := wrapperspb.String("mine")
			keep := func() {
				t.Helper()
				_, err := w.send(bg, object.Call{Ref: object.Ref{Type: "Hoarder", ID: "a"}, Method: "Keep", Payload: object.OfMessage(mine)})
				w.must(err)
			}
			keep()
			do("a.Spoil", "")
			want("what the caller sent", mine.Value, other("mine spoiled", "mine"))
			keep()
			mine.Value = "changed by its caller"
			want("what the object keeps", do("a.Show", ""), other("changed by its caller", "mine"))

			do("b.Take", "a")
			do("b.Spoil", "")
			want("what the callee returned", do("a.Show", ""), other("changed by its caller spoiled", "mine"))
			do("c.Ask", "a")
			do("c.Spoil", "")
			want("what an object sent", do("a.Show", ""), other("asked spoiled", "asked"))
		})
	}
}

func TestChangedMessagesAreFound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, do, changes := hoarders(t, true)
		want := func(says ...string) {
			t.Helper()
			got := changes()
			if len(says) == 0 && got != "" || strings.Count(got, "changed") != min(1, len(says)) {
				t.Errorf("said: %q; want %v", got, says)
			}
			for _, s := range says {
				if !strings.Contains(got, s) {
					t.Errorf("%q does not say %q", got, s)
				}
			}
		}
		do("a.Keep", "x")
		want()
		do("a.Show", "") // gives what it got
		want()
		do("a.Spoil", "")
		want("Hoarder/a changed", "Show gave", "google.protobuf.StringValue", "noticed at Spoil")
		do("a.Keep", "x")
		do("a.Spoil", "")
		want("Keep got", "noticed at Spoil")
		do("a.Spoil", "") // was said
		want()
		do("a.Trim", " x ")
		want("Trim got", "noticed at Trim")
		do("b.Ask", "a")
		want()
		do("b.Spoil", "")
		want("Hoarder/b changed", "it sent to Hoarder/a.Keep", "noticed at Spoil")
		do("b.Take", "a")
		do("b.Spoil", "")
		want("it got from Hoarder/a.Show", "noticed at Spoil")
		do("b.Twice", "a")
		want("it sent to Hoarder/a.Show", "noticed at Hoarder/a.Show")
	})
}

// What is found belongs to an activation, and goes with it; it is bounded.
func TestSightingsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, do, changes := hoarders(t, true)
		do("a.Keep", "x")
		for range 10 * maxSightings {
			do("a.Keep", "y")
		}
		w.copies.mu.Lock()
		for _, seen := range w.copies.seen {
			if len(seen) > maxSightings {
				t.Error(len(seen), "messages are held for an object")
			}
		}
		w.copies.mu.Unlock()
		w.must(w.delete(bg, "Hoarder/a"))
		w.copies.mu.Lock()
		if n := len(w.copies.seen); n != 0 {
			t.Error(n, "objects are held that have ended")
		}
		w.copies.mu.Unlock()
		if got := changes(); got != "" {
			t.Error(got)
		}
	})
}

// Methods of a Concurrent object run in the midst of each other's messages: they are
// isolated, and not looked at.
func TestConcurrentObjectsAreNotLookedAt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, do, changes := hoarders(t, true, object.WithMode(object.Concurrent))
		do("a.Keep", "x")
		do("a.Spoil", "")
		do("a.Trim", " x")
		if got := changes(); got != "" {
			t.Error(got)
		}
	})
}

// Two who make the same call with an id share nothing either.
func TestAReplyWithAnIDIsCopiedForEach(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, kept, func(_ *world, c *Config) { c.CopyMessages = true })
		call := object.Call{Ref: object.Ref{Type: "Kept", ID: "x"}, Method: "Change", ID: "once"}
		wait := newBlock()
		first := make(chan *wrapperspb.Int64Value, 2)
		make1 := func(ctx context.Context) {
			reply, err := w.send(ctx, call)
			w.must(err)
			first <- reply.Message.(*wrapperspb.Int64Value)
		}
		go make1(context.WithValue(bg, scriptKey{"Kept", "x", "Change"}, script(wait.run)))
		<-wait.entered
		go make1(bg)
		synctest.Wait()
		close(wait.let)
		a, b := <-first, <-first
		if a == b || a.Value != 1 || b.Value != 1 {
			t.Error("they share the reply, or it differs:", a, b)
		}
	})
}
