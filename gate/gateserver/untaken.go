package gateserver

import (
	"container/list"
	"context"
	"sync"
	"time"

	"github.com/xiaonanln/goverse/internal/event"
	"github.com/xiaonanln/goverse/internal/fault"
)

// untaken is the long answers of the whole gate that clients have not taken yet, and those
// that are foreseen of calls under way. They have so many bytes for all, and so many for each
// address. Calls whose answers have no room wait for a moment, in the order in which they
// came, and answers of which nobody takes anything make room for them. WebSockets keep what is
// theirs by themselves. All methods may be called concurrently.
type untaken struct {
	tell func(event.Limit)

	mu      sync.Mutex // protects following fields, and those of each portion
	most    int        // bytes of all; negative: no limit
	each    int        // and of one address
	bytes   int
	of      map[*guest]int
	writing list.List // of *portion that are being written, whose client took something the longest ago first
	waiting list.List // of *portion, who came first first
	looks   bool      // somebody will look
}

const (
	maxRoomWaits = 1024                   // calls that wait for room; more are refused at once
	roomWait     = 5 * time.Second        // how long one waits
	idleAnswer   = time.Second            // an answer of which nothing was taken for so long makes room for others
	idleConn     = 2 * time.Second        // and so does a connection of gRPC, which may carry more than long messages
	lookEach     = 250 * time.Millisecond // for one, while somebody waits
)

func newUntaken(l Limits, tell func(event.Limit)) *untaken {
	return &untaken{most: l.AnswerBytes, each: l.AddressAnswerBytes, tell: tell, of: map[*guest]int{}}
}

// change sets other limits. What is kept is kept, also beyond them.
func (u *untaken) change(most, each int) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.most, u.each = most, each
	u.grantLocked()
}

// portion is the answer to one request, whose handler calls its methods; or all that a
// connection of gRPC keeps, of which only holds and release are called, concurrently.
type portion struct {
	of    *untaken
	guest *guest // nil: it is not counted by address
	cut   func() // breaks the writing off; it may be called until done returns
	idle  time.Duration

	bytes  int
	place  *list.Element // where it is written, or waits
	since  time.Time     // something was taken, or the writing began
	isCut  bool
	gone   bool          // what holds hears of is no longer counted
	room   chan struct{} // closed when one who waits has room
	own    bool          // it has none because of what its own address has
	ending sync.Mutex    // held around cut
	over   bool          // nothing is left to cut; under ending
}

// portionOf is what a request of a will be answered with.
func (u *untaken) portionOf(a *asker, cut func()) *portion {
	p := &portion{of: u, cut: cut, idle: idleAnswer}
	if a != nil {
		p.guest = a.address
	}
	return p
}

// begin finds room for an answer of so many bytes before its call runs, or says that there
// is none.
func (p *portion) begin(ctx context.Context, expects int) error {
	if p.asks(expects) {
		return nil
	}
	if p.room == nil {
		return p.refuse()
	}
	late, cancel := context.WithTimeout(ctx, roomWait)
	defer cancel()
	select {
	case <-p.room:
		return nil
	case <-late.Done():
	}
	if p.leaves() {
		return nil
	}
	if ctx.Err() == context.Canceled {
		return fault.Waited(ctx, "the answer has no room yet")
	}
	return p.refuse()
}

// asks takes room, or a place among those who wait for it; with too many of them neither.
func (p *portion) asks(expects int) bool {
	u := p.of
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.waiting.Len() >= maxRoomWaits {
		return false
	}
	p.bytes, p.room = expects, make(chan struct{})
	p.place = u.waiting.PushBack(p)
	u.grantLocked()
	if p.place == nil {
		return true
	}
	u.watchLocked()
	return false
}

// leaves gives up waiting, unless there is room now.
func (p *portion) leaves() (granted bool) {
	u := p.of
	u.mu.Lock()
	defer u.mu.Unlock()
	if p.place == nil {
		return true
	}
	u.waiting.Remove(p.place)
	p.own = p.guest != nil && u.each >= 0 && u.of[p.guest]+p.bytes > u.each
	p.place, p.bytes = nil, 0
	u.grantLocked() // who stood behind it
	return false
}

func (p *portion) refuse() error {
	p.of.mu.Lock()
	most, each := p.of.most, p.of.each
	p.of.mu.Unlock()
	limit, whose, n := event.AnswerBytes, "the gate's clients", most
	if p.own {
		limit, whose, n = event.AddressAnswerBytes, "clients of your address", each
	}
	p.of.tell(limit)
	e := fault.New(fault.Overloaded, "%d MiB of answers are kept for %s, who have to read them first; come again in a moment", n>>20, whose)
	e.RetryAfter = time.Second
	return e
}

// keep says that an answer of size bytes is being written from now on. What nobody foresaw
// is not kept if it has no room: its call has run.
func (p *portion) keep(size int) error {
	if size < longAnswer {
		p.done()
		return nil
	}
	u := p.of
	u.mu.Lock()
	defer u.mu.Unlock()
	more := size - p.bytes
	if p.bytes == 0 {
		if limit, full := u.fullLocked(p.guest, size); full {
			u.cutLocked(time.Now(), map[*guest]int{p.guest: size}, size)
			u.tell(limit)
			return fault.New(fault.TooLarge, "the call has ended, but its answer of %d bytes is not kept: too many wait for clients to read them; who called with a call id can ask for it again", size).
				With(fault.Executed)
		}
	}
	u.countLocked(p, more)
	p.bytes, p.since = size, time.Now()
	p.place = u.writing.PushBack(p)
	if more < 0 {
		u.grantLocked()
	}
	return nil
}

