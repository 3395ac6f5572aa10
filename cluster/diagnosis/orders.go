package diagnosis

import (
	"fmt"

	"github.com/xiaonanln/goverse/cluster/consensusmanager"
	"github.com/xiaonanln/goverse/cluster/sharding"
)

// wanted says what an operator wants of a shard, and why that is not so where it is not.
func (e *Explanation) wanted(v *Picture, s *sharding.Shard) {
	o, given := v.Order(s.ID)
	if !given {
		return
	}
	e.fact("order", "%s", WordsOf(o))
	node, alive := v.Members().Find(o.To)
	there := s.State(v.Members()) == sharding.Held && s.Current == o.To
	switch {
	case v.Void(o):
		e.note("the order counts no more, because the process to which it moved the shard has ended; its key goes by itself")
	case !alive:
		e.note("it is pinned to %s, which is gone: until a node is there again it is placed like any other", o.To)
	case node.Draining:
		e.note("%s is draining, so the order does not count for as long", o.To)
	case there && o.Pin:
		e.note("it stays there while %s lives and does not drain; goverse move %d --unpin takes that back", o.To, s.ID)
	case there:
		e.note("it is not evened out to another node until the order ends")
	case s.State(v.Members()) == sharding.Held && e.Acts == Nobody:
		e.leads(v, fmt.Sprintf("gives it to %s, because an operator said so: once that node has been there for the stability delay, and no more shards than allowed are moving", o.To))
	}
}

// WordsOf is an order in words.
func WordsOf(o consensusmanager.Order) string {
	if o.Pin {
		return fmt.Sprintf("an operator has pinned it to %s", o.To)
	}
	return fmt.Sprintf("an operator has moved it to %s", o.To)
}
