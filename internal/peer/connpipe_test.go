package peer

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"

	"github.com/xiaonanln/goverse/internal/event"
	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/internal/secure"
	"github.com/xiaonanln/goverse/object"
)

// connPipes are both ends of a connection.
func connPipes(t *testing.T) (a, b *connPipe) {
	here, there := net.Pipe()
	a, b = newConnPipe(here), newConnPipe(there)
	t.Cleanup(a.hangUp)
	t.Cleanup(b.hangUp)
	return a, b
}

// Batches of all lengths arrive whole and in order, a long one is taken piece by piece, and
// then comes the end.
func TestBatchesOnAConnection(t *testing.T) {
	a, b := connPipes(t)
	lengths := []int{1, 100, copied - lengthSize, copied - lengthSize + 1, copied, atOnce, atOnce + copied, maxBatch}
	pieces := make([]int, len(lengths))
	var sender sync.WaitGroup
	sender.Go(func() {
		for i, n := range lengths {
			batch := buffers.Get(n)
			for j := range *batch {
				(*batch)[j] = byte(i + j)
			}
			if err := a.send(batch, func() { pieces[i]++ }); err != nil {
				t.Error(err)
			}
		}
		if err := a.closeSend(); err != nil {
			t.Error(err)
		}
	})
	for i, n := range lengths {
		batch, err := b.receive()
		if err != nil || batch.Len() != n {
			t.Fatalf("batch %d: %v, %v", i, batch, err)
		}
		for j, c := range batch.ReadOnlyData() {
			if c != byte(i+j) {
				t.Fatalf("batch %d differs at %d", i, j)
			}
		}
		batch.Free()
	}
	if _, err := b.receive(); err != io.EOF {
		t.Errorf("behind the end comes %v", err)
	}
	sender.Wait()
	for i, n := range lengths {
		if want := (max(0, n-(copied-lengthSize)) + atOnce - 1) / atOnce; pieces[i] != want {
			t.Errorf("a batch of %d bytes was taken in %d pieces, want %d", n, pieces[i], want)
		}
	}
}

// An end without a word, one amid a batch, and a batch that is too long are told from the
// good end.
func TestAConnectionThatBreaksOff(t *testing.T) {
	length := func(n uint32) string { return string(binary.LittleEndian.AppendUint32(nil, n)) }
	for said, want := range map[string]string{
		"":                                  errBrokeOff.Error(),
		"\x01":                              errBrokeOff.Error(),
		length(0):                           errBrokeOff.Error(),
		length(3) + "ab":                    errBrokeOff.Error(),
		length(maxBatch + 1):                "a batch of 2097153 bytes",
		length(0) + length(noMore) + "more": io.EOF.Error(),
	} {
		here, there := net.Pipe()
		p := newConnPipe(here)
		go func() {
			defer there.Close()
			_, _ = io.WriteString(there, said) // the other end may have heard enough
		}()
		_, err := p.receive()
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %s", said, err, want)
		}
		if isBreach := errors.As(err, new(breach)); isBreach != strings.HasPrefix(want, "a batch") {
			t.Errorf("%q: %v is a breach: %v", said, err, isBreach)
		}
		p.hangUp()
	}
}

