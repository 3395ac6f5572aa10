package peer

import (
	"crypto/tls"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/xiaonanln/goverse/internal/event"
	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/internal/secure"
	goverse_pb "github.com/xiaonanln/goverse/proto"
)

// office issues certificates of one authority.
type office struct {
	*secure.Authority
	dir string
}

func newOffice(t *testing.T) *office {
	a, files, err := secure.NewAuthority("test", time.Now().Add(-time.Hour), time.Now().AddDate(1, 0, 0))
	if err != nil {
		t.Fatal(err)
	}
	o := &office{a, t.TempDir()}
	if err := files.Write(filepath.Join(o.dir, "ca.pem"), filepath.Join(o.dir, "ca.key"), false); err != nil {
		t.Fatal(err)
	}
	return o
}

func (o *office) issue(t *testing.T, name string, h secure.Holder) secure.TLSConfig {
	t.Helper()
	h.NotBefore, h.NotAfter = time.Now().Add(-time.Hour), time.Now().AddDate(0, 6, 0)
	files, err := o.Issue(h)
	if err != nil {
		t.Fatal(err)
	}
	cfg := secure.TLSConfig{CertFile: filepath.Join(o.dir, name+".pem"), KeyFile: filepath.Join(o.dir, name+".key"), CAFile: filepath.Join(o.dir, "ca.pem")}
	if err := files.Write(cfg.CertFile, cfg.KeyFile, true); err != nil {
		t.Fatal(err)
	}
	return cfg
}

func opened(t *testing.T, c secure.TLSConfig) *secure.Files {
	t.Helper()
	f, err := secure.Open(c, event.Listener{})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

var here = secure.Holder{Hosts: []string{"127.0.0.1"}}

func TestMembersWithCertificates(t *testing.T) {
	o, other := newOffice(t), newOffice(t)
	secret := secure.NewSecret()
	node := o.issue(t, "node", here)
	foreign := other.issue(t, "foreign", here)
	foreign.CAFile = node.CAFile
	for _, c := range []struct {
		name         string
		node, caller secure.TLSConfig
		from         string
		told, heard  string // empty: all is well
	}{
		{"members", node, node, "127.0.0.1:1", "", ""},
		{"a caller that is not at its address", node, node, "10.0.0.9:1", "check --advertise", "not for 10.0.0.9"},
		{"a client's certificate", node, o.issue(t, "alice", secure.Holder{Client: "alice"}), "127.0.0.1:1", "check --advertise", "is a client's"},
		{"another authority", node, foreign, "127.0.0.1:1", "", "give both the same"},
		{"a node with another name", o.issue(t, "n2", secure.Holder{Hosts: []string{"n2"}}), node, "127.0.0.1:1", "names 127.0.0.1", ""},
		{"a caller without TLS", node, secure.TLSConfig{}, "127.0.0.1:1", "", "does not encrypt"},
		{"a node without TLS", secure.TLSConfig{}, node, "127.0.0.1:1", "", "where this port is encrypted"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var e ear
			m, caller := &Membership{Secret: knows(secret), Listener: e.listener()}, &Membership{Address: c.from, Secret: knows(secret)}
			if c.node.Given() {
				m.TLS = opened(t, c.node)
			}
			if c.caller.Given() {
				caller.TLS = opened(t, c.caller)
			}
			conn := memberDial(t, caller, memberNode(t, m, fake{call: echo}))
			_, err := conn.ServeCall(t.Context(), callOf(text("x")))
			if c.told == "" && c.heard == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			want(t, err, fault.NotReady, fault.NotExecuted)
			if err != nil && !strings.Contains(err.Error(), c.told) {
				t.Errorf("the caller: %v", err)
			}
			if heard := e.await(t); !strings.Contains(heard, c.heard) {
				t.Errorf("the node: %s", heard)
			}
		})
	}
}

// With a certificate, even a member's, but without the greeting nothing is served.
func TestACertificateAloneIsNoProof(t *testing.T) {
	o := newOffice(t)
	var e ear
	files := opened(t, o.issue(t, "node", here))
	address := memberNode(t, &Membership{Secret: knows(secure.NewSecret()), TLS: files, Listener: e.listener()}, fake{})
	for name, h := range map[string]secure.Holder{"client": {Client: "alice"}, "member": here} {
		cc, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(opened(t, o.issue(t, name, h)).Credentials()))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := goverse_pb.NewPeerServiceClient(cc).Call(t.Context(), new(goverse_pb.CallRequest)); status.Code(err) != codes.Unauthenticated {
			t.Errorf("%s: %v", name, err)
		}
		cc.Close()
	}
	if heard := e.await(t); !strings.Contains(heard, "without a proof") {
		t.Error(heard)
	}
}

