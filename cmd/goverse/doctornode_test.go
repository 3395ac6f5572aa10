package main

import (
	"context"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/xiaonanln/goverse/cluster/etcdmanager/memkv"
	"github.com/xiaonanln/goverse/internal/event"
	"github.com/xiaonanln/goverse/internal/peer"
	"github.com/xiaonanln/goverse/internal/secure"
)

// lone is the cluster of one node that is no more than its port.
type lone struct {
	store   *memkv.Store
	address string
}

// liar is a node that says of the time what a test has it say.
type liar struct {
	peer.Service
	ahead time.Duration
}

func (l liar) Survey(context.Context) (*peer.Survey, error) {
	return &peer.Survey{Since: 1, Now: time.Now().Add(l.ahead)}, nil
}

// newLone opens the port of a node, which encrypts if files are given, and writes down its
// cluster.
func newLone(t *testing.T, files *secure.Files, ahead time.Duration) *lone {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	secret := secure.NewSecret()
	c := &lone{store: memkv.NewStore(), address: l.Addr().String()}
	m := &peer.Membership{Address: c.address, TLS: files, Secret: func(context.Context) (secure.Secret, error) { return secret, nil }}
	s := grpc.NewServer(append(peer.ServerOptions(), m.ServerOptions()...)...)
	doors := m.Register(s, liar{ahead: ahead}, event.Listener{})
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(l) }()
	t.Cleanup(func() {
		s.Stop()
		doors.Close()
		doors.Wait()
		c.store.Close()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	write(t, c.store, strings.ReplaceAll(fmt.Sprintf(`put meta {"cluster":"c1","boot":"b1","store":"s1","shards":1}
put formed {"nodes":1}
put secret {"secret":"%s"}
put leader {"node":"NODE","reg":"a1"}
put nodes/NODE {"reg":"a1","state":"ready","ver":"v1","store":"s1"}
put reg/a1 NODE
put shards/0000 {"e":1,"c":"NODE","ci":"a1","t":"NODE","h":"","n":"00000001"}
`, secret.Reveal()), "NODE", c.address))
	return c
}

// doctor runs it on the cluster.
func (c *lone) doctor(t *testing.T, args ...string) outcome {
	t.Helper()
	return runOn(t, connectTo(t, c.store, true), nil, append([]string{"doctor"}, args...)...)
}

// A node whose clock is wrong is found by asking it.
func TestDoctorOfAWrongClock(t *testing.T) {
	for _, c := range []struct {
		ahead time.Duration
		says  string
		code  int
	}{
		{0, "well   clocks    1 clock and this machine's differ from each other by ", 0},
		{8 * time.Second, "note   clocks    the clock of the node ADDRESS is ", 0},
		{-time.Minute, "wrong  clocks    this machine's clock is ", 1},
		{time.Minute, "wrong  clocks    the clock of the node ADDRESS is ", 1},
	} {
		cluster := newLone(t, nil, c.ahead)
		if out := cluster.doctor(t); out.code != c.code || !strings.Contains(out.stdout, strings.ReplaceAll(c.says, "ADDRESS", cluster.address)) {
			t.Errorf("%v: %v", c.ahead, out)
		}
	}
}
