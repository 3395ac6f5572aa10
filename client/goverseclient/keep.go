package goverseclient

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/xiaonanln/goverse/internal/fault"
)

// open connects to the gate whose turn it is.
func (c *Client) open(ctx context.Context) (*link, error) {
	if len(c.named) > 0 {
		address := c.named[0]
		c.named = c.named[1:]
		return c.openAt(ctx, address)
	}
	address := c.addresses[c.turn%len(c.addresses)]
	c.turn++
	return c.openAt(ctx, address)
}

func (c *Client) openAt(ctx context.Context, address string) (*link, error) {
	if !c.enter() {
		return nil, ErrClientClosed
	}
	ctx, cancel := context.WithTimeoutCause(ctx, c.cfg.connectionTimeout, fmt.Errorf("no answer within %v", c.cfg.connectionTimeout))
	defer cancel()
	defer context.AfterFunc(c.life, cancel)()
	l, err := dial(ctx, c.life, address, &c.cfg, c.stand.hello(address, &c.cfg), c.parts.Done)
	if err != nil {
		c.parts.Done()
		if c.stand != nil && fault.KindOf(err) == fault.Invalid {
			c.stand.token = "" // the session is refused in so many words: without it, then
		}
		c.cfg.log.Debug("gate did not take the client in", "gate", address, "err", err)
		return nil, err
	}
	if l.clock != nil {
		c.clock.Store(l.clock)
	}
	return l, nil
}

// keep keeps the client connected, at first over l.
func (c *Client) keep(l *link) {
	defer c.parts.Done()
	for failed := 0; l != nil; {
		c.cfg.log.Info("connected", "gate", l.address, "client", l.id)
		c.tellConnected(l, c.stand)
		why := c.receive(l)
		c.change(func(s *standing) { s.link, s.why = nil, why })
		if c.life.Err() != nil {
			return
		}
		c.stand, c.named = l.standpoint(), c.usable(l.named())
		c.cfg.log.Warn("connection lost", "gate", l.address, "client", l.id, "err", why)
		if f := c.cfg.onDisconnect; f != nil {
			c.tell(func() { f(why) })
		}
		l, failed = c.next(c.judge(l, failed))
	}
}

// judge counts a connection that has ended with the failed attempts before it: a gate
// that takes clients in and drops them is in no better state than one that is down. It
// is a little better if it has served calls meanwhile.
func (c *Client) judge(l *link, failed int) int {
	switch {
	case time.Since(l.born) >= proven:
		return 0
	case l.good.Load() > 0:
		return min(failed+1, len(c.addresses))
	default:
		return failed + 1
	}
}

// proven is how long a connection lasts that is no failed attempt.
const proven = time.Second

// next connects to another gate, however long it takes; nil when the client closes.
// failed attempts went before.
func (c *Client) next(failed int) (*link, int) {
	if l := c.back(); l != nil {
		c.change(func(s *standing) { s.link, s.why = l, nil })
		return l, failed
	}
	n := len(c.addresses)
	rounds := backoff{first: c.cfg.reconnectInterval, max: max(c.cfg.reconnectInterval, 5*time.Second)}
	for {
		if failed > 0 && failed%n == 0 {
			pause(c.life, rounds.delay(failed/n-1, rand.Float64()), c.hurry)
		}
		if c.life.Err() != nil {
			return nil, failed
		}
		l, err := c.open(c.life)
		if err == nil {
			c.change(func(s *standing) { s.link, s.why = l, nil })
			return l, failed
		}
		failed++
		c.change(func(s *standing) { s.why = err })
	}
}

// receive hands on what is pushed until the session ends, and says why it did.
func (c *Client) receive(l *link) error {
	watching, stop := context.WithCancel(c.life)
	var watch sync.WaitGroup
	watch.Go(func() { l.watch(watching) })
	err := l.follow(c.deliver, c.tellReset)
	l.leave(err)
	stop()
	watch.Wait()
	l.exit()
	return err
}

// usable is which of the gates that a goodbye names the client may go to, in a random order.
func (c *Client) usable(named []string) []string {
	good := slices.DeleteFunc(slices.Clone(named), func(a string) bool {
		return checkAddress(a) != nil || !slices.Contains(c.addresses, a) && (c.cfg.follow == nil || !c.cfg.follow(a))
	})
	good = good[:min(len(good), mostNamed)]
	rand.Shuffle(len(good), func(i, j int) { good[i], good[j] = good[j], good[i] })
	return good
}

// mostNamed bounds how many gates a goodbye sends a client to.
const mostNamed = 16
