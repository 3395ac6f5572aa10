package goverseclient

import (
	"fmt"
	"sync"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/xiaonanln/goverse/gate/gateserver"
	"github.com/xiaonanln/goverse/internal/event"
)

// listener is a program that writes down what its client tells it, in order.
type listener struct {
	mu    sync.Mutex
	lines []string
}

func (l *listener) note(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, fmt.Sprintf(format, args...))
}

func (l *listener) options() []Option {
	return []Option{
		WithOnConnect(func(string) { l.note("connected") }),
		WithOnDisconnect(func(error) { l.note("disconnected") }),
		WithOnMessage(func(m proto.Message) { l.note("%s", m.(*wrapperspb.StringValue).GetValue()) }),
		WithOnReset(func(r Reset) { l.note("reset %d-%d", r.From, r.To) }),
	}
}

func (l *listener) has(t *testing.T, want ...string) {
	t.Helper()
	until(t, fmt.Sprintf("%q", want), func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		if len(l.lines) > len(want) {
			t.Fatalf("told %q, want %q", l.lines, want)
		}
		return fmt.Sprint(l.lines) == fmt.Sprint(want)
	})
}

func TestASessionGoesOn(t *testing.T) {
	cl := newCluster()
	closed := make(chan string, 16)
	s := startGate(t, cl, "127.0.0.1:0", func(c *gateserver.GateServerConfig) {
		c.Listener = event.Listener{SessionClosed: func(e event.SessionClosed) { closed <- e.ClientID }}
	})
	gate := s.AdvertiseAddress()
	var road proxy
	var l listener
	c := connect(t, []string{road.serve(t, s.GRPCAddr())}, l.options()...)
	id := c.ClientID()
	l.has(t, "connected")
	want := []string{"connected"}
	for i := range 5 {
		for j := range 100 { // more than are acknowledged one by one
			text := fmt.Sprintf("%d.%d", i, j)
			cl.push(t, gate, id, text)
			want = append(want, text)
		}
		road.cut()
		between := fmt.Sprintf("%d between", i)
		cl.push(t, gate, id, between)
		want = append(want, "disconnected", "connected", between)
		until(t, "the client to be told", func() bool {
			l.mu.Lock()
			defer l.mu.Unlock()
			return len(l.lines) == len(want)
		})
	}
	if c.ClientID() != id {
		t.Errorf("the client is %s, was %s", c.ClientID(), id)
	}
	var messages []string
	for _, line := range l.lines {
		if line != "connected" && line != "disconnected" {
			messages = append(messages, line)
		}
	}
	i := 0
	for _, line := range want {
		if line == "connected" || line == "disconnected" {
			continue
		}
		if messages[i] != line {
			t.Fatalf("message %d is %q, want %q", i, messages[i], line)
		}
		i++
	}
	if err := c.Close(); err != nil { // and the gate need not wait for who has left
		t.Error(err)
	}
	if got := receive(t, "the end of the session", closed); got != id {
		t.Errorf("the session of %s has ended, want %s", got, id)
	}
}

func TestASessionThatDoesNotGoOnIsAReset(t *testing.T) {
	cl := newCluster()
	a := startGate(t, cl, "127.0.0.1:0")
	var l listener
	c := connect(t, []string{a.GRPCAddr()}, l.options()...)
	l.has(t, "connected")
	cl.push(t, a.AdvertiseAddress(), c.ClientID(), "one")
	l.has(t, "connected", "one")
	if err := a.Stop(); err != nil {
		t.Fatal(err)
	}
	b := startGate(t, cl, a.GRPCAddr())
	l.has(t, "connected", "one", "disconnected", "reset 2-0", "connected")
	cl.push(t, b.AdvertiseAddress(), c.ClientID(), "two")
	l.has(t, "connected", "one", "disconnected", "reset 2-0", "connected", "two")
	if err := c.Reconnect(soon(t)); err != nil {
		t.Fatal(err)
	}
	l.has(t, "connected", "one", "disconnected", "reset 2-0", "connected", "two", "disconnected", "reset 2-0", "connected")
}

func TestWithoutResume(t *testing.T) {
	cl := newCluster()
	s := startGate(t, cl, "127.0.0.1:0")
	var road proxy
	c := connect(t, []string{road.serve(t, s.GRPCAddr())}, WithoutResume())
	id := c.ClientID()
	road.cut()
	until(t, "another session", func() bool { now := c.ClientID(); return now != "" && now != id })
}

func TestTheGatesThatAGoodbyeNames(t *testing.T) {
	for name, test := range map[string]struct {
		option Option
		named  []string
		want   []string
	}{
		"given":          {nil, []string{"b:1", "x:1"}, []string{"b:1"}},
		"none":           {nil, []string{"x:1"}, nil},
		"allowed":        {WithNamedGates(func(a string) bool { return a == "x:1" }), []string{"x:1", "y:1"}, []string{"x:1"}},
		"not an address": {WithNamedGates(func(string) bool { return true }), []string{"x", "http://x:1", "", ":1"}, nil},
	} {
		c, err := NewClient([]string{"a:1", "b:1"}, test.option)
		if err != nil {
			t.Fatal(err)
		}
		if got := c.usable(test.named); fmt.Sprint(got) != fmt.Sprint(test.want) {
			t.Errorf("%s: %v, want %v", name, got, test.want)
		}
		_ = c.Close()
	}
}
