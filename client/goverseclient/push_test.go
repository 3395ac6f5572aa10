package goverseclient

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// Pushes come in order and none twice, to the channel and to the callback.
func TestPushesInOrder(t *testing.T) { bothWays(t, testPushesInOrder) }

func testPushesInOrder(t *testing.T) {
	g := (&gate{}).serve(t)
	var mu sync.Mutex
	var heard []string
	c := connect(t, []string{g.address}, WithOnMessage(func(m proto.Message) {
		mu.Lock()
		defer mu.Unlock()
		heard = append(heard, m.(*wrapperspb.StringValue).Value)
	}))
	const rounds, n = 5, 500
	for round := range rounds {
		for i := range n {
			g.push(t, c.ClientID(), wrapperspb.String(fmt.Sprint(round*n+i)))
		}
		for i := range n {
			if m := receive(t, "a push", c.MessageChan()).(*wrapperspb.StringValue).Value; m != fmt.Sprint(round*n+i) {
				t.Fatalf("got %s, want %d", m, round*n+i)
			}
		}
		until(t, "the callback", func() bool { mu.Lock(); defer mu.Unlock(); return len(heard) == (round+1)*n })
	}
	for i, m := range heard {
		if m != fmt.Sprint(i) {
			t.Fatalf("got %s, want %d", m, i)
		}
	}
	if len(c.MessageChan()) != 0 || c.Dropped() != 0 {
		t.Error(len(c.MessageChan()), c.Dropped())
	}
}

// When nobody reads, calls go on, and the newest messages are kept.
func TestNobodyReads(t *testing.T) { bothWays(t, testNobodyReads) }

func testNobodyReads(t *testing.T) {
	g := (&gate{}).serve(t)
	c := connect(t, []string{g.address})
	const n = 3 * backlog
	for i := range n {
		g.push(t, c.ClientID(), wrapperspb.Int64(int64(i)))
	}
	until(t, "the oldest to be dropped", func() bool { return c.Dropped() == n-backlog })
	if err := say(soon(t), c, "x"); err != nil || g.opened.Load() != 1 {
		t.Error(err, g.opened.Load())
	}
	for i := n - backlog; i < n; i++ {
		if m := receive(t, "a push", c.MessageChan()).(*wrapperspb.Int64Value).Value; m != int64(i) {
			t.Fatalf("got %d, want %d", m, i)
		}
	}
}

// A push that the program cannot read is handed on as it came.
func TestAPushOfAnUnknownType(t *testing.T) { bothWays(t, testAPushOfAnUnknownType) }

func testAPushOfAnUnknownType(t *testing.T) {
	g := (&gate{}).serve(t)
	c := connect(t, []string{g.address})
	unknown := &anypb.Any{TypeUrl: "type.googleapis.com/not.Known", Value: []byte{8, 1}}
	g.mu.Lock()
	outbox := g.sessions[c.ClientID()]
	g.mu.Unlock()
	outbox <- unknown
	if m := receive(t, "the push", c.MessageChan()); !proto.Equal(m, unknown) {
		t.Errorf("got %v", m)
	}
}

// What a gate says with its last breath, after its good-bye, still arrives.
func TestLastWords(t *testing.T) { bothWays(t, testLastWords) }

func testLastWords(t *testing.T) {
	for range 20 { // it has 50 ms, which a busy machine may not give it
		g := (&gate{}).serve(t)
		c := connect(t, []string{g.address})
		g.mu.Lock()
		outbox := g.sessions[c.ClientID()]
		g.mu.Unlock()
		go g.server.GracefulStop()
		until(t, "the good-bye", func() bool { return !c.IsConnected() })
		select {
		case outbox <- pack(t, wrapperspb.String("farewell")):
		case <-time.After(time.Second):
		}
		g.ending()
		<-g.served
		select {
		case <-c.MessageChan():
			return
		case <-time.After(time.Second):
		}
	}
	t.Error("not once in 20 times")
}

