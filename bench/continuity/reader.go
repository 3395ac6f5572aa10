package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/xiaonanln/goverse/bench/continuity/witness"
)

// reader is one client: it joins a board, follows it, and notes what it hears. When its
// connection ends it comes back, to its gate or, when that is not there, to another.
type reader struct {
	number int64
	board  string
	flood  string // a board that it joins besides; "": none
	doors  []door // of the gates, its own first
	deaf   bool   // once it has joined it reads no more
	delays *delays

	mu      sync.Mutex // protects following fields
	line    line       // nil while there is none
	witness *witness.Witness
	joined  map[string]bool // boards, in this session
	under   map[uint64]call // on this line, by number
	again   int             // that failed on this line and are to be made again
	calls   uint64          // the last call's number
	acked   uint64
	tally   tally
}

// call is one that is under way.
type call struct {
	method, board string
	seen          int64 // by the client, when it asked
}

// tally is what a reader went through.
type tally struct {
	refused int // connections that were not to be had
	breaks  int // that ended
	failed  int // calls that were made again
}

func newReader(number int64, board string, doors []door, delays *delays) *reader {
	return &reader{number: number, board: board, doors: doors, delays: delays, witness: witness.New(), joined: map[string]bool{}}
}

// run lives until ctx ends, and then leaves for good.
func (r *reader) run(ctx context.Context) {
	token, gate, failed := "", 0, 0
	for ctx.Err() == nil {
		l, w, err := r.connect(ctx, gate, token)
		if err != nil {
			r.note(func() { r.tally.refused++ })
			if failed++; failed%3 == 0 { // its own gate may be about to come back
				gate = (gate + 1) % len(r.doors)
			}
			rest(ctx, time.Duration(min(failed, 10))*50*time.Millisecond+rand.N(200*time.Millisecond))
			continue
		}
		failed = 0
		err = r.converse(ctx, l, w, token != "")
		token = w.token
		r.note(func() { r.line = nil; r.tally.breaks++ })
		l.hangUp()
		if errors.Is(err, errLeaving) {
			gate = (gate + 1) % len(r.doors)
		}
		rest(ctx, rand.N(100*time.Millisecond))
	}
}

// errLeaving is the end of a connection to a gate that leaves.
var errLeaving = errors.New("the gate says goodbye")

func (r *reader) note(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f()
}

// connect opens a line and hears the welcome.
func (r *reader) connect(ctx context.Context, gate int, token string) (line, word, error) {
	ctx, cancel := context.WithTimeout(ctx, connectWithin)
	defer cancel()
	return greet(ctx, r.doors[gate], greeting{token: token, last: r.witness.Last(), deaf: r.deaf})
}

// greet opens a line and hears the welcome.
func greet(ctx context.Context, d door, g greeting) (line, word, error) {
	l, err := d.open(ctx, g)
	if err != nil {
		return nil, word{}, err
	}
	defer context.AfterFunc(ctx, l.hangUp)()
	words, err := l.hear()
	if err == nil && (len(words) != 1 || words[0].kind != welcomed) {
		err = fmt.Errorf("the first words are %+v", words)
	}
	if err != nil {
		l.hangUp()
		return nil, word{}, err
	}
	return l, words[0], nil
}

// converse lives on one line until it ends, which it does soon when ctx has.
func (r *reader) converse(ctx context.Context, l line, w word, had bool) error {
	defer context.AfterFunc(ctx, l.leave)()
	r.begin(l, w, had)
	for {
		words, err := l.hear()
		if err != nil {
			return err
		}
		for _, w := range words {
			if w.kind == goodbye {
				return errLeaving
			}
			r.take(l, w)
		}
		if r.deaf && r.settled() {
			rest(ctx, 12*time.Second+rand.N(8*time.Second)) // by then the gate has had enough
			return nil
		}
	}
}

// begin says what a client says first.
func (r *reader) begin(l line, w word, had bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.line = l
	r.witness.Connected(had, w.resumed)
	r.acked = r.witness.Last()
	r.under, r.again = map[uint64]call{}, 0
	if !w.resumed {
		clear(r.joined)
	}
	r.callLocked("subscribe", r.board)
	r.callLocked("Look", r.board) // what it may have missed
	for _, board := range []string{r.board, r.flood} {
		if board != "" && !r.joined[board] {
			r.callLocked("Join", board)
		}
	}
}

// callLocked makes a call.
func (r *reader) callLocked(method, board string) {
	if r.line == nil {
		return
	}
	r.calls++
	r.under[r.calls] = call{method, board, r.witness.Seen()}
	a := ask{kind: "call", number: r.calls, board: board, method: method, reader: r.number}
	if method == "subscribe" {
		a.kind = method
	}
	r.line.say(a)
}

// settled says that all calls are answered.
func (r *reader) settled() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.under)+r.again == 0
}

// take notes a word.
func (r *reader) take(l line, w word) {
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	switch w.kind {
	case pushed:
		r.pushedLocked(w, now)
	case lost:
		r.witness.Reset(w.reset, now)
		r.callLocked("Look", r.board) // it is to read the state anew
	case published:
		r.witness.Published(witness.Published{Version: w.version, Count: w.said.count, Snapshot: w.snapshot, Reset: w.again})
		if !w.snapshot {
			r.delays.changes.record(r.number, now, w.said.at)
		}
	case endedSub:
		r.witness.Ended(w.why)
	case answered:
		r.answeredLocked(l, w)
	}
}

func (r *reader) pushedLocked(w word, now time.Time) {
	p := witness.Push{Seq: w.seq, Count: w.said.count, Joined: w.said.joined}
	if w.said.board != r.board {
		p.Count = -1
	}
	r.witness.Push(p, now)
	if !w.said.joined && p.Count >= 0 {
		r.delays.pushes.record(r.number, now, w.said.at)
	}
	if r.witness.Last()-r.acked >= ackEvery {
		r.acked = r.witness.Last()
		r.line.say(ask{kind: "ack", number: r.acked})
	}
}

// ackEvery is how many pushes a reader acknowledges at once.
const ackEvery = 32

// answeredLocked takes the answer to a call. What failed is asked again, after a while.
func (r *reader) answeredLocked(l line, w word) {
	c, ok := r.under[w.call]
	delete(r.under, w.call)
	switch {
	case !ok:
		r.witness.Ended(fmt.Sprintf("call %d is answered, and was not made", w.call))
	case w.why != "":
		r.tally.failed++
		r.again++
		time.AfterFunc(100*time.Millisecond+rand.N(200*time.Millisecond), func() {
			r.mu.Lock()
			defer r.mu.Unlock()
			if r.line == l {
				r.again--
				r.callLocked(c.method, c.board)
			}
		})
	case c.method == "Join":
		r.joined[c.board] = true
	case c.method == "Look":
		r.witness.Looked(w.count, c.seen)
	}
}

// missing says what the reader does not know yet; "": nothing. Without counts: what it has
// not been answered yet.
func (r *reader) missing(counts map[string]int64) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.line == nil:
		return "not connected"
	case len(r.under)+r.again > 0:
		return "calls are not answered"
	case counts == nil:
		return ""
	}
	return r.witness.Missing(counts[r.board])
}

// hangUp ends the connection without a word.
func (r *reader) hangUp() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.line != nil {
		r.line.hangUp()
	}
}