// A peer that says nothing but beats is alive for as long as it does; one that says nothing
// at all is given up, unless it is this end that does not listen.
func TestAPeerThatGoesSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := connPipes(t)
		go func() { _, _ = b.receive() }() // it ends with the test
		heard := make(chan error, 1)
		go func() { _, err := a.receive(); heard <- err }()
		time.Sleep(time.Hour)
		synctest.Wait()
		select {
		case err := <-heard:
			t.Fatalf("a peer that beats was given up: %v", err)
		default:
		}
		began := time.Now()
		b.mu.Lock()
		b.beat.Stop() // it is as if the process had stopped
		b.over = true
		b.mu.Unlock()
		err := <-heard
		if took := time.Since(began); !errors.Is(err, errMute) || took < silentFor-beatEvery || took > silentFor+2*beatEvery {
			t.Errorf("%v after %v", err, took)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		here, there := net.Pipe()
		p := newConnPipe(here)
		var beats bytes.Buffer
		read := make(chan error, 1)
		go func() { _, err := io.Copy(&beats, there); read <- err }()
		time.Sleep(time.Minute) // nobody receives: the peer has no chance to be heard
		said := make(chan error, 1)
		go func() { _, err := p.receive(); said <- err }()
		synctest.Wait()
		there.Close()
		if err := <-said; !errors.Is(err, errBrokeOff) {
			t.Errorf("an end that does not listen gave its peer up: %v", err)
		}
		p.hangUp()
		if err := <-read; err != nil && !errors.Is(err, io.ErrClosedPipe) || beats.Len() < 15*lengthSize || strings.Trim(beats.String(), "\x00") != "" {
			t.Errorf("it beat %x, %v", beats.Bytes(), err)
		}
	})
}

// town is a member's port that tells what comes.
type town struct {
	*Membership
	doors  *Doors
	server *grpc.Server
	served sync.WaitGroup
}

func newTown(t *testing.T, secret secure.Secret, svc Service) *town {
	l := tcp(t)
	n := &town{Membership: &Membership{Address: l.Addr().String(), Secret: knows(secret)}}
	n.server = grpc.NewServer(append(ServerOptions(), n.ServerOptions()...)...)
	n.doors = n.Register(n.server, svc, event.Listener{})
	n.served.Go(func() { _ = n.server.Serve(l) })
	t.Cleanup(func() { n.server.Stop(); n.doors.Close(); n.served.Wait() })
	return n
}

func (n *town) lanes() (own int) {
	n.doors.mu.Lock()
	defer n.doors.mu.Unlock()
	return len(n.doors.own)
}

// Members call over connections of their own; one that leaves answers what it has; what is
// cut off is of unknown outcome.
func TestALaneOfItsOwn(t *testing.T) {
	secret := secure.NewSecret()
	entered, release := make(chan struct{}), make(chan struct{})
	n := newTown(t, secret, fake{call: func(ctx context.Context, req *Request) (object.Payload, error) {
		if req.Method == "Wait" {
			entered <- struct{}{}
			select {
			case <-release:
			case <-ctx.Done():
			}
		}
		return req.Payload, nil
	}})
	caller := func() Conn { return memberDial(t, &Membership{Address: "g:1", Secret: knows(secret)}, n.Address) }
	conn, other := caller(), caller()
	if _, err := conn.ServeCall(t.Context(), callOf(text("x"))); err != nil || n.lanes() != 1 {
		t.Fatalf("%v, %d lanes have connections to themselves", err, n.lanes())
	}
	wait := callOf(text("x"))
	wait.Method = "Wait"
	ended := make(chan error, 2)
	for _, c := range []Conn{conn, other} {
		go func() { _, err := c.ServeCall(t.Context(), wait); ended <- err }()
		<-entered
	}
	n.doors.Leave()
	release <- struct{}{}
	if err := <-ended; err != nil {
		t.Errorf("a call that was under way: %v", err)
	}
	_, err := caller().ServeCall(t.Context(), callOf(text("x")))
	want(t, err, fault.NotReady, fault.NotExecuted)
	n.doors.Close()
	want(t, <-ended, fault.Indeterminate, fault.OutcomeUnknown)
	n.doors.Wait()
	if n.lanes() != 0 {
		t.Errorf("%d lanes are left", n.lanes())
	}
}

