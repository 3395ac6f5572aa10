package node

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/types/known/anypb"

	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/internal/peer"
)

func newPushes() *pushes { return &pushes{outlets: map[string]*outlet{}} }

// toClient pushes texts to a client, each a message.
func (p *pushes) toClient(t *testing.T, id string, texts ...string) {
	t.Helper()
	for _, text := range texts {
		e := &encodedPush{frame: peer.PushFrame{Message: &anypb.Any{Value: []byte(text)}}}
		if id == "" {
			e.frame.Broadcast = true
		} else if err := e.address(map[string][]string{gateOf(id): {id}}); err != nil {
			t.Fatal(err)
		}
		p.send(e)
	}
}

// all is what waits for a stream, in words: "1:a 2:b 3!" where ! is a gap.
func (o *outlet) all(t *testing.T, s *outletStream) string {
	t.Helper()
	var words []string
	for {
		f, more, err := o.next(s)
		switch {
		case err != nil:
			t.Fatal(err)
		case f == nil && !more:
			return strings.Join(append(words, "end"), " ")
		case f == nil:
			return strings.Join(words, " ")
		case f.Gap && f.Broadcast:
			words = append(words, fmt.Sprintf("%d!!", f.Seq))
		case f.Gap:
			words = append(words, fmt.Sprintf("%d!%s", f.Seq, strings.Join(f.ClientIDs, ",")))
		default:
			words = append(words, fmt.Sprintf("%d:%.8s", f.Seq, f.Message.Value))
		}
	}
}

func says(t *testing.T, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("the gate hears %q, want %q", got, want)
	}
}

func TestAGateHearsWhatAStreamLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPushes()
		h := peer.Hearing{Gate: "g:1", Resumable: true}
		o, s, opening := p.open(h)
		if opening.Lost || opening.Last != 0 || opening.Queue == "" {
			t.Errorf("opening %+v", opening)
		}
		p.toClient(t, "g:1/a", "a", "b", "c")
		says(t, o.all(t, s), "1:a 2:b 3:c")
		p.close(o, s, true)
		p.toClient(t, "g:1/a", "d")
		time.Sleep(59 * time.Second)
		h.Queue, h.Last = opening.Queue, 2
		o2, s2, opening2 := p.open(h)
		if o2 != o || opening2 != (peer.Opening{Queue: opening.Queue, Last: 2}) {
			t.Errorf("opening %+v, was %+v", opening2, opening)
		}
		says(t, o.all(t, s2), "3:c 4:d")
		if _, _, err := o.next(s); err == nil {
			t.Error("two streams at once")
		}
		p.close(o, s, true) // late
		p.toClient(t, "g:1/a", "e")
		says(t, o.all(t, s2), "5:e")
		p.close(o, s2, true)
		time.Sleep(61 * time.Second)
		if n, _, _ := p.counted(); n != 0 {
			t.Error("a queue is kept for ever")
		}
		if _, _, late := p.open(h); late.Queue == h.Queue {
			t.Error("a queue that is gone goes on")
		}
	})
}

func TestAQueueForAGateThatOverflows(t *testing.T) {
	p := newPushes()
	o, s, _ := p.open(peer.Hearing{Gate: "g:1", Resumable: true})
	p.toClient(t, "g:1/a", "a")
	says(t, o.all(t, s), "1:a")
	mega := strings.Repeat("m", 1<<20)
	p.toClient(t, "g:1/d", "d")
	for range 7 {
		p.toClient(t, "g:1/b", mega)
	}
	p.toClient(t, "g:1/c", mega) // one more than fit
	p.toClient(t, "g:1/b", "b")
	p.toClient(t, "g:1/a", "b")
	says(t, o.all(t, s), "2!g:1/b 3:d 4:mmmmmmmm 5:b 6:b")
	for range 20 {
		p.toClient(t, "", mega)
	}
	got := o.all(t, s)
	if !strings.HasPrefix(got, "7!! ") {
		t.Errorf("the gate hears %q", got)
	}
	for i := range 1000 {
		p.toClient(t, fmt.Sprintf("g:1/%d", i), mega[:16<<10])
	}
	if got := o.all(t, s); !strings.Contains(got, "!! ") && !strings.Contains(got, "!g:1/") {
		t.Errorf("the gate hears %q", got)
	}
	if o.sentB > maxSentBytes+frameSize(&o.queue[0]) || o.waitB != 0 {
		t.Errorf("%d bytes are kept, and %d wait", o.sentB, o.waitB)
	}
}

