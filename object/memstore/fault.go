package memstore

import (
	"bytes"
	"context"
	"fmt"
	"slices"

	"github.com/xiaonanln/goverse/object"
)

// OpKind names an operation of the store.
type OpKind string

// The operations that a fault can be planned for.
const (
	Stamp          OpKind = "Stamp"
	Load           OpKind = "Load"
	Commit         OpKind = "Commit" // CommitWith too
	SaveObject     OpKind = "SaveObject"
	DeleteObject   OpKind = "DeleteObject"
	FindCall       OpKind = "FindCall"
	RecentCalls    OpKind = "RecentCalls"
	PendingEffects OpKind = "PendingEffects"
	EndEffects     OpKind = "EndEffects"
	CollectCalls   OpKind = "CollectCalls"
	Confirm        OpKind = "Confirm"
	List           OpKind = "List"
	History        OpKind = "History" // AdoptHistory too
)

// Op is one operation, as a fault plan sees it: read it, do not keep or change it.
type Op struct {
	Kind   OpKind
	Owner  string         // Stamp, Commit and Confirm
	Fences []object.Fence // Stamp, Confirm, EndEffects and CollectCalls
	Saves  []object.Save  // Commit
	Shard  int            // PendingEffects
	Ref    object.Ref     // the other kinds; LoadObject is a Load, List has the type alone
}

// clone returns a copy that shares no buffer with the caller.
func (o Op) clone() Op {
	o.Saves = slices.Clone(o.Saves)
	for i := range o.Saves {
		s := &o.Saves[i]
		s.Data = bytes.Clone(s.Data)
		s.Calls, s.Effects = slices.Clone(s.Calls), slices.Clone(s.Effects)
		for i := range s.Calls {
			s.Calls[i].Result = bytes.Clone(s.Calls[i].Result)
		}
		for i := range s.Effects {
			s.Effects[i].Payload = bytes.Clone(s.Effects[i].Payload)
		}
	}
	return o
}

// Fault is what goes wrong with one operation; the zero Fault is nothing.
type Fault struct {
	// Wait delays the operation until the channel is closed. If the operation's
	// context ends before, nothing happens and its error is returned, for a Commit
	// together with object.ErrNotCommitted. In a synctest bubble, make the channel there.
	Wait <-chan struct{}
	// Err is answered instead of a result. A Commit surely did not happen if it
	// wraps object.ErrNotCommitted; else its outcome is unknown to the caller.
	Err error
	// Applied: with Err, the operation takes effect all the same: only the answer is lost.
	Applied bool
	// Held: with Err, a Commit takes effect later, when Land is called.
	Held bool
}

// Fail plans faults: f is asked before each operation what goes wrong with it. Nil
// ends all faults. f may be called concurrently, and may use the store.
func (s *Store) Fail(f func(Op) Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.plan = f
}

// Land applies the commits that were Held, in their order, and returns what the
// store made of each: the late arrival that nobody waits for any more.
func (s *Store) Land() [][]object.Verdict {
	s.mu.Lock()
	defer s.mu.Unlock()
	var landed [][]object.Verdict
	for _, h := range s.held {
		landed = append(landed, s.commitLocked(h.Op, h.then))
	}
	s.held = nil
	return landed
}

// begin asks the plan and waits as it says. A store that was put back to a snapshot
// does nothing before that is adopted.
func (s *Store) begin(ctx context.Context, op Op) (Fault, error) {
	s.mu.Lock()
	plan := s.plan
	s.mu.Unlock()
	var f Fault
	if plan != nil {
		f = plan(op)
	}
	if f.Wait != nil {
		select {
		case <-f.Wait:
		case <-ctx.Done():
		}
	}
	err := ctx.Err()
	if err == nil && op.Kind != History {
		err = s.astray()
	}
	if err != nil && op.Kind == Commit {
		err = fmt.Errorf("%w: %w", object.ErrNotCommitted, err)
	}
	return f, err
}
