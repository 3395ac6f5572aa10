package peer

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/xiaonanln/goverse/internal/event"
	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/internal/secure"
	goverse_pb "github.com/xiaonanln/goverse/proto"
)

// ear hears what a member tells of those whom it refused.
type ear struct {
	mu     sync.Mutex
	heard  []string
	denied int           // as the audit is told
	first  chan struct{} // closed with the first of them
}

func (e *ear) listener() event.Listener {
	e.first = make(chan struct{})
	return event.Listener{AccessDenied: func(d event.AccessDenied) {
		e.mu.Lock()
		defer e.mu.Unlock()
		if d.Where == event.AtMembers && d.Why == event.ByMembership && d.From != "" && d.Err != nil {
			e.denied++
		}
	}, Notice: func(n event.Notice) {
		e.mu.Lock()
		defer e.mu.Unlock()
		if e.heard = append(e.heard, n.String()); len(e.heard) == 1 {
			close(e.first)
		}
	}}
}

func (e *ear) String() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return strings.Join(e.heard, "\n")
}

func knows(s secure.Secret) func(context.Context) (secure.Secret, error) {
	return func(context.Context) (secure.Secret, error) { return s, nil }
}

// memberNode offers svc on a port for members until the test ends.
func memberNode(t *testing.T, m *Membership, svc Service) (address string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	m.Address = l.Addr().String()
	s := grpc.NewServer(append(ServerOptions(), m.ServerOptions()...)...)
	doors := m.Register(s, svc, event.Listener{})
	h := health.NewServer()
	healthpb.RegisterHealthServer(s, h)
	done := make(chan struct{})
	go func() { defer close(done); _ = s.Serve(l) }()
	t.Cleanup(func() { s.Stop(); doors.Close(); <-done })
	return m.Address
}

func memberDial(t *testing.T, m *Membership, address string) Conn {
	return dial(t, m.Dialer(event.Listener{}), address)
}

func TestMembersTalk(t *testing.T) {
	secret := secure.NewSecret()
	var e ear
	address := memberNode(t, &Membership{Secret: knows(secret), Listener: e.listener()}, fake{call: echo, pushes: func(_ context.Context, _ string, ready func(), deliver func(PushFrame) error) error {
		ready()
		return deliver(PushFrame{ClientIDs: []string{"g:1/x"}})
	}})
	conn := memberDial(t, &Membership{Address: "g:1", Secret: knows(secret)}, address)
	if p, err := conn.ServeCall(t.Context(), callOf(text("x"))); err != nil || p.Message == nil {
		t.Errorf("%v, %v", p, err)
	}
	pushed := 0
	if err := conn.ServePushes(t.Context(), Hearing{Gate: "g:1"}, func(Opening) {}, func(PushFrame) error { pushed++; return nil }); err != nil || pushed != 1 {
		t.Errorf("%d pushes, %v", pushed, err)
	}
	if heard := e.String(); heard != "" {
		t.Error(heard)
	}
}

// A node that starts may be called before it knows the secret: the caller waits.
func TestAMemberWaitsForTheSecret(t *testing.T) {
	secret := secure.NewSecret()
	drawn := make(chan struct{})
	asked := make(chan struct{}, 8)
	wait := func(ctx context.Context) (secure.Secret, error) {
		asked <- struct{}{}
		select {
		case <-drawn:
			return secret, nil
		case <-ctx.Done():
			return secure.Secret{}, ctx.Err()
		}
	}
	address := memberNode(t, &Membership{Secret: wait}, fake{call: echo})
	conn := memberDial(t, &Membership{Address: "g:1", Secret: knows(secret)}, address)
	done := make(chan error, 1)
	go func() { _, err := conn.ServeCall(t.Context(), callOf(text("x"))); done <- err }()
	<-asked
	close(drawn)
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// Whoever cannot prove to be a member of this very cluster gets nothing, and the caller
// learns what to do.
func TestOthersAreNoMembers(t *testing.T) {
	secret := secure.NewSecret()
	served := fake{call: echo, pushes: func(context.Context, string, func(), func(PushFrame) error) error {
		t.Error("pushes were served")
		return nil
	}}
	for _, c := range []struct {
		name         string
		node, caller *Membership
		there        bool // the caller dials the node by its address
		told, heard  string
	}{
		{"another cluster", &Membership{Secret: knows(secret)}, &Membership{Address: "g:1", Secret: knows(secure.NewSecret())}, true,
			"is no member of this cluster", "gave no proof"},
		{"another address", &Membership{Secret: knows(secret)}, &Membership{Address: "g:1", Secret: knows(secret)}, false,
			"refused: it says that it is another member", "g:1 looked for localhost:"},
		{"no secret", &Membership{Secret: knows(secret)}, &Membership{Address: "g:1", Secret: func(context.Context) (secure.Secret, error) {
			return secure.Secret{}, errors.New("none")
		}}, true, "secret is not known here yet: none", ""},
		{"an impossible address", &Membership{Secret: knows(secret)}, &Membership{Address: "g 1", Secret: knows(secret)}, true,
			"ended the connection instead of a greeting", "characters that none has"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var e ear
			c.node.Listener = e.listener()
			address := memberNode(t, c.node, served)
			if !c.there {
				_, port, _ := net.SplitHostPort(address)
				address = "localhost:" + port
			}
			conn := memberDial(t, c.caller, address)
			_, err := conn.ServeCall(t.Context(), callOf(text("x")))
			want(t, err, fault.NotReady, fault.NotExecuted)
			if !strings.Contains(err.Error(), c.told) {
				t.Errorf("the caller: %v", err)
			}
			for _, shown := range []string{err.Error(), e.String()} {
				if strings.Contains(shown, secret.Reveal()) {
					t.Errorf("the secret is shown: %s", shown)
				}
			}
			if c.heard == "" {
				return // it left before it spoke
			}
			if heard := e.await(t); !strings.Contains(heard, c.heard) {
				t.Errorf("the node: %s", heard)
			}
			e.mu.Lock()
			defer e.mu.Unlock()
			if e.denied < len(e.heard) {
				t.Errorf("%d denials were audited, and %d refusals told of", e.denied, len(e.heard))
			}
		})
	}
}