// Where something lets only gRPC through, or one side is of a version without them, calls
// go over a stream.
func TestALaneWithoutAConnectionOfItsOwn(t *testing.T) {
	secret := secure.NewSecret()
	t.Run("the way is barred", func(t *testing.T) {
		n := newTown(t, secret, fake{call: echo})
		gatekeeper := tcp(t)
		address := n.Address
		n.Address = gatekeeper.Addr().String() // which is how it is known
		var through sync.WaitGroup
		through.Go(func() {
			for {
				conn, err := gatekeeper.Accept()
				if err != nil {
					return
				}
				through.Go(func() { letThrough(conn, address, magic) })
			}
		})
		t.Cleanup(func() { gatekeeper.Close(); through.Wait() })
		conn := memberDial(t, &Membership{Address: "g:1", Secret: knows(secret)}, n.Address)
		t.Cleanup(func() { conn.Close() })
		if _, err := conn.ServeCall(t.Context(), callOf(text("x"))); err != nil || n.lanes() != 0 {
			t.Errorf("%v, %d lanes have connections to themselves", err, n.lanes())
		}
	})
	t.Run("an older node", func(t *testing.T) {
		l := tcp(t)
		m := &Membership{Address: l.Addr().String(), Secret: knows(secret)}
		serveGRPC(t, l, func(s *grpc.Server) { RegisterPeerService(s, fake{call: echo}, event.Listener{}) }, m.ServerOptions()...)
		conn := memberDial(t, &Membership{Address: "g:1", Secret: knows(secret)}, m.Address)
		if _, err := conn.ServeCall(t.Context(), callOf(text("x"))); err != nil {
			t.Error(err)
		}
		raw, err := net.Dial("tcp", m.Address)
		if err != nil {
			t.Fatal(err)
		}
		defer raw.Close()
		if err := (greeting{lane: true, from: "g:1", to: m.Address}).call(raw, secret, nil); err == nil {
			t.Error("it took a lane that it did not offer")
		}
	})
	t.Run("an older caller", func(t *testing.T) {
		n := newTown(t, secret, fake{call: echo})
		m := &Membership{Address: "g:1", Secret: knows(secret)}
		conn := dial(t, NewGRPCDialer(event.Listener{}, grpc.WithTransportCredentials(memberCreds{m})), n.Address)
		if _, err := conn.ServeCall(t.Context(), callOf(text("x"))); err != nil || n.lanes() != 0 {
			t.Errorf("%v, %d lanes have connections to themselves", err, n.lanes())
		}
	})
}

// letThrough connects conn with an address if it begins so.
func letThrough(conn net.Conn, address, begin string) {
	defer conn.Close()
	said := make([]byte, len(begin))
	if _, err := io.ReadFull(conn, said); err != nil || string(said) != begin {
		return
	}
	to, err := net.Dial("tcp", address)
	if err != nil {
		return
	}
	defer to.Close()
	if _, err := to.Write(said); err == nil {
		var back sync.WaitGroup
		back.Go(func() { pass(to, conn) })
		pass(conn, to)
		back.Wait()
	}
}

// Who cannot prove to be a member gets no lane, nor does who heard a member prove it for a
// connection of gRPC's.
func TestALaneIsForMembers(t *testing.T) {
	secret := secure.NewSecret()
	n := newTown(t, secret, fake{call: echo})
	var e ear
	n.Listener = e.listener()
	for name, answer := range map[string]func(g greeting, nonce []byte) []byte{
		"another secret": func(g greeting, nonce []byte) []byte { return g.proof("calls", secure.NewSecret(), nonce, nil) },
		"a proof for gRPC": func(g greeting, nonce []byte) []byte {
			g.lane = false
			return g.proof("calls", secret, nonce, nil)
		},
	} {
		t.Run(name, func(t *testing.T) {
			conn, err := net.Dial("tcp", n.Address)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			g := greeting{lane: true, from: "g:1", to: n.Address}
			theirs := make([]byte, 1+nonceBytes+proofBytes)
			if _, err := conn.Write(g.bytes()); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(conn, theirs); err != nil {
				t.Fatal(err)
			}
			if _, err := conn.Write(answer(g, theirs[1:1+nonceBytes])); err != nil {
				t.Fatal(err)
			}
			if rest, _ := io.ReadAll(conn); !bytes.Equal(rest, []byte{byte(notMember)}) || n.lanes() != 0 {
				t.Errorf("it was answered %x, and %d lanes are open", rest, n.lanes())
			}
			if heard := e.await(t); !strings.Contains(heard, errProof.Error()) {
				t.Error(heard)
			}
		})
	}
}
