package fault

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"
	"time"
)

func TestText(t *testing.T) {
	for want, e := range map[string]*Error{
		"invalid: no method":                                   New(Invalid, "no %s", "method"),
		"CallObject Room/a.Join: invalid: x":                   New(Invalid, "x").On("CallObject", "Room/a.Join"),
		"CallObject Room/a.Join: wrong holder: s":              New(WrongHolder, "s").On("CallObject", "Room/a.Join").On("later", "more"),
		"cycle: A/1.M -> B/2.N -> A/1.M":                       {Kind: Cycle, Path: []string{"A/1.M", "B/2.N", "A/1.M"}},
		"DeleteObject: not ready":                              (&Error{Kind: NotReady}).On("DeleteObject", ""),
		"outcome unknown":                                      {},
		"deadline exceeded: queued: context deadline exceeded": WaitedFor(context.DeadlineExceeded, "queued"),
	} {
		if e.Error() != want {
			t.Errorf("got %q, want %q", e, want)
		}
	}
}

// The sentinel of a kind is a bare error of it.
func TestSentinels(t *testing.T) {
	for _, row := range Table() {
		err := fmt.Errorf("around: %w", New(row.Kind, "x").On("CallObject", "A/1.M"))
		for _, other := range Table() {
			if errors.Is(err, &Error{Kind: other.Kind}) != (other.Kind == row.Kind) {
				t.Errorf("%v and the sentinel of %v", err, other.Kind)
			}
		}
		if errors.Is(err, New(row.Kind, "another")) {
			t.Error("two errors of a kind are not the same error")
		}
	}
	if err := New(Failed, "reading: %w", io.EOF); !errors.Is(err, io.EOF) {
		t.Error("the cause is hidden")
	}
}

func TestOf(t *testing.T) {
	own := New(Cycle, "x")
	for _, c := range []struct {
		err     error
		kind    Kind
		outcome Outcome
	}{
		{nil, 0, Executed},
		{own, Cycle, NotExecuted},
		{fmt.Errorf("around: %w", own), Cycle, NotExecuted},
		{io.EOF, Failed, Executed},
		{context.Canceled, Canceled, OutcomeUnknown},
		{fmt.Errorf("around: %w", context.DeadlineExceeded), Deadline, OutcomeUnknown},
		{New(Failed, "mine: %w", context.Canceled), Failed, Executed}, // a method's own word goes first
		{New(StoreFailed, "x").With(NotExecuted), StoreFailed, NotExecuted},
		{New(Invalid, "x").With(OutcomeUnknown), Invalid, OutcomeUnknown},
		{New(TooLarge, "x").With(Executed), TooLarge, Executed},
	} {
		if KindOf(c.err) != c.kind || OutcomeOf(c.err) != c.outcome {
			t.Errorf("%v: got %v, %v, want %v, %v", c.err, KindOf(c.err), OutcomeOf(c.err), c.kind, c.outcome)
		}
		if e := Of(c.err); c.err != nil && !errors.Is(e, c.err) && !errors.Is(c.err, e) {
			t.Errorf("Of(%v) lost it: %v", c.err, e)
		}
	}
	if Of(own) != own {
		t.Error("Of made a copy")
	}
}

// A wait that a context ends did not run, whoever ended it.
func TestWaited(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	late, stop := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
	defer stop()
	for ctx, want := range map[context.Context]Kind{ctx: Canceled, late: Deadline} {
		err := Waited(ctx, "for turn %d", 7)
		if KindOf(err) != want || OutcomeOf(err) != NotExecuted || !errors.Is(err, ctx.Err()) {
			t.Errorf("got %v, %v", err, OutcomeOf(err))
		}
	}
}