// await waits until something was heard: the node may be later with that than with its
// answer.
func (e *ear) await(t *testing.T) string {
	select {
	case <-e.first:
	case <-time.After(30 * time.Second):
		t.Error("nothing was heard")
	}
	return e.String()
}

// A program that speaks the nodes' protocol without a proof is refused each method that
// a node has, by name, and may ask only how it is.
func TestStrangersAreRefusedEverything(t *testing.T) {
	var e ear
	address := memberNode(t, &Membership{Secret: knows(secure.NewSecret()), Listener: e.listener()}, fake{})
	cc, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer cc.Close()
	began := time.Now()
	n := 0
	for _, desc := range []*grpc.ServiceDesc{&goverse_pb.PeerService_ServiceDesc, laneDesc(nil), &healthpb.Health_ServiceDesc} {
		for _, m := range desc.Methods {
			full := "/" + desc.ServiceName + "/" + m.MethodName
			err := cc.Invoke(t.Context(), full, new(emptypb.Empty), new(emptypb.Empty))
			if wanted := map[bool]codes.Code{true: codes.OK, false: codes.Unauthenticated}[full == healthpb.Health_Check_FullMethodName]; status.Code(err) != wanted {
				t.Errorf("%s: %v", full, err)
			}
			n++
		}
		for i := range desc.Streams {
			full := "/" + desc.ServiceName + "/" + desc.Streams[i].StreamName
			stream, err := cc.NewStream(t.Context(), &desc.Streams[i], full)
			if err != nil {
				t.Fatal(err)
			}
			_ = stream.SendMsg(new(emptypb.Empty)) // RecvMsg says why
			if err := stream.RecvMsg(new(emptypb.Empty)); status.Code(err) != codes.Unauthenticated {
				t.Errorf("%s: %v", full, err)
			}
			n++
		}
	}
	if n < 9 {
		t.Errorf("only %d methods were tried", n)
	}
	if heard := e.String(); !strings.Contains(heard, "without a proof that it is a member") || strings.Count(heard, "\n") > 4+int(time.Since(began)/time.Second) {
		t.Error(heard)
	}
}

// A stranger has room for a question or two, and no more.
func TestAStrangersRoom(t *testing.T) {
	address := memberNode(t, &Membership{Secret: knows(secure.NewSecret())}, fake{})
	cc, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer cc.Close()
	large := &goverse_pb.CallRequest{Payload: &goverse_pb.Payload{Form: &goverse_pb.Payload_Json{Json: make([]byte, 4*strangerBytes)}}}
	err = cc.Invoke(t.Context(), goverse_pb.PeerService_Call_FullMethodName, large, new(goverse_pb.CallReply))
	if status.Code(err) != codes.Unavailable {
		t.Errorf("%v", err)
	}
}

// What was heard of one connection opens no other: all that a caller said is said again.
func TestAReplayedGreeting(t *testing.T) {
	secret := secure.NewSecret()
	var e ear
	address := memberNode(t, &Membership{Secret: knows(secret), Listener: e.listener()}, fake{call: echo})
	said := overhear(t, address, &Membership{Address: "g:1", Secret: knows(secret)})
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	greeting := len(said) - proofBytes
	if _, err := conn.Write(said[:greeting]); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(conn, make([]byte, 1+nonceBytes+proofBytes)); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Write(said[greeting:]); err != nil {
		t.Fatal(err)
	}
	rest, _ := io.ReadAll(conn)
	if !bytes.Equal(rest, []byte{byte(notMember)}) {
		t.Errorf("it was answered %x", rest)
	}
	if heard := e.await(t); !strings.Contains(heard, "says that it is g:1") || !strings.Contains(heard, errProof.Error()) {
		t.Error(heard)
	}
}

// overhear is all that a member says to the node until it is taken for one.
func overhear(t *testing.T, node string, m *Membership) []byte {
	conn, err := net.Dial("tcp", node)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	tap := &tapped{Conn: conn}
	if _, _, err := (memberCreds{m}).ClientHandshake(t.Context(), node, tap); err != nil {
		t.Fatal(err)
	}
	return tap.said
}