// took says that the client has taken a part, and whether it may have the next.
func (p *portion) took() bool {
	if p.bytes == 0 {
		return true // it is not counted
	}
	p.of.mu.Lock()
	defer p.of.mu.Unlock()
	if p.place != nil {
		p.since = time.Now()
		p.of.writing.MoveToBack(p.place)
	}
	return !p.isCut
}

// ofConnection is what a connection of gRPC keeps; it holds nothing yet.
func (u *untaken) ofConnection(g *guest, cut func()) *portion {
	return &portion{of: u, guest: g, cut: cut, idle: idleConn}
}

// holds counts what a connection keeps, or with less than 0 what its client has taken.
func (p *portion) holds(n int) {
	u := p.of
	u.mu.Lock()
	defer u.mu.Unlock()
	if p.gone {
		return
	}
	u.countLocked(p, n)
	p.bytes += n
	switch {
	case p.bytes == 0:
		u.writing.Remove(p.place)
		p.place = nil
	case p.place == nil:
		p.since, p.place = time.Now(), u.writing.PushBack(p)
	case n < 0:
		p.since = time.Now()
		u.writing.MoveToBack(p.place)
	}
	if n < 0 {
		u.grantLocked()
	}
}

// done gives the room back; more than once is as once.
func (p *portion) done() {
	p.ending.Lock()
	p.over = true
	p.ending.Unlock()
	p.release()
}

// release is done for a connection, which can be cut at any time.
func (p *portion) release() {
	u := p.of
	u.mu.Lock()
	defer u.mu.Unlock()
	p.gone = true
	if p.place != nil {
		u.writing.Remove(p.place)
		p.place = nil
	}
	if p.bytes != 0 {
		u.countLocked(p, -p.bytes)
		p.bytes = 0
		u.grantLocked()
	}
}

func (u *untaken) countLocked(p *portion, n int) {
	u.bytes += n
	if p.guest == nil {
		return
	}
	if u.of[p.guest] += n; u.of[p.guest] == 0 {
		delete(u.of, p.guest)
	}
}

// fullLocked: there is no room for n bytes more, by which limit. An answer that is alone
// always has room.
func (u *untaken) fullLocked(g *guest, n int) (event.Limit, bool) {
	switch due := u.of[g]; {
	case u.most >= 0 && u.bytes > 0 && u.bytes+n > u.most:
		return event.AnswerBytes, true
	case g != nil && u.each >= 0 && due > 0 && due+n > u.each:
		return event.AddressAnswerBytes, true
	}
	return 0, false
}

// grantLocked gives room to those who wait. Nobody overtakes who waits for the gate's room,
// or for that of his own address.
func (u *untaken) grantLocked() {
	var stuck map[*guest]bool
	for at := u.waiting.Front(); at != nil; {
		p, next := at.Value.(*portion), at.Next()
		limit, full := u.fullLocked(p.guest, p.bytes)
		switch {
		case full && limit == event.AnswerBytes:
			return
		case full:
			if stuck == nil {
				stuck = map[*guest]bool{}
			}
			stuck[p.guest] = true
		case !stuck[p.guest]:
			u.waiting.Remove(at)
			p.place = nil
			u.countLocked(p, p.bytes)
			close(p.room)
		}
		at = next
	}
}

func (u *untaken) watchLocked() {
	if !u.looks {
		u.looks = true
		time.AfterFunc(lookEach, u.look)
	}
}

// look breaks off what nobody takes where others wait for the room.
func (u *untaken) look() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.looks = false
	if u.waiting.Len() == 0 {
		return
	}
	u.watchLocked()
	wanted := map[*guest]int{}
	for at := u.waiting.Front(); at != nil; at = at.Next() {
		if p := at.Value.(*portion); wanted[p.guest] == 0 { // the first of each address
			wanted[p.guest] = p.bytes
		}
	}
	u.cutLocked(time.Now(), wanted, u.waiting.Front().Value.(*portion).bytes)
}

// cutLocked breaks off as many idle answers as it takes until each address has room for the
// bytes that it wants, and the gate for so many. They count until their handlers are done.
func (u *untaken) cutLocked(now time.Time, wanted map[*guest]int, ofGate int) {
	short := 0
	if u.most >= 0 {
		short = u.bytes + ofGate - u.most
	}
	for at := u.writing.Front(); at != nil; at = at.Next() {
		p := at.Value.(*portion)
		if now.Sub(p.since) < p.idle {
			continue
		}
		own := 0
		if n := wanted[p.guest]; n > 0 && p.guest != nil && u.each >= 0 {
			own = u.of[p.guest] + n - u.each
		}
		if short <= 0 && own <= 0 {
			continue
		}
		short -= p.bytes
		if own > 0 {
			wanted[p.guest] -= p.bytes
		}
		p.isCut = true
		go p.end()
	}
}

// end breaks the writing off, if it is still going on.
func (p *portion) end() {
	p.ending.Lock()
	defer p.ending.Unlock()
	if !p.over {
		p.cut()
	}
}

type portionKey struct{}

// withPortion has the call of ctx find room for its answer.
func withPortion(ctx context.Context, p *portion) context.Context {
	return context.WithValue(ctx, portionKey{}, p)
}

// makeRoom is begin for what ctx's call may answer.
func (c *calls) makeRoom(ctx context.Context, m methodName) error {
	expects := c.sizes.expect(m)
	if expects == 0 {
		return nil
	}
	p, _ := ctx.Value(portionKey{}).(*portion)
	if p == nil {
		return nil
	}
	return p.begin(ctx, expects)
}
