package goverseclient

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/xiaonanln/goverse/internal/fault"
)

// Client is a program's way into a Goverse cluster: one connection to one of the
// cluster's gates, with a session that objects can push to. When that gate goes, the
// client connects to the next by itself. All methods may be called concurrently.
type Client struct {
	cfg       config
	addresses []string // in the order in which they are tried
	budget    *budget
	herald    herald
	messages  chan proto.Message
	dropped   atomic.Uint64
	hurry     chan struct{}
	asking    chan struct{}         // has a token for each subscription that is asked for
	clock     atomic.Pointer[clock] // of the gate that was heard last

	life    context.Context // until Close
	end     context.CancelFunc
	closing sync.Once
	parts   sync.WaitGroup // the links, those that dial, and the keeper

	connecting chan struct{} // holds a token while Connect tries
	turn       int           // of the address to try next; the connecting token's, then the keeper's
	stand      *standpoint   // where the last session stands; the same one's
	named      []string      // gates that the last goodbye named, and that may be used; the same one's

	mu  sync.Mutex
	now standing
}

// standing is how a client stands with its gates. Each change closes the changed of
// the one before.
type standing struct {
	started bool
	closed  bool
	link    *link // nil while there is none; it may be left already
	why     error // why there is none
	changed chan struct{}
}

// NewClient makes a client of the gates at addresses, each host:port. It dials none:
// Connect does. The error tells everything that is wrong with addresses and options, and
// with the files of WithTLS.
func NewClient(addresses []string, opts ...Option) (*Client, error) {
	good, wrongAddresses := checkAddresses(addresses)
	cfg, wrongOptions := newConfig(opts)
	if err := errors.Join(wrongAddresses, wrongOptions); err != nil {
		return nil, err
	}
	// Many clients of the same gates do not all begin with the first, nor follow each
	// other to the same one when it goes.
	rand.Shuffle(len(good), func(i, j int) { good[i], good[j] = good[j], good[i] })
	c := &Client{
		cfg: cfg, addresses: good, budget: newBudget(time.Now()), messages: make(chan proto.Message, backlog),
		hurry: make(chan struct{}, 1), asking: make(chan struct{}, maxAsking), connecting: make(chan struct{}, 1), now: standing{changed: make(chan struct{})},
	}
	c.life, c.end = context.WithCancel(context.Background())
	return c, nil
}

// Connect tries each gate once, in turn, and returns when one has taken the client in;
// from then on the client stays connected by itself until Close. If none does, the
// error is ErrConnectionFailed with each gate's reason, nothing goes on, and Connect
// may be called again. On a client that was connected before it is
// WaitForConnection.
func (c *Client) Connect(ctx context.Context) error {
	select {
	case c.connecting <- struct{}{}:
	case <-ctx.Done():
		return fault.Waited(ctx, "%w", ErrNotConnected).On("Connect", "")
	case <-c.life.Done():
		return closed(false).On("Connect", "")
	}
	err := c.begin(ctx)
	<-c.connecting
	if err != nil {
		return err.On("Connect", "")
	}
	return c.WaitForConnection(ctx)
}

// begin makes the first connection and sets the keeper to work, unless it is so.
func (c *Client) begin(ctx context.Context) *fault.Error {
	if c.stands().started {
		return nil
	}
	var problems []error
	for range c.addresses {
		address := c.addresses[c.turn%len(c.addresses)]
		l, err := c.open(ctx)
		if err == nil {
			return c.start(l)
		}
		problems = append(problems, c.cfg.explain(ctx, address, err))
		if c.stands().closed {
			return closed(false)
		}
		if ctx.Err() != nil {
			return fault.Waited(ctx, "%w: %w", ErrConnectionFailed, errors.Join(problems...))
		}
	}
	return fault.New(fault.NotReady, "%w: %w", ErrConnectionFailed, errors.Join(problems...))
}

