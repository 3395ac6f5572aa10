package logbook

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/xiaonanln/goverse/object"
)

// Ledger notes, beside the logs, what really ran: which entries, and whether two
// activations of one object ever ran at once. It serves tests whose nodes are all in
// this process.
type Ledger struct {
	mu       sync.Mutex // protects following fields
	inside   map[string]map[*log]int
	executed map[string]int // by log and entry
	dead     map[any]bool   // places that were killed: what they still do is nobody's
	problems []string
}

// NewLedger returns an empty ledger.
func NewLedger() *Ledger {
	return &Ledger{inside: map[string]map[*log]int{}, executed: map[string]int{}, dead: map[any]bool{}}
}

// ledgers is the ledger of each node of this process; without one nothing is noted.
var ledgers sync.Map // object.Runtime → *Ledger

// Watch notes in l what happens on the node whose runtime ctx carries, until the
// returned function is called.
func (l *Ledger) Watch(ctx context.Context) (stop func()) {
	rt, ok := object.RuntimeFrom(ctx)
	if !ok {
		panic("logbook: the context carries no runtime")
	}
	ledgers.Store(rt, l)
	return func() { ledgers.Delete(rt) }
}

func ledgerOf(ctx context.Context) (*Ledger, any) {
	rt, _ := object.RuntimeFrom(ctx)
	if l, ok := ledgers.Load(rt); ok {
		return l.(*Ledger), rt
	}
	return nil, rt
}

// Killed says that nothing counts any more that still happens on a node.
func (l *Ledger) Killed(ctx context.Context) {
	rt, _ := object.RuntimeFrom(ctx)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.dead[rt] = true
}

// enter notes that a method runs, and fails if another one does, here or elsewhere.
func (l *Ledger) enter(o *log) (leave func()) {
	if l == nil {
		return func() {}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	ref := o.String()
	if l.inside[ref] == nil {
		l.inside[ref] = map[*log]int{}
	}
	for other := range l.inside[ref] {
		if !l.dead[o.place] && !l.dead[other.place] {
			l.problems = append(l.problems, fmt.Sprintf("%s runs twice at once (two activations: %v)", ref, o != other))
		}
	}
	l.inside[ref][o]++
	return func() { l.leave(ref, o) }
}

func (l *Ledger) leave(ref string, o *log) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.inside[ref][o]--; l.inside[ref][o] == 0 {
		delete(l.inside[ref], o)
	}
}

func (l *Ledger) ran(ref, id string) {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.executed[ref+" "+id]++
}

// Executed is how often an entry was appended to a log, on whatever activation.
func (l *Ledger) Executed(ref, id string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.executed[ref+" "+id]
}

// Problems is a list of what must not have happened.
func (l *Ledger) Problems() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.problems)
}
