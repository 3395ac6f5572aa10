package node

import (
	"fmt"
	"slices"
	"strings"
)

// A door is whom a slot lets into its activations. It is changed under both their
// mutexes, together with the slot's state.
type door uint8

const (
	doorOpen   door = iota
	doorNested      // calls of running chains
	doorShut        // nobody
)

var doorOf = [...]door{shut: doorShut, open: doorOpen, draining: doorNested, leaving: doorShut}

// setDoor also sends root calls back to the slot that wait for a turn.
func (a *activation) setDoor(d door) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.door = d
	t := &a.turns
	if d == doorOpen || t.backlog == nil {
		return
	}
	t.weed(len(t.queue), func(w *waiter) bool {
		if w.parks {
			w.settle(nil, errAside)
		}
		return w.parks
	})
	a.admit() // those who waited only for them
}

// refusal says why a call gets no turn here, and need not wait for one.
func (a *activation) refusal(parks bool) error {
	switch {
	case a.state >= closing:
		return errMovedOn
	case a.door == doorShut, a.door == doorNested && parks:
		return errAside
	}
	return nil
}

// restsLocked: it lives, nobody is inside or waits, and everything of it is saved
// and sent. a.mu is held.
func (a *activation) restsLocked() bool {
	return a.state == live && a.turns.atRest() && a.save.settled() && a.save.sent()
}

// poke leaves a token for whoever waits, without waiting.
func poke(nudge chan<- struct{}) {
	select {
	case nudge <- struct{}{}:
	default:
	}
}

// unfinished names what keeps the slot from being empty: methods that run first, at
// most ten.
func (s *slot) unfinished() string {
	s.mu.Lock()
	all := s.list()
	s.mu.Unlock()
	var running, others []string
	for _, a := range all {
		methods, other := a.occupation()
		running = append(running, methods...)
		if other != "" {
			others = append(others, other)
		}
	}
	slices.Sort(running)
	slices.Sort(others)
	names := append(running, others...)
	if len(names) == 0 {
		return fmt.Sprintf("shard %d is not at rest yet", s.shard)
	}
	if len(names) > 10 {
		names = append(names[:10], fmt.Sprintf("and %d more", len(names)-10))
	}
	return strings.Join(names, ", ")
}

// occupation is what an activation is busy with.
func (a *activation) occupation() (methods []string, other string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for f := a.frames.head; f != nil; f = f.next {
		path := f.info.Chain.Path
		methods = append(methods, path[len(path)-1].String()+" still runs")
	}
	switch {
	case len(methods) > 0 || a.restsLocked():
	case a.state == loading:
		other = a.ref.String() + " is being activated"
	case !a.save.settled():
		other = a.ref.String() + " is being saved"
	default:
		other = a.ref.String() + " has not ended"
	}
	return methods, other
}