// A gate that says good-bye but leaves its sessions open does not keep its clients.
func TestAHalfHeartedGoodBye(t *testing.T) { bothWays(t, testAHalfHeartedGoodBye) }

func testAHalfHeartedGoodBye(t *testing.T) {
	c, here, there := two(t, nil)
	stopped := make(chan struct{})
	go func() { defer close(stopped); here.server.GracefulStop() }() // the sessions stay
	until(t, "the other gate", func() bool { return c.CurrentAddress() == there.address })
	<-stopped
	if err := say(soon(t), c, "x"); err != nil {
		t.Error(err)
	}
}

// A callback that hangs costs its own messages, and no call.
func TestTheCallbackHangs(t *testing.T) { bothWays(t, testTheCallbackHangs) }

func testTheCallbackHangs(t *testing.T) {
	g := (&gate{}).serve(t)
	release := make(chan struct{})
	c := connect(t, []string{g.address}, WithOnMessage(func(proto.Message) { <-release }))
	defer close(release)
	for i := range 2 * backlog {
		g.push(t, c.ClientID(), wrapperspb.Int64(int64(i)))
	}
	until(t, "the oldest to be dropped", func() bool { return c.Dropped() == backlog-1 }) // one is being told
	if err := say(soon(t), c, "x"); err != nil {
		t.Error(err)
	}
}

func TestHerald(t *testing.T) {
	var h herald
	var got []int
	begun, release := make(chan struct{}), make(chan struct{})
	h.tell(func() { close(begun); <-release })
	<-begun
	for i := range backlog + 10 {
		if dropped := h.tell(func() { got = append(got, i) }); dropped != (i >= backlog) {
			t.Errorf("%d: dropped %v", i, dropped)
		}
	}
	close(release)
	h.telling.Wait()
	for i, n := range got {
		if n != i+10 {
			t.Fatalf("got %v", got)
		}
	}
	if len(got) != backlog {
		t.Errorf("%d were told", len(got))
	}
	h.close()
	h.tell(func() { t.Error("told after the end") })
	h.telling.Wait()
}

// close waits for no callback, and begins none.
func TestHeraldCloses(t *testing.T) {
	var h herald
	begun, release := make(chan struct{}), make(chan struct{})
	h.tell(func() { close(begun); <-release })
	h.tell(func() { t.Error("told after the end") })
	<-begun
	h.close()
	close(release)
	h.telling.Wait()
}

func TestDelays(t *testing.T) {
	b := backoff{first: 10 * time.Millisecond, max: 100 * time.Millisecond}
	for n, full := range []time.Duration{10, 20, 40, 80, 100, 100, 100} {
		full *= time.Millisecond
		if low, high := b.delay(n, 0), b.delay(n, 0.999999); low != full/2 || high <= full*9/10 || high >= full {
			t.Errorf("delay %d is from %v to %v", n, low, high)
		}
	}
	if d := b.delay(1<<40, 0); d != 50*time.Millisecond {
		t.Error(d)
	}
	if d := (backoff{first: time.Minute, max: time.Second}).delay(0, 0); d != time.Second/2 {
		t.Error(d)
	}
}

func TestBudget(t *testing.T) {
	now := time.Now()
	b := newBudget(now)
	spent := func(at time.Duration) (n int) {
		for b.spend(now.Add(at)) {
			n++
		}
		return n
	}
	if n := spent(0); n != budgetFloor {
		t.Errorf("%d at once", n)
	}
	for at, want := range []int{1: 1, 2: 1, 3: 1} {
		if n := spent(time.Duration(at) * time.Second); n != want {
			t.Errorf("%d in second %d", n, at)
		}
	}
	if n := spent(time.Hour); n != budgetFloor {
		t.Errorf("%d after an hour", n)
	}
	for range 505 {
		b.earn()
	}
	if n := spent(time.Hour); n != 50 {
		t.Errorf("%d for 505 calls", n)
	}
	for range 20 * budgetMax {
		b.earn()
	}
	if n := spent(time.Hour); n != budgetMax {
		t.Errorf("%d for very many", n)
	}
}
