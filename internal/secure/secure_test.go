package secure

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/xiaonanln/goverse/internal/event"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// desk issues certificates into a folder.
type desk struct {
	*Authority
	t   *testing.T
	dir string
}

func newDesk(t *testing.T) *desk {
	d := &desk{t: t, dir: t.TempDir()}
	a, files, err := NewAuthority("test", time.Now().Add(-time.Hour), time.Now().AddDate(10, 0, 0))
	if err != nil {
		t.Fatal(err)
	}
	d.Authority = a
	d.write(files, "ca")
	return d
}

func (d *desk) write(files PEM, name string) {
	d.t.Helper()
	if err := files.Write(d.path(name+".pem"), d.path(name+".key"), true); err != nil {
		d.t.Fatal(err)
	}
}

func (d *desk) path(name string) string { return filepath.Join(d.dir, name) }

func (d *desk) issue(name string, h Holder) TLSConfig {
	d.t.Helper()
	if h.NotAfter.IsZero() {
		h.NotBefore, h.NotAfter = time.Now().Add(-time.Hour), time.Now().AddDate(1, 0, 0)
	}
	files, err := d.Issue(h)
	if err != nil {
		d.t.Fatal(err)
	}
	d.write(files, name)
	return TLSConfig{CertFile: d.path(name + ".pem"), KeyFile: d.path(name + ".key"), CAFile: d.path("ca.pem")}
}

func open(t *testing.T, c TLSConfig) *Files {
	t.Helper()
	f, err := Open(c, event.Listener{})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// shake is one handshake, with a byte each way so that both ends know how it went.
func shake(t *testing.T, server, client *tls.Config) (serverErr, clientErr error) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	there, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	here, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	end := func(c *tls.Conn) error {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		if err := c.HandshakeContext(ctx); err != nil {
			_ = c.Close() // as the owner of such a connection does
			return err
		}
		_, writeErr := c.Write([]byte{1})
		_, err := io.ReadFull(c, make([]byte, 1)) // it says why, where both fail
		return cmp.Or(err, writeErr)
	}
	var both sync.WaitGroup
	both.Go(func() { serverErr = end(tls.Server(here, server)) })
	both.Go(func() { clientErr = end(tls.Client(there, client)) })
	both.Wait()
	here.Close()
	there.Close()
	return serverErr, clientErr
}

// Whoever shows what is right is let in, and what is wrong is told at the end that sees it.
func TestHandshakes(t *testing.T) {
	d, other := newDesk(t), newDesk(t)
	node := d.issue("node", Holder{Hosts: []string{"n1", "10.0.0.1"}})
	gate := d.issue("gate", Holder{Hosts: []string{"g1"}})
	alice := d.issue("alice", Holder{Client: "alice"})
	foreign := other.issue("foreign", Holder{Hosts: []string{"n1"}})
	mixed := foreign
	mixed.CAFile = node.CAFile // it trusts this authority, and is of another
	anonymous := TLSConfig{CAFile: node.CAFile}
	for _, c := range []struct {
		name           string
		server, client TLSConfig
		host           string
		members        bool
		serverSays     string
		clientSays     string
	}{
		{"members", node, gate, "n1", true, "", ""},
		{"by an IP address", node, gate, "10.0.0.1", true, "", ""},
		{"another host", node, gate, "n2", true, "", "n2"},
		{"another IP address", node, gate, "10.0.0.2", true, "", "10.0.0.2"},
		{"a server of another authority", foreign, gate, "n1", true, "", "give both the same"},
		{"a caller of another authority", node, mixed, "n1", true, "give both the same", "is it from the authority there"},
		{"no certificate", node, anonymous, "n1", true, "didn't provide a certificate", "of which there is none"},
		{"a client without a certificate at a door", node, anonymous, "n1", false, "didn't provide a certificate", ""},
		{"a client at a door", node, alice, "n1", false, "", ""},
		{"a client of another authority at a door", node, mixed, "n1", false, "give both the same", ""},
		{"a client's certificate for a server", alice, gate, "alice", true, "", "TLS:"},
	} {
		t.Run(c.name, func(t *testing.T) {
			server, client := open(t, c.server), open(t, c.client)
			port := server.Members()
			if !c.members {
				port = server.Doors()
			}
			serverErr, clientErr := shake(t, port, client.Dialing(c.host))
			for _, end := range []struct {
				name string
				err  error
				f    *Files
				says string
			}{{"server", serverErr, server, c.serverSays}, {"client", clientErr, client, c.clientSays}} {
				switch {
				case end.says == "" && c.serverSays+c.clientSays == "" && end.err != nil:
					t.Errorf("%s: %v", end.name, end.err)
				case end.says != "" && (end.err == nil || !strings.Contains(end.f.Explain(end.err).Error(), end.says)):
					t.Errorf("%s: %v", end.name, end.f.Explain(end.err))
				}
			}
		})
	}
}