func (c *Client) start(l *link) *fault.Error {
	if !c.enter() {
		l.leave(ErrClientClosed)
		l.exit()
		return closed(false)
	}
	c.change(func(s *standing) { s.started, s.link = true, l })
	go c.keep(l)
	return nil
}

// enter makes a part of the client, which Close waits for, unless it is closed.
func (c *Client) enter() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.now.closed {
		return false
	}
	c.parts.Add(1)
	return true
}

// stands is how the client stands now.
func (c *Client) stands() standing {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// change makes another standing of this one, until the client is closed.
func (c *Client) change(f func(*standing)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.now.closed {
		return
	}
	close(c.now.changed)
	f(&c.now)
	c.now.changed = make(chan struct{})
}

// take waits for a connection and begins a use of it. last is why an earlier attempt
// failed, if there was one.
func (c *Client) take(ctx context.Context, last *fault.Error) (*link, *fault.Error) {
	for {
		s := c.stands()
		switch {
		case s.closed:
			return nil, closed(false)
		case !s.started:
			return nil, fault.New(fault.NotReady, "%w: call Connect first", ErrNotConnected)
		case ctx.Err() != nil:
			return nil, waited(ctx, s, last)
		case s.link != nil && s.link.enter():
			return s.link, nil
		}
		select {
		case <-s.changed:
		case <-ctx.Done():
		}
	}
}

// waited is the error of a call or a wait that ended before there was a connection.
func waited(ctx context.Context, s standing, last *fault.Error) *fault.Error {
	switch {
	case last != nil:
		return fault.WaitedFor(ctx.Err(), "%w: %v", ErrNotConnected, last)
	case s.why != nil:
		return fault.WaitedFor(ctx.Err(), "%w: %w", ErrNotConnected, s.why)
	default:
		return fault.WaitedFor(ctx.Err(), "%w", ErrNotConnected)
	}
}

// WaitForConnection waits until the client is connected, after Connect at the
// earliest. Its error is ErrClientClosed, or ErrNotConnected when ctx ends.
func (c *Client) WaitForConnection(ctx context.Context) error {
	for {
		s := c.stands()
		switch {
		case s.closed:
			return closed(false).On("WaitForConnection", "")
		case s.link != nil && !s.link.isLeft():
			return nil
		case ctx.Err() != nil:
			return waited(ctx, s, nil).On("WaitForConnection", "")
		}
		select {
		case <-s.changed:
		case <-ctx.Done():
		}
	}
}

// Reconnect leaves the connection that there is, lets the calls on it finish, and
// waits for one to the next gate. The client id changes. On a client that was never
// connected it is Connect.
func (c *Client) Reconnect(ctx context.Context) error {
	s := c.stands()
	if !s.started {
		return c.Connect(ctx)
	}
	if s.link != nil {
		s.link.desert(errors.New("the program asked to reconnect"))
		s.link.hangUp()
	}
	select {
	case c.hurry <- struct{}{}:
	default: // it was told already
	}
	return c.WaitForConnection(ctx)
}

// IsConnected says whether there is a connection now.
func (c *Client) IsConnected() bool { return c.connected() != nil }

// ClientID is the id of the session now, "" while there is none. Objects push to it.
func (c *Client) ClientID() string {
	if l := c.connected(); l != nil {
		return l.id
	}
	return ""
}

// CurrentAddress is the gate that the client is connected to now, "" while there is
// none.
func (c *Client) CurrentAddress() string {
	if l := c.connected(); l != nil {
		return l.address
	}
	return ""
}

func (c *Client) connected() *link {
	if s := c.stands(); !s.closed && s.link != nil && !s.link.isLeft() {
		return s.link
	}
	return nil
}

// Close ends the client: its calls fail at once with ErrClientClosed, MessageChan is
// closed, and when Close returns nothing is left running but a callback that was
// under way. It never fails and may be called again.
func (c *Client) Close() error {
	c.closing.Do(func() {
		c.change(func(s *standing) { s.closed = true })
		c.end()
		c.parts.Wait()
		c.herald.close()
		close(c.messages)
	})
	return nil
}
