package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/xiaonanln/goverse/cluster/etcdmanager/memkv"
	"github.com/xiaonanln/goverse/internal/event"
	"github.com/xiaonanln/goverse/internal/peer"
	"github.com/xiaonanln/goverse/internal/secure"
	"github.com/xiaonanln/goverse/test/pg"
)

// lone is the cluster of one node that is no more than its port.
type lone struct {
	store   *memkv.Store
	address string
	refused atomic.Int64 // callers
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
	m := &peer.Membership{
		Address: c.address, TLS: files, Secret: func(context.Context) (secure.Secret, error) { return secret, nil },
		Listener: event.Listener{AccessDenied: func(event.AccessDenied) { c.refused.Add(1) }},
	}
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

// port is one that shows a certificate of a's, and nothing else.
func port(t *testing.T, a *secure.Authority, h secure.Holder) (address string) {
	t.Helper()
	files, err := a.Issue(h)
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(files.Cert, files.Key)
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewUnstartedServer(http.NotFoundHandler())
	s.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, NextProtos: []string{"h2"}}
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

// Whatever is wrong with what etcd, nodes and gates show is seen in the handshake.
func TestDoctorOfCertificates(t *testing.T) {
	now, ca := time.Now(), filepath.Join(t.TempDir(), "ca.pem")
	authority := func() (*secure.Authority, secure.PEM) {
		a, files, err := secure.NewAuthority("test", now.AddDate(-1, 0, 0), now.AddDate(2, 0, 0))
		if err != nil {
			t.Fatal(err)
		}
		return a, files
	}
	ours, files := authority()
	foreign, _ := authority()
	if err := files.Write(ca, ca+".key", false); err != nil {
		t.Fatal(err)
	}
	here := secure.Holder{Hosts: []string{"127.0.0.1"}, NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(1, 0, 0)}
	expired, soon, later, elsewhere := here, here, here, here
	expired.NotBefore, expired.NotAfter = now.AddDate(0, -1, 0), now.Add(-time.Minute)
	soon.NotAfter = now.AddDate(0, 0, 5).Add(time.Hour)
	later.NotBefore = now.Add(time.Hour)
	elsewhere.Hosts = []string{"n2"}
	for _, c := range []struct {
		by   *secure.Authority
		h    secure.Holder
		says string // of WHOSE
	}{
		{ours, here, "well   tls       1 certificate of WHOSE: from the authority"},
		{ours, soon, "note   tls       the certificate of WHOSE ADDRESS, or its authority, ends in 5 days, on "},
		{ours, expired, "wrong  tls       the certificate of WHOSE ADDRESS, or its authority, has expired, on "},
		{ours, later, "wrong  tls       the certificate of WHOSE ADDRESS is good from "},
		{ours, elsewhere, "wrong  tls       the certificate of WHOSE ADDRESS is for another host: "},
		{foreign, here, "wrong  tls       the certificate of WHOSE ADDRESS is not from the authority " + ca},
	} {
		address := port(t, c.by, c.h)
		for _, link := range []struct{ whose, flags, key string }{
			{"etcd", "--etcd ADDRESS --etcd-tls-ca " + ca, ""},
			{"the node", "--node-tls-ca " + ca, "nodes"},
			{"the gate", "--node-tls-ca " + ca, "gates"},
			{"the gate", "--gate-tls-ca " + ca, "gates"},
		} {
			store := memkv.NewStore()
			keys := `put meta {"cluster":"c1","boot":"b1","store":"s1","shards":1}` + "\n"
			if link.key != "" {
				keys += "put " + link.key + "/ADDRESS " + `{"reg":"r1","state":"ready","ver":"v1","store":"s1"}` + "\nput reg/r1 ADDRESS\n"
			}
			fill := strings.NewReplacer("ADDRESS", address, "WHOSE", link.whose)
			write(t, store, fill.Replace(keys))
			out := runOn(t, connectTo(t, store, true), nil, strings.Fields("doctor "+fill.Replace(link.flags))...)
			if !strings.Contains(out.stdout, fill.Replace(c.says)) {
				t.Errorf("%s of %s %s: %v", c.says, link.whose, address, out)
			}
			store.Close()
		}
	}
	plain := newLone(t, nil, 0)
	if out := plain.doctor(t, "--node-tls-ca", ca); !strings.Contains(out.stdout, "shows no certificate: TLS: ") {
		t.Error(out)
	}
	if out := plain.doctor(t, "--node-tls-ca", ca+".none"); !strings.Contains(out.stdout, "there is no authority at") {
		t.Error(out)
	}
}

// A member's certificate is shown to nodes: doctor asks them, looks at theirs, and is not
// told of as somebody who was refused.
func TestDoctorOfAnEncryptedCluster(t *testing.T) {
	dir := t.TempDir()
	ca := issued(t, "ca", "--dir", dir)
	node := issued(t, "issue", "--dir", dir, "--host", "127.0.0.1")
	mine := issued(t, "issue", "--dir", dir, "--host", "goverse")
	files, err := secure.Open(secure.TLSConfig{CertFile: node.Cert, KeyFile: node.Key, CAFile: ca.Cert}, event.Listener{})
	if err != nil {
		t.Fatal(err)
	}
	cluster := newLone(t, files, 0)
	out := cluster.doctor(t, "--node-tls-cert", mine.Cert, "--node-tls-key", mine.Key, "--node-tls-ca", ca.Cert)
	if out.code != 0 || !strings.Contains(out.stdout, "well   tls       1 certificate of the node: ") || !strings.Contains(out.stdout, "well   ports ") {
		t.Error(out)
	}
	if n := cluster.refused.Load(); n != 0 {
		t.Errorf("%d callers were refused", n)
	}
}

// The database is held against what the cluster's keys say of its store.
func TestDoctorOfAStore(t *testing.T) {
	url := pg.Private(t).Database(t)
	env := map[string]string{postgresVariable: url}
	store := memkv.NewStore()
	defer store.Close()
	says := func(words string, args ...string) {
		t.Helper()
		if out := runOn(t, connectTo(t, store, true), env, append([]string{"doctor"}, args...)...); !strings.Contains(out.stdout, words) {
			t.Errorf("%s: %v", words, out)
		}
	}
	write(t, store, `put meta {"cluster":"c1","boot":"b1","store":"s1","shards":1}`)
	says("has no tables of Goverse")
	if out := runOn(t, nil, env, "db", "init"); out.code != 0 {
		t.Fatal(out)
	}
	says(", and the cluster's is s1")
	var status struct {
		StoreID string `json:"storeId"`
	}
	if err := json.Unmarshal([]byte(runOn(t, nil, env, "db", "status", "-o", "json").stdout), &status); err != nil {
		t.Fatal(err)
	}
	write(t, store, `put meta {"cluster":"c1","boot":"b1","store":"`+status.StoreID+`","shards":1}`)
	says("well   store")
	says("wrong  store     ", "--postgres", "postgres://"+closedPort(t)+"/goverse")
	says("wrong  store     ", "--postgres", "http://h")
}