// A port for clients that names no authority asks for no certificate.
func TestADoorForAll(t *testing.T) {
	d := newDesk(t)
	node := d.issue("node", Holder{Hosts: []string{"n1"}})
	if s, c := shake(t, open(t, TLSConfig{CertFile: node.CertFile, KeyFile: node.KeyFile}).Doors(), open(t, TLSConfig{CAFile: node.CAFile}).Dialing("n1")); s != nil || c != nil {
		t.Error(s, c)
	}
}

// A certificate that has run out is refused by the other end, and by its owner at the start.
func TestExpired(t *testing.T) {
	d := newDesk(t)
	old := d.issue("old", Holder{Hosts: []string{"n1"}, NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: time.Now().Add(-time.Hour)})
	if _, err := Open(old, event.Listener{}); err == nil || !strings.Contains(err.Error(), old.CertFile+" has expired") {
		t.Error(err)
	}
	pair, err := tls.LoadX509KeyPair(old.CertFile, old.KeyFile)
	if err != nil {
		t.Fatal(err)
	}
	gate := open(t, d.issue("gate", Holder{Hosts: []string{"g1"}}))
	_, refused := shake(t, &tls.Config{Certificates: []tls.Certificate{pair}}, gate.Dialing("n1"))
	if refused == nil || !strings.Contains(gate.Explain(refused).Error(), "issue a new one there") {
		t.Error(refused)
	}
	early := d.issue("early", Holder{Hosts: []string{"n1"}, NotBefore: time.Now().Add(time.Hour), NotAfter: time.Now().Add(2 * time.Hour)})
	if _, err := Open(early, event.Listener{}); err == nil || !strings.Contains(err.Error(), "clock") {
		t.Error(err)
	}
}

// Each thing that can be wrong with the files is told with the file and what to do.
func TestWrongFiles(t *testing.T) {
	d, other := newDesk(t), newDesk(t)
	good := d.issue("node", Holder{Hosts: []string{"n1"}})
	second := d.issue("second", Holder{Hosts: []string{"n2"}})
	if err := os.WriteFile(d.path("empty"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		cfg  TLSConfig
		says []string
	}{
		"missing certificate": {TLSConfig{CertFile: d.path("none"), KeyFile: good.KeyFile}, []string{d.path("none"), "there is no certificate", "goverse cert"}},
		"missing key":         {TLSConfig{CertFile: good.CertFile, KeyFile: d.path("none")}, []string{d.path("none"), "there is no key"}},
		"missing authority":   {TLSConfig{CAFile: d.path("none")}, []string{d.path("none"), "there is no authority"}},
		"no pair":             {TLSConfig{CertFile: good.CertFile, KeyFile: second.KeyFile}, []string{good.CertFile, second.KeyFile, "no pair"}},
		"swapped":             {TLSConfig{CertFile: good.KeyFile, KeyFile: good.CertFile}, []string{good.KeyFile, "right file"}},
		"half":                {TLSConfig{CertFile: good.CertFile}, []string{"without its key"}},
		"the other half":      {TLSConfig{KeyFile: good.KeyFile}, []string{"without its certificate"}},
		"an empty authority":  {TLSConfig{CAFile: d.path("empty")}, []string{d.path("empty"), "no certificate in PEM"}},
		"a key for authority": {TLSConfig{CAFile: d.path("ca.key")}, []string{d.path("ca.key"), "alone"}},
		"a directory":         {TLSConfig{CAFile: d.dir}, []string{d.dir, "cannot be read"}},
	} {
		_, err := Open(c.cfg, event.Listener{})
		for _, says := range c.says {
			if err == nil || !strings.Contains(err.Error(), says) {
				t.Errorf("%s: %v does not say %q", name, err, says)
			}
		}
	}
	for host, says := range map[string]string{"n1": "", "n2": "issue one with --host n2"} {
		if err := open(t, good).CheckMember(host); (err == nil) != (says == "") || err != nil && !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", host, err)
		}
	}
	mixed := good
	mixed.CAFile = other.path("ca.pem")
	if err := open(t, mixed).CheckMember("n1"); err == nil || !strings.Contains(err.Error(), mixed.CAFile) {
		t.Error(err)
	}
	if err := open(t, d.issue("alice", Holder{Client: "alice"})).CheckMember("alice"); err == nil || !strings.Contains(err.Error(), "not one for a member") {
		t.Error(err)
	}
	if err := (TLSConfig{CAFile: "x"}).Complete("--tls"); err == nil || !strings.Contains(err.Error(), "--tls-cert") || !strings.Contains(err.Error(), "--tls-key") {
		t.Error(err)
	}
}

