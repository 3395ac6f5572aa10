package node

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/xiaonanln/goverse/internal/event"
	"github.com/xiaonanln/goverse/object"
)

// A store may lose what it has acknowledged: a backup is put back, or a standby that was
// behind takes over. What lives here is then ahead of the store, and what the store says
// of the fences is old. The node that notices shuts its shards at once; whoever opens
// shards has it Adopt the history, and opens them at fresh epochs.
const (
	historyEvery   = time.Second
	historyTimeout = 5 * time.Second // for one question
)

// past is the history of the store that this node goes by.
type past struct {
	on     event.Listener
	keeper object.HistoryKeeper // nil: the store tells none; settled by Start
	wake   chan struct{}        // holds a token when it should be asked at once

	beginning sync.Mutex // held while the first history is adopted, so that it is one

	mu      sync.Mutex    // protects following fields
	known   string        // "": none yet
	adopted int           // how often one was
	rewound chan struct{} // closed while the store goes on with another than known
}

func (p *past) init(on event.Listener) {
	p.on, p.wake, p.rewound = on, make(chan struct{}, 1), make(chan struct{})
}

// Rewound is closed while the store goes on with another history than the one that this
// node goes by: its shards are shut, those that are opened later must not be, and Adopt
// must follow. The next Rewound is then another channel.
func (n *Node) Rewound() <-chan struct{} {
	n.past.mu.Lock()
	defer n.past.mu.Unlock()
	return n.past.rewound
}

// Adopt shuts what is open of the shards and goes on with the history that the store has
// now. No Open may be under way. With an error the store is not used: try again. Who
// registers may call it while Run only begins.
func (n *Node) Adopt(ctx context.Context) error {
	n.Start()
	n.shutShards()
	return n.past.adopt(ctx)
}

// shutShards drops every shard; what is pinned to this node is in no store.
func (n *Node) shutShards() {
	const reason = "the store was put back"
	for i := range n.cfg.NumShards {
		if s := &n.slots[i]; !s.isShut() {
			s.drop(reason)
			n.closedShard(s, reason)
		}
	}
}

// adopt goes by what the store has now.
func (p *past) adopt(ctx context.Context) error {
	if p.keeper == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, historyTimeout)
	defer cancel()
	history, err := p.ask(ctx)
	if err != nil {
		return err
	}
	if err := p.keeper.AdoptHistory(ctx, history); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.known = history
	p.adopted++
	if isClosed(p.rewound) {
		p.rewound = make(chan struct{})
	}
	return nil
}

func (p *past) ask(ctx context.Context) (history string, err error) {
	done := asked(p.on, event.StoreHistory)
	history, err = p.keeper.History(ctx)
	done(err)
	return history, err
}

// begin adopts the first history, before anything is stamped.
func (p *past) begin(ctx context.Context) error {
	p.beginning.Lock()
	defer p.beginning.Unlock()
	p.mu.Lock()
	begun := p.known != ""
	p.mu.Unlock()
	if begun {
		return nil
	}
	return p.adopt(ctx)
}

// heard has the history asked for at once where an error of the store tells that it is
// another one.
func (p *past) heard(err error) {
	if errors.Is(err, object.ErrOtherHistory) {
		poke(p.wake)
	}
}

// watchHistory asks the store for its history until ctx ends. What is shut is shut before
// anybody hears of it, so that nothing is shut that was opened after an Adopt.
func (n *Node) watchHistory(ctx context.Context) {
	for n.past.pause(ctx) {
		was, now, changed := n.past.look(ctx)
		if !changed {
			continue
		}
		n.shutShards()
		if on := n.on.Notice; on != nil {
			on(event.Notice{Severity: event.Alarm, From: "node",
				Text: fmt.Sprintf("the store may lack what it has acknowledged: a backup was put back, or a standby took over. It was %q and is %q. What lives here of it is void, and what it has is gone on with", was, now)})
		}
		n.past.tell()
	}
}

// pause waits until it is time for a question.
func (p *past) pause(ctx context.Context) bool {
	pause, cancel := context.WithTimeout(ctx, historyEvery)
	defer cancel()
	select {
	case <-p.wake:
	case <-pause.Done():
	}
	return ctx.Err() == nil
}

// look asks once. changed: the store has another history, and had the known one before.
func (p *past) look(ctx context.Context) (was, now string, changed bool) {
	p.mu.Lock()
	known, adopted := p.known, p.adopted
	p.mu.Unlock()
	if known == "" {
		return "", "", false
	}
	ctx, cancel := context.WithTimeout(ctx, historyTimeout)
	defer cancel()
	now, err := p.ask(ctx)
	if err != nil { // it is away: whatever needs it says so
		return known, "", false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return known, now, now != known && adopted == p.adopted && !isClosed(p.rewound)
}

func (p *past) tell() {
	p.mu.Lock()
	defer p.mu.Unlock()
	close(p.rewound)
}

// astray refuses to open what the store has not been adopted for.
func (p *past) astray() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if isClosed(p.rewound) {
		return object.ErrOtherHistory
	}
	return nil
}