// Somebody between two members, with a certificate of the authority for the node's very
// address, cannot pass their proofs on: they are for the connection that each sees.
func TestAProofIsForItsConnection(t *testing.T) {
	o := newOffice(t)
	secret := secure.NewSecret()
	files := opened(t, o.issue(t, "node", here))
	var e ear
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	between := l.Addr().String()
	m := &Membership{Secret: knows(secret), TLS: files, Listener: e.listener()}
	node := memberNode(t, m, fake{call: echo})
	m.Address = between // so that only the binding is wrong
	var both sync.WaitGroup
	both.Go(func() {
		raw, err := l.Accept()
		if err != nil {
			return
		}
		caller := tls.Server(raw, files.Members())
		defer caller.Close()
		on, err := net.Dial("tcp", node)
		if err != nil {
			t.Error(err)
			return
		}
		called := tls.Client(on, files.Dialing("127.0.0.1"))
		defer called.Close()
		both.Go(func() { pass(called, caller) })
		pass(caller, called)
	})
	raw, err := net.Dial("tcp", between)
	if err != nil {
		t.Fatal(err)
	}
	_, _, err = memberCreds{&Membership{Address: "127.0.0.1:1", Secret: knows(secret), TLS: files}}.ClientHandshake(t.Context(), between, raw)
	if err == nil || !strings.Contains(err.Error(), errProof.Error()) {
		t.Errorf("the caller: %v", err)
	}
	raw.Close()
	both.Wait()
}

// pass hands on what one side says until either is gone.
func pass(from, to net.Conn) {
	b := make([]byte, 4<<10)
	for {
		n, err := from.Read(b)
		if n > 0 {
			if _, err := to.Write(b[:n]); err != nil {
				break
			}
		}
		if err != nil {
			break
		}
	}
	from.Close()
	to.Close()
}

// Certificates, and the authority with them, are replaced while calls run: not one of
// them fails, and who connects afterwards is shown the new ones.
func TestNewCertificatesWhileCallsRun(t *testing.T) {
	o := newOffice(t)
	secret := secure.NewSecret()
	cfg := o.issue(t, "node", here)
	m := &Membership{Secret: knows(secret), TLS: opened(t, cfg)}
	address := memberNode(t, m, fake{call: echo})
	caller := &Membership{Address: "127.0.0.1:1", Secret: knows(secret), TLS: opened(t, cfg)}
	conn := memberDial(t, caller, address)
	var calls atomic.Int64
	enough, stop := make(chan struct{}), make(chan struct{})
	var running sync.WaitGroup
	for range 4 {
		running.Go(func() {
			for {
				if _, err := conn.ServeCall(t.Context(), callOf(text("x"))); err != nil {
					t.Error(err)
					return
				}
				if calls.Add(1) == 200 {
					close(enough)
				}
				select {
				case <-stop:
					return
				default:
				}
			}
		})
	}
	before := m.TLS.Members().Certificates[0].Leaf.SerialNumber
	o.issue(t, "node", here)
	fresh := func() bool { return m.TLS.Members().Certificates[0].Leaf.SerialNumber.Cmp(before) != 0 }
	for deadline := time.Now().Add(30 * time.Second); !fresh(); { // files are looked at once a second
		if time.Now().After(deadline) {
			t.Fatal("the new certificate is not taken")
		}
		another := memberDial(t, &Membership{Address: "127.0.0.1:2", Secret: knows(secret), TLS: caller.TLS}, address)
		if _, err := another.ServeCall(t.Context(), callOf(text("x"))); err != nil {
			t.Error(err)
		}
		_ = another.Close() // one at a time
	}
	another := memberDial(t, &Membership{Address: "127.0.0.1:2", Secret: knows(secret), TLS: caller.TLS}, address)
	if _, err := another.ServeCall(t.Context(), callOf(text("x"))); err != nil {
		t.Error(err)
	}
	<-enough
	close(stop)
	running.Wait()
}
