//go:build unix

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protojson"

	chat_pb "github.com/xiaonanln/goverse/samples/chat/proto"
)

const (
	killClients = 16
	killRooms   = 100
	watchers    = 2
)

// Sixteen clients write to a hundred rooms, through every door of the gate; the
// process is killed at a random instant, and started again. What was acknowledged is
// there once and in order; what somebody was shown is there, too.
func TestKill(t *testing.T) {
	t.Parallel()
	s := newSite(t, chatAsShipped)
	luck := *seed
	if luck == 0 {
		luck = rand.Uint64()
	}
	t.Logf("seed: -e2e.seed=%d, %d rounds of %d acknowledged messages", luck, *rounds, *messages)
	p := s.start(t)
	for i := range *rounds {
		k := &killing{site: s, round: i, chance: rand.New(rand.NewPCG(luck, uint64(i))), again: i%2 == 1}
		p = k.run(t, p)
		if t.Failed() {
			t.Fatalf("round %d failed: -e2e.seed=%d", i, luck)
		}
	}
}

// killing is one round.
type killing struct {
	site   *site
	round  int
	chance *rand.Rand
	again  bool // after the restart clients say again what was not acknowledged

	acknowledged atomic.Int64
	down         atomic.Bool // the kill has been decided: calls may fail from here on
}

func (k *killing) room(i int) string { return fmt.Sprintf("round%d-%d", k.round, i) }

func (k *killing) run(t *testing.T, p *program) *program {
	ctx, cancel := context.WithCancel(within(t, 2*time.Minute))
	defer cancel()
	speakers := make([]*speaker, killClients)
	books := make([]*book, 0, killClients+watchers)
	for i := range speakers {
		speakers[i] = &speaker{name: fmt.Sprintf("c%d", i), round: k, chance: rand.New(rand.NewPCG(k.chance.Uint64(), 0)), book: newBook()}
		books = append(books, speakers[i].book)
	}
	var all sync.WaitGroup
	enough := make(chan struct{})
	for i := range watchers {
		w := k.watch(t, ctx, i)
		books = append(books, w.book)
		all.Go(func() { w.listen(ctx) })
	}
	start := time.Now()
	for i, c := range speakers {
		all.Go(func() { c.speak(t, ctx, i%3, enough) })
	}
	select {
	case <-enough:
	case <-ctx.Done():
	}
	// Some more milliseconds: the kill falls anywhere between two acknowledgements.
	select {
	case <-time.After(time.Duration(k.chance.Int64N(int64(50 * time.Millisecond)))):
	case <-p.ended:
	}
	k.down.Store(true)
	p.kill()
	took := time.Since(start)
	cancel()
	all.Wait()
	if n := k.acknowledged.Load(); n < int64(*messages) {
		t.Fatalf("only %d messages were acknowledged before the end: the process said\n%s", n, p.output())
	}

	start = time.Now()
	p = k.site.start(t)
	up := time.Since(start)
	if k.again {
		for _, c := range speakers {
			c.sayAgain(t)
		}
	}
	problems := check(k.history(t), books)
	for _, problem := range problems[:min(len(problems), 20)] {
		t.Error(problem)
	}
	if len(problems) > 20 {
		t.Errorf("... and %d more", len(problems)-20)
	}
	n := k.acknowledged.Load()
	t.Logf("round %d: %d acknowledged in %v (%.0f/s), killed; up again after %v", k.round, n, took.Round(time.Millisecond), float64(n)/took.Seconds(), up.Round(time.Millisecond))
	return p
}

// history is what every room has.
func (k *killing) history(t *testing.T) map[string][]*chat_pb.ChatMessage {
	t.Helper()
	c := dialHTTP(k.site)
	defer c.close()
	rooms := map[string][]*chat_pb.ChatMessage{}
	for i := range killRooms {
		var reply chat_pb.HistoryResponse
		if err := c.call(within(t, 30*time.Second), k.room(i), "History", &chat_pb.HistoryRequest{}, &reply); err != nil {
			t.Fatal(err)
		}
		rooms[k.room(i)] = reply.Messages
	}
	return rooms
}

// speaker writes one message after the other, each to a room of its choice.
type speaker struct {
	name   string
	round  *killing
	chance *rand.Rand
	book   *book
	said   int
}

func (c *speaker) dial(ctx context.Context, door int) (caller, error) {
	switch door {
	case 0:
		return dialGRPC(c.round.site)
	case 1:
		return dialSocket(ctx, c.round.site)
	default:
		return dialHTTP(c.round.site), nil
	}
}

func (c *speaker) speak(t *testing.T, ctx context.Context, door int, enough chan struct{}) {
	conn, err := c.dial(ctx, door)
	if err != nil {
		t.Errorf("%s: %v", c.name, err)
		return
	}
	defer conn.close()
	for !c.round.down.Load() && ctx.Err() == nil {
		c.said++
		m := &chat_pb.ChatMessage{
			Room: c.round.room(c.chance.IntN(killRooms)), UserName: c.name,
			Message: fmt.Sprintf("%06d", c.said), MessageId: fmt.Sprintf("%s-%d", c.name, c.said),
		}
		c.book.tried(m)
		if err := c.say(ctx, conn, m); err != nil {
			if !c.round.down.Load() {
				t.Errorf("%s: before the kill: %v", c.name, err)
			}
			return
		}
		if c.round.acknowledged.Add(1) == int64(*messages) {
			close(enough)
		}
	}
}

func (c *speaker) say(ctx context.Context, conn caller, m *chat_pb.ChatMessage) error {
	var reply chat_pb.SendMessageResponse
	request := &chat_pb.SendMessageRequest{UserName: m.UserName, Message: m.Message, MessageId: m.MessageId}
	if err := conn.call(ctx, m.Room, "SendMessage", request, &reply); err != nil {
		return err
	}
	c.book.shown(reply.Message)
	return nil
}

// sayAgain repeats the one message that was not acknowledged, with its id.
func (c *speaker) sayAgain(t *testing.T) {
	m := c.book.open()
	if m == nil {
		return
	}
	conn := dialHTTP(c.round.site)
	defer conn.close()
	if err := c.say(within(t, 30*time.Second), conn, m); err != nil {
		t.Errorf("%s says %s again: %v", c.name, m.MessageId, err)
	}
}

// watcher is a page that is in every room, and believes what it is shown.
type watcher struct {
	conn *socketCaller
	book *book
}

func (k *killing) watch(t *testing.T, ctx context.Context, i int) *watcher {
	t.Helper()
	conn, err := dialSocket(ctx, k.site)
	if err != nil {
		t.Fatal(err)
	}
	w := &watcher{conn, newBook()}
	for room := range killRooms {
		var reply chat_pb.JoinResponse
		if err := conn.call(ctx, k.room(room), "Join", &chat_pb.JoinRequest{UserName: fmt.Sprintf("watcher %d", i)}, &reply); err != nil {
			t.Fatal(err)
		}
	}
	conn.onPush = func(typeURL string, message json.RawMessage) {
		var m chat_pb.ChatMessage
		if typeURL != "type.googleapis.com/chat.ChatMessage" {
			return
		}
		if err := protojson.Unmarshal(message, &m); err != nil {
			t.Errorf("a push: %v", err)
			return
		}
		w.book.shown(&m)
	}
	return w
}

// listen hears what is pushed until the connection ends.
func (w *watcher) listen(ctx context.Context) {
	defer w.conn.close()
	for {
		f, err := w.conn.read(ctx)
		if err != nil {
			return
		}
		if f.Op == "message" {
			w.conn.onPush(f.Type, f.Message)
		}
	}
}