// counted is how many queues there are, how many of them for gates that nobody has seen, and
// whether there was no place for one.
func (p *pushes) counted() (queues, unheard int, overlooked bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.outlets), p.unheard, p.overlooked
}

// A node that just came hears of gates by the pushes to their clients.
func TestPushesBeforeTheGatesFirstStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPushes()
		p.toClient(t, "g:1/a", "a")
		o, s, opening := p.open(peer.Hearing{Gate: "g:1", Resumable: true})
		if opening.Lost {
			t.Error("nothing is lost")
		}
		says(t, o.all(t, s), "1:a")

		p.toClient(t, "g:2/a", "a")
		p.toClient(t, "", "to all") // its clients may have come later
		p.toClient(t, "g:2/a", "b")
		o, s, opening = p.open(peer.Hearing{Gate: "g:2", Resumable: true})
		if !opening.Lost {
			t.Error("what was pushed to all before the stream was not announced as lost")
		}
		says(t, o.all(t, s), "1:a 2:b")
		if _, _, opening = p.open(peer.Hearing{Gate: "g:3", Resumable: true}); !opening.Lost {
			t.Error("likewise, where nothing waited")
		}
		for i := range 2 * maxUnheard {
			p.toClient(t, fmt.Sprintf("nowhere:%d/a", i), "a")
		}
		if _, unheard, overlooked := p.counted(); unheard != maxUnheard || !overlooked {
			t.Errorf("%d queues for gates that nobody has seen", unheard)
		}
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if n, unheard, _ := p.counted(); unheard != 0 || n != 3 {
			t.Errorf("%d queues, %d for gates that nobody has seen", n, unheard)
		}
	})
}

// A stream that broke before the gate knew where it is may have taken pushes along.
func TestAStreamThatBreaksAtOnce(t *testing.T) {
	p := newPushes()
	h := peer.Hearing{Gate: "g:1", Resumable: true}
	o, s, _ := p.open(h)
	p.toClient(t, "g:1/a", "a")
	says(t, o.all(t, s), "1:a")
	p.toClient(t, "g:1/a", "b")
	o, s, opening := p.open(h)
	if !opening.Lost {
		t.Error("what was sent is not announced as lost")
	}
	says(t, o.all(t, s), "1:b")
}

func TestTheEndOfANodesPushes(t *testing.T) {
	n := &Node{}
	n.pushes.outlets = map[string]*outlet{}
	p := &n.pushes
	o, s, _ := p.open(peer.Hearing{Gate: "g:1", Resumable: true})
	p.toClient(t, "g:1/a", "a")
	n.EndPushes()
	p.toClient(t, "g:1/a", "b")
	says(t, o.all(t, s), "1:a end")
	p.close(o, s, true)
	err := n.ServePushes(t.Context(), peer.Hearing{Gate: "g:1", Resumable: true}, func(o peer.Opening) {
		if o.Lost {
			t.Error("an ended node announces a loss")
		}
	}, nil)
	if err != nil || len(p.outlets) != 0 {
		t.Errorf("a stream to an ended node: %v, %d queues", err, len(p.outlets))
	}
}

func TestAPushThatNoFrameTakes(t *testing.T) {
	e := &encodedPush{frame: peer.PushFrame{Message: &anypb.Any{Value: make([]byte, peer.MaxPayload+1)}}}
	if err := e.address(map[string][]string{"g:1": {"g:1/a"}}); fault.KindOf(err) != fault.TooLarge {
		t.Errorf("%v, want TooLarge", err)
	}
}
