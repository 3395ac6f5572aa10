package etcdmanager

import (
	"context"
	"errors"
	"fmt"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// Watch follows the prefix across lost connections and leader changes. A revision
// below 1 means from the beginning. A consumer that does not read costs memory in
// this process only.
func (c *Client) Watch(ctx context.Context, prefix string, from int64) <-chan Batch {
	out := make(chan Batch)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		close(out)
		return out
	}
	ctx, cancel := context.WithCancel(ctx)
	release := context.AfterFunc(c.ctx, cancel)
	w := &watch{client: c, prefix: prefix, next: max(from, 1), broken: c.broken, out: out}
	c.watches.Go(func() {
		defer close(out)
		defer cancel()
		defer release()
		w.run(ctx)
	})
	return out
}

// watch is one Watch; its goroutine owns it.
type watch struct {
	client *Client
	prefix string
	next   int64 // the first revision that was not delivered
	broken <-chan struct{}
	out    chan<- Batch
}

func (w *watch) run(ctx context.Context) {
	for attempt := 0; ; attempt++ {
		before := w.next
		err := w.follow(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil && !passing(err):
			w.deliver(ctx, Batch{Err: w.reason(ctx, err)})
			return
		case w.next > before:
			attempt = 0
		}
		if !retry.Wait(ctx, attempt) {
			return
		}
	}
}

func (w *watch) reason(ctx context.Context, err error) error {
	if errors.Is(err, rpctypes.ErrCompacted) {
		return fmt.Errorf("%s: watch %q from revision %d: %w", w.client.name, w.prefix, w.next, ErrCompacted)
	}
	return w.client.fail(ctx, fmt.Sprintf("watch %q from revision %d", w.prefix, w.next), err)
}

// follow delivers from w.next on until ctx or the stream ends. It asks for a
// leader, so that a member that is cut off from its cluster is left for another, and
// for progress, so that an idle prefix does not fall behind a compaction.
func (w *watch) follow(ctx context.Context) error {
	ctx, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx))
	defer cancel()
	from, end := span(w.prefix)
	responses := w.client.v3.Watch(ctx, from, clientv3.WithRange(end), clientv3.WithRev(w.next), clientv3.WithProgressNotify())
	for {
		select {
		case resp, ok := <-responses:
			if !ok {
				return ctx.Err()
			}
			if err := w.take(ctx, resp); err != nil {
				return err
			}
		case <-w.broken: // the stock watch goes on elsewhere, and says nothing
			w.broken = w.client.nextBreak()
			if !w.deliver(ctx, Batch{Reconnected: true}) {
				return ctx.Err()
			}
		}
	}
}

func (w *watch) take(ctx context.Context, resp clientv3.WatchResponse) error {
	if err := resp.Err(); err != nil {
		return err
	}
	if !w.deliverAll(ctx, resp.Events) {
		return ctx.Err()
	}
	if resp.IsProgressNotify() {
		w.next = max(w.next, resp.Header.Revision+1)
	}
	return nil
}

// deliverAll cuts the events into revisions. etcd never splits a revision over two
// responses (the server may fragment one only if asked to, and is not).
func (w *watch) deliverAll(ctx context.Context, events []*clientv3.Event) bool {
	for len(events) > 0 {
		batch := Batch{Revision: events[0].Kv.ModRevision}
		for len(events) > 0 && events[0].Kv.ModRevision == batch.Revision {
			batch.Events = append(batch.Events, Event{Item: item(events[0].Kv), Deleted: events[0].Type == clientv3.EventTypeDelete})
			events = events[1:]
		}
		if batch.Revision < w.next {
			continue
		}
		if !w.deliver(ctx, batch) {
			return false
		}
		w.next = batch.Revision + 1
	}
	return true
}

func (w *watch) deliver(ctx context.Context, b Batch) bool {
	select {
	case w.out <- b:
		return true
	case <-ctx.Done():
		return false
	}
}