type tapped struct {
	net.Conn
	said []byte
}

func (c *tapped) Write(b []byte) (int, error) {
	c.said = append(c.said, b...)
	return c.Conn.Write(b)
}

// Somebody who answers with what a member would, but for another caller's words, or with
// the caller's own proof, is not taken for a member.
func TestAFalseNode(t *testing.T) {
	secret := secure.NewSecret()
	for name, answerTo := range map[string]func(g greeting, nonce []byte) []byte{
		"its own role":    func(g greeting, nonce []byte) []byte { return g.proof("calls", secret, nonce, nil) },
		"another address": func(g greeting, nonce []byte) []byte { g.to = "z:1"; return g.proof("answers", secret, nonce, nil) },
		"another caller":  func(g greeting, nonce []byte) []byte { g.from = "z:1"; return g.proof("answers", secret, nonce, nil) },
		"another nonce": func(g greeting, nonce []byte) []byte {
			g.nonce[0]++
			return g.proof("answers", secret, nonce, nil)
		},
		"another connection": func(g greeting, nonce []byte) []byte {
			return g.proof("answers", secret, nonce, []byte("binding"))
		},
		"nothing": func(greeting, []byte) []byte { return make([]byte, proofBytes) },
	} {
		t.Run(name, func(t *testing.T) {
			here, there := net.Pipe()
			defer here.Close()
			go func() {
				defer there.Close()
				g, _, err := heedGreeting(there)
				if err != nil {
					t.Error(err)
					return
				}
				nonce := make([]byte, nonceBytes)
				_, _ = there.Write(append(append([]byte{byte(welcome)}, nonce...), answerTo(g, nonce)...))
			}()
			if err := (greeting{from: "g:1", to: "n:1"}).call(here, secret, nil); !errors.Is(err, errProof) {
				t.Errorf("%v", err)
			}
		})
	}
}

// Garbage costs a node nothing, and its answer the caller neither.
func TestGarbageForAGreeting(t *testing.T) {
	var e ear
	address := memberNode(t, &Membership{Secret: knows(secure.NewSecret()), Listener: e.listener()}, fake{})
	for _, said := range [][]byte{
		nil, []byte("GET / HTTP/1.1\r\n\r\n"), []byte("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"), []byte(magic),
		append([]byte(magic), make([]byte, nonceBytes)...), append([]byte(magic), append(make([]byte, nonceBytes), 0xff, 0xff)...),
	} {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = conn.Write(said)
		_ = conn.(*net.TCPConn).CloseWrite()
		if rest, _ := io.ReadAll(conn); len(rest) > 0 {
			t.Errorf("%q was answered %x", said, rest)
		}
		conn.Close()
	}
	for _, said := range []string{"\x01", "\x02", "\x09", "HTTP/1.1 400"} {
		here, there := net.Pipe()
		go func() {
			defer there.Close()
			_, _, _ = heedGreeting(there)
			_, _ = there.Write([]byte(said))
		}()
		if err := (greeting{from: "g:1", to: "n:1"}).call(here, secure.NewSecret(), nil); err == nil || !strings.HasPrefix(err.Error(), "n:1 ") {
			t.Errorf("%q: %v", said, err)
		}
		here.Close()
	}
}

// The page shows what is said, byte for byte.
func TestGreetingFormat(t *testing.T) {
	page, err := os.ReadFile("../../docs/format/wire.md")
	if err != nil {
		t.Fatal(err)
	}
	secret, err := secure.ParseSecret(strings.Repeat("5a", secure.SecretBytes))
	if err != nil {
		t.Fatal(err)
	}
	g := greeting{from: "g:1", to: "n:1"}
	nonce := bytes.Repeat([]byte{1}, nonceBytes)
	said := regexp.MustCompile(`\s`).ReplaceAllString(string(page), "")
	for name, b := range map[string][]byte{
		"greeting": g.bytes(), "answer": append(append([]byte{byte(welcome)}, nonce...), g.proof("answers", secret, nonce, nil)...),
		"proof": g.proof("calls", secret, nonce, nil), "end": {byte(welcome)},
	} {
		if !strings.Contains(said, hex.EncodeToString(b)) {
			t.Errorf("%s is not shown: %s", name, spaced(b))
		}
	}
}

func spaced(b []byte) string {
	var lines strings.Builder
	for i := 0; i < len(b); i += 24 {
		fmt.Fprintf(&lines, "\n  % x", b[i:min(i+24, len(b))])
	}
	return lines.String()
}

func FuzzGreeting(f *testing.F) {
	f.Add((&greeting{from: "g:1", to: "n:1"}).bytes())
	f.Add([]byte(strangers))
	f.Fuzz(func(t *testing.T, said []byte) {
		here, there := net.Pipe()
		defer here.Close()
		go func() { defer there.Close(); _, _ = there.Write(said) }()
		g, _, err := heedGreeting(here)
		if err == nil && !bytes.HasPrefix(said, g.bytes()) {
			t.Errorf("%q was read from %q", g.bytes(), said)
		}
	})
}
