package random

import (
	"context"
	"fmt"
	"sync"

	"github.com/xiaonanln/goverse/object"
	"github.com/xiaonanln/goverse/test/logbook"
	logbook_pb "github.com/xiaonanln/goverse/test/logbook/proto"
)

// DurableLog and VolatileLog are the logbook's, under the eyes of a witness.
type (
	DurableLog struct {
		logbook.DurableLog
		seen seen
	}
	VolatileLog struct {
		logbook.VolatileLog
		seen seen
	}
)

func (l *DurableLog) OnCreated() {
	l.DurableLog.OnCreated()
	l.seen.by(l.Context())
}

func (l *DurableLog) Append(ctx context.Context, e *logbook_pb.Entry) (*logbook_pb.Mark, error) {
	l.seen.begins(l.String())
	return l.DurableLog.Append(ctx, e)
}

// Insist is Append by a method that does not heed the end of its context.
func (l *DurableLog) Insist(ctx context.Context, e *logbook_pb.Entry) (*logbook_pb.Mark, error) {
	return l.Append(context.WithoutCancel(ctx), e)
}

func (l *DurableLog) Read(ctx context.Context, r *logbook_pb.ReadRequest) (*logbook_pb.Page, error) {
	l.seen.begins(l.String())
	return l.DurableLog.Read(ctx, r)
}

func (l *VolatileLog) OnCreated() {
	l.VolatileLog.OnCreated()
	l.seen.by(l.Context())
}

func (l *VolatileLog) Append(ctx context.Context, e *logbook_pb.Entry) (*logbook_pb.Mark, error) {
	l.seen.begins(l.String())
	return l.VolatileLog.Append(ctx, e)
}

// Insist is Append by a method that does not heed the end of its context.
func (l *VolatileLog) Insist(ctx context.Context, e *logbook_pb.Entry) (*logbook_pb.Mark, error) {
	return l.Append(context.WithoutCancel(ctx), e)
}

func (l *VolatileLog) Read(ctx context.Context, r *logbook_pb.ReadRequest) (*logbook_pb.Page, error) {
	l.seen.begins(l.String())
	return l.VolatileLog.Read(ctx, r)
}

// seen is one activation in the eyes of its node's witness.
type seen struct {
	witness *witness
	node    object.Runtime
}

func (s *seen) by(ctx context.Context) {
	s.node, _ = object.RuntimeFrom(ctx)
	if w, ok := witnesses.Load(s.node); ok {
		s.witness = w.(*witness)
	}
}

func (s *seen) begins(ref string) {
	if s.witness != nil {
		s.witness.begins(ref, s)
	}
}

// witness sees on which activation each method begins. An object's activations follow
// one another: once a later one has begun a method, no earlier one does any more,
// however far apart in time the two are.
type witness struct {
	ledger *logbook.Ledger

	mu       sync.Mutex // protects following fields
	nodes    []func()   // end the watch of each
	dead     map[object.Runtime]bool
	newest   map[string]*seen
	retired  map[*seen]bool
	problems []string
}

func newWitness() *witness {
	return &witness{
		ledger: logbook.NewLedger(),
		dead:   map[object.Runtime]bool{}, newest: map[string]*seen{}, retired: map[*seen]bool{},
	}
}

// witnesses is the witness of each node: what an object can find out about its world is
// the node it lives on.
var witnesses sync.Map // object.Runtime → *witness

// watch makes w the witness of a node, whose runtime ctx carries.
func (w *witness) watch(ctx context.Context) {
	node, _ := object.RuntimeFrom(ctx)
	witnesses.Store(node, w)
	w.nodes = append(w.nodes, w.ledger.Watch(ctx), func() { witnesses.Delete(node) })
}

// leave ends every watch.
func (w *witness) leave() {
	for _, stop := range w.nodes {
		stop()
	}
}

// killed says that nothing counts any more that still happens on a node.
func (w *witness) killed(ctx context.Context) {
	node, _ := object.RuntimeFrom(ctx)
	w.ledger.Killed(ctx)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.dead[node] = true
}

func (w *witness) begins(ref string, s *seen) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.dead[s.node] {
		return
	}
	if w.retired[s] {
		w.problems = append(w.problems, fmt.Sprintf("%s runs on an activation although a later one has run already", ref))
		return
	}
	if before := w.newest[ref]; before != s {
		if before != nil {
			w.retired[before] = true
		}
		w.newest[ref] = s
	}
}

// saw is what must not have happened.
func (w *witness) saw() []string {
	list := w.ledger.Problems()
	w.mu.Lock()
	defer w.mu.Unlock()
	return append(list, w.problems...)
}
