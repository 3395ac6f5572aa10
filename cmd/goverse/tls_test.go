package main

import (
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/xiaonanln/goverse/internal/event"
	"github.com/xiaonanln/goverse/internal/secure"
)

// door is a gate that answers every call with 5, and shows what it is given.
func door(t *testing.T, cert certFiles, clients string) *httptest.Server {
	t.Helper()
	files, err := secure.Open(secure.TLSConfig{CertFile: cert.Cert, KeyFile: cert.Key, CAFile: clients}, event.Listener{})
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("5")) }))
	s.TLS = files.Doors()
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	t.Cleanup(s.Close)
	return s
}

// A call reaches a gate that encrypts; what is wrong is told with what to do, and that it
// did not run.
func TestCallOverTLS(t *testing.T) {
	dir := t.TempDir()
	ca := issued(t, "ca", "--dir", filepath.Join(dir, "a"))
	foreign := issued(t, "ca", "--dir", filepath.Join(dir, "b"))
	gate := issued(t, "issue", "--dir", filepath.Join(dir, "a"), "--host", "127.0.0.1")
	elsewhere := issued(t, "issue", "--dir", filepath.Join(dir, "a"), "--host", "gate1")
	alice := issued(t, "issue", "--dir", filepath.Join(dir, "a"), "--client", "alice")
	open, closed, misnamed := door(t, gate, ""), door(t, gate, ca.Cert), door(t, elsewhere, "")
	plain := httptest.NewServer(open.Config.Handler)
	t.Cleanup(plain.Close)
	address := func(s *httptest.Server) string { return s.Listener.Addr().String() }
	trust := "--gate-tls-ca " + ca.Cert
	mine := " --gate-tls-cert " + alice.Cert + " --gate-tls-key " + alice.Key
	for _, c := range []struct {
		gate, flags string
		code        int
		says        string
	}{
		{address(open), trust, 0, ""},
		{"https://" + address(open), trust, 0, ""},
		{address(closed), trust + mine, 0, ""},
		{"http://" + address(open), trust, 2, "write https://"},
		{address(open), "", 1, "(NotExecuted): give --gate https://" + address(open) + ", with --gate-tls-ca"},
		{"https://" + address(open), "", 1, "the authority that this system trusts"},
		{address(open), "--gate-tls-ca " + foreign.Cert, 1, "not from the authority " + foreign.Cert},
		{address(closed), trust, 1, "did not take this one's certificate, of which there is none"},
		{address(misnamed), trust, 1, "that names 127.0.0.1"},
		{address(plain), trust, 1, "the other end does not encrypt"},
		{address(open), "--gate-tls-ca " + dir + "/none", 1, "--gate-tls-…: there is no authority at " + dir + "/none"},
		{address(open), "--gate-tls-cert " + alice.Cert, 1, "without its key"},
	} {
		out := here(t, nil, strings.Fields("call A/b M --timeout 10s --gate "+c.gate+" "+c.flags)...)
		if out.code != c.code || !strings.Contains(out.err, c.says) || c.code == 0 && out.stdout != "5\n" {
			t.Errorf("%s %s: %v", c.gate, c.flags, out)
		}
	}
	t.Chdir(dir)
	if err := os.Symlink(ca.Cert, "here.pem"); err != nil {
		t.Fatal(err)
	}
	if out := here(t, []string{"GOVERSE_GATE_TLS_CA=here.pem", "GOVERSE_GATE=" + address(open)}, "call", "A/b", "M"); out.code != 0 {
		t.Error(out)
	}
}

// What is wrong with the way to etcd is told before, or with what to do.
func TestEtcdOverTLS(t *testing.T) {
	dir := t.TempDir()
	ca := issued(t, "ca", "--dir", dir)
	etcd := door(t, issued(t, "issue", "--dir", dir, "--host", "127.0.0.1"), "").Listener.Addr().String() // it encrypts, which is all that counts here
	for _, c := range []struct{ args, says string }{
		{"nodes --timeout 300ms --etcd " + etcd, "encrypts its connections, and this end speaks in plain text: name the authority of its certificate (--etcd-tls-ca)"},
		{"nodes --etcd https://" + etcd, "--etcd-tls-ca"},
		{"nodes --etcd http://" + etcd + " --etcd-tls-ca " + ca.Cert, "leave out http://"},
		{"nodes --etcd " + etcd + " --etcd-tls-ca " + dir + "/none", "there is no authority at " + dir + "/none"},
	} {
		if out := here(t, nil, strings.Fields(c.args)...); out.code == 0 || !strings.Contains(out.err, c.says) {
			t.Errorf("%s: %v", c.args, out)
		}
	}
	if out := here(t, nil, "--help"); !strings.Contains(out.stdout, "--etcd-tls-ca file") || !strings.Contains(out.stdout, "GOVERSE_ETCD_TLS_CA") {
		t.Error(out)
	}
}