// What is written while the process runs counts a second later; a half-written pair, or a
// broken file, does not, and is told once.
func TestReload(t *testing.T) {
	d := newDesk(t)
	cfg := d.issue("node", Holder{Hosts: []string{"n1"}})
	d.issue("next", Holder{Hosts: []string{"n2"}})
	nextCert, _ := os.ReadFile(d.path("next.pem"))
	nextKey, _ := os.ReadFile(d.path("next.key"))
	var heard []string
	f, err := Open(cfg, event.Listener{Notice: func(n event.Notice) { heard = append(heard, n.String()) }})
	if err != nil {
		t.Fatal(err)
	}
	later := func() { // the next look comes now
		f.mu.Lock()
		f.looked = time.Time{}
		f.mu.Unlock()
	}
	is := func(host string) {
		t.Helper()
		later()
		if err := f.CheckMember(host); err != nil {
			t.Error(err)
		}
	}
	write := func(name string, b []byte) {
		t.Helper()
		if err := os.WriteFile(d.path(name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	is("n1")
	write("node.pem", nextCert) // the key is still the old one
	is("n1")
	is("n1")
	if len(heard) != 1 || !strings.Contains(heard[0], "no pair") {
		t.Errorf("%q", heard)
	}
	write("node.key", nextKey)
	is("n2")
	write("node.pem", nextCert[:len(nextCert)/2])
	is("n2")
	if err := os.Remove(d.path("ca.pem")); err != nil {
		t.Fatal(err)
	}
	is("n2")
	if len(heard) != 3 {
		t.Errorf("%q", heard)
	}
	write("node.pem", nextCert)
	fresh := newDesk(t)
	both, _ := os.ReadFile(fresh.path("ca.pem"))
	write("ca.pem", both)
	later()
	if err := f.CheckMember("n2"); err == nil { // the authority is another one, so this process's own certificate is no member's
		t.Error("the new authority does not count")
	}
}

// The files are looked at once a second, however many connections come.
func TestLooks(t *testing.T) {
	d := newDesk(t)
	cfg := d.issue("node", Holder{Hosts: []string{"n1"}})
	f := open(t, cfg)
	if err := os.Remove(cfg.CertFile); err != nil {
		t.Fatal(err)
	}
	f.mu.Lock()
	f.looked = time.Now().Add(time.Hour) // no look is due
	f.mu.Unlock()
	if err := f.CheckMember("n1"); err != nil || f.told != "" {
		t.Error(err, f.told)
	}
}

// A certificate that soon ends is told of once.
func TestSoonExpired(t *testing.T) {
	d := newDesk(t)
	cfg := d.issue("node", Holder{Hosts: []string{"n1"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour)})
	var heard []event.Notice
	f, err := Open(cfg, event.Listener{Notice: func(n event.Notice) { heard = append(heard, n) }})
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		f.mu.Lock()
		f.looked = time.Time{}
		f.mu.Unlock()
		f.Dialing("n1")
	}
	if len(heard) != 1 || heard[0].Severity != event.Warn || !strings.Contains(heard[0].Text, "no restart is needed") {
		t.Errorf("%v", heard)
	}
}

func TestExposed(t *testing.T) {
	for address, is := range map[string]bool{
		"localhost:1": false, "127.0.0.1:1": false, "[::1]:1": false, "http://127.0.0.1:2379": false, "": false,
		":47000": true, "0.0.0.0:1": true, "10.0.0.1:1": true, "node1:1": true, "localhost.example:1": true,
	} {
		l := Link{What: "the port", Address: address, Mend: "mend it"}
		list := Exposed(l)
		if len(list) > 0 != is || is && list[0] != "the port ("+address+") is in plain text beyond this machine: mend it" {
			t.Errorf("%q: %q", address, list)
		}
		if l.Encrypted = true; len(Exposed(l)) > 0 {
			t.Errorf("%q is encrypted", address)
		}
	}
	if err := Refused(nil); err != nil {
		t.Error(err)
	}
	if err := Refused([]string{"a", "b"}); err == nil || strings.Count(err.Error(), "--require-tls") != 2 {
		t.Error(err)
	}
}

func TestSecret(t *testing.T) {
	s := NewSecret()
	again, err := ParseSecret(s.Reveal())
	if err != nil || again != s || s == NewSecret() {
		t.Error(err)
	}
	text, _ := s.MarshalText()
	for _, shown := range []string{fmt.Sprint(s), fmt.Sprintf("%+v %#v %s %x %d", s, s, s, s, &s), string(text), s.LogValue().String(), fmt.Sprintf("%v", struct{ S Secret }{s})} {
		if strings.Contains(shown, s.Reveal()[:8]) || strings.Contains(shown, fmt.Sprint(s.key[:4])) {
			t.Errorf("%s", shown)
		}
	}
	for _, bad := range []string{"", "5a", strings.Repeat("0", 64), strings.Repeat("z", 64), strings.Repeat("5a", 33)} {
		if _, err := ParseSecret(bad); !errors.Is(err, errSecret) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestIssuing(t *testing.T) {
	d := newDesk(t)
	for _, h := range []Holder{{Hosts: []string{"n1:47000"}}, {Hosts: []string{""}}, {Hosts: []string{"a b"}}, {Hosts: []string{"n1"}, NotAfter: time.Now().AddDate(20, 0, 0)}} {
		if _, err := d.Issue(h); err == nil {
			t.Errorf("%+v", h)
		}
	}
	again, err := OpenAuthority(d.path("ca.pem"), d.path("ca.key"))
	if err != nil {
		t.Fatal(err)
	}
	files, err := again.Issue(Holder{Hosts: []string{"*.example.com"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	cert, key := d.path("w.pem"), d.path("w.key")
	if err := errors.Join(files.Write(cert, key, false), open(t, TLSConfig{cert, key, d.path("ca.pem")}).CheckMember("n7.example.com")); err != nil {
		t.Error(err)
	}
	if err := files.Write(cert, key, false); err == nil || !strings.Contains(err.Error(), "--force") {
		t.Error(err)
	}
	for _, file := range []string{cert, key} {
		if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%v, %v", info, err)
		}
	}
	if _, err := OpenAuthority(cert, key); err == nil || !strings.Contains(err.Error(), "no authority") {
		t.Error(err)
	}
}

// A port that encrypts is told from one that does not, or that is not there.
func TestEncrypts(t *testing.T) {
	d := newDesk(t)
	node := d.issue("node", Holder{Hosts: []string{"n1"}})
	for name, c := range map[string]struct {
		speak func(net.Conn)
		is    bool
	}{
		"for all": {func(c net.Conn) {
			_ = tls.Server(c, open(t, TLSConfig{CertFile: node.CertFile, KeyFile: node.KeyFile}).Doors()).Handshake()
		}, true},
		"for members":   {func(c net.Conn) { _ = tls.Server(c, open(t, node).Members()).Handshake() }, true},
		"hangs up":      {func(net.Conn) {}, false},
		"in plain text": {func(c net.Conn) { _, _ = c.Write([]byte("HTTP/1.1 400 Bad Request\r\n\r\n")) }, false},
	} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		var served sync.WaitGroup
		served.Go(func() {
			conn, err := l.Accept()
			if err != nil {
				t.Error(err)
				return
			}
			c.speak(conn)
			conn.Close()
		})
		if is := Encrypts(t.Context(), "https://"+l.Addr().String()); is != c.is {
			t.Errorf("%s: %v", name, is)
		}
		served.Wait()
		l.Close()
		if Encrypts(t.Context(), l.Addr().String()) {
			t.Errorf("%s: nobody is there", name)
		}
	}
}
