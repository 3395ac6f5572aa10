package secure

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/xiaonanln/goverse/internal/event"
)

// Files is what a TLSConfig's files say now. They are looked at when a connection is
// made, once a second at most; while they make no sense, as when only one of a pair is
// written yet, what they said before counts. All methods may be called concurrently.
type Files struct {
	cfg TLSConfig
	on  event.Listener

	mu      sync.Mutex // protects following fields; held while files are read
	now     snapshot
	looked  time.Time
	seen    [3]stamp // of the files when they were read
	settled bool     // what was read then is what a later look would read
	told    string   // the last complaint
}

// snapshot is what the files said at one moment. Its values are not changed.
type snapshot struct {
	pair    *tls.Certificate // nil: none is named
	pool    *x509.CertPool   // nil: none is named
	doors   *tls.Config      // for a port; nil without a pair
	members *tls.Config      // for a port of members; nil without a pair or an authority
}

// stamp tells whether a file was written since.
type stamp struct {
	modified time.Time
	size     int64
	mode     fs.FileMode
}

const (
	lookEvery = time.Second
	// racy is for how long after a write another one may leave the same stamp.
	racy = 2 * time.Second
	// expiring is when a person should hear that a certificate ends.
	expiring = 7 * 24 * time.Hour
)

// Open reads the files of c. on hears, once each, why a change of them is not taken.
func Open(c TLSConfig, on event.Listener) (*Files, error) {
	f := &Files{cfg: c, on: on}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.looked = time.Now()
	if err := f.read(f.looked); err != nil {
		return nil, err
	}
	return f, nil
}

// current is what the files say.
func (f *Files) current() snapshot {
	f.mu.Lock()
	defer f.mu.Unlock()
	if now := time.Now(); now.Sub(f.looked) >= lookEvery {
		f.looked = now
		if err := f.read(now); err != nil {
			f.tell(event.Alarm, "the changed files for TLS are not taken, those before them count", err)
		} else if leaf := f.now.leaf(); leaf != nil && leaf.NotAfter.Sub(now) < expiring {
			f.tell(event.Warn, fmt.Sprintf("the certificate %s ends on %s: issue a new one in its place; no restart is needed", f.cfg.CertFile, day(leaf.NotAfter)), nil)
		} else {
			f.told = ""
		}
	}
	return f.now
}

func (s *snapshot) leaf() *x509.Certificate {
	if s.pair == nil {
		return nil
	}
	return s.pair.Leaf
}

func (f *Files) tell(s event.Severity, text string, err error) {
	n := event.Notice{Severity: s, From: "tls", Text: text, Err: err}
	if f.told == n.String() {
		return
	}
	f.told = n.String()
	if f.on.Notice != nil {
		f.on.Notice(n)
	}
}

// read takes what the files say, if they have changed. f.mu is held.
func (f *Files) read(now time.Time) error {
	stamps := f.stamps()
	if f.settled && stamps == f.seen {
		return nil
	}
	f.seen, f.settled = stamps, true
	for _, s := range stamps {
		f.settled = f.settled && now.Sub(s.modified) > racy
	}
	pair, err := f.cfg.pair(now)
	pool, caErr := f.cfg.authorities()
	if err = errors.Join(err, caErr); err != nil {
		f.settled = false // the rest may come at any moment
		return err
	}
	f.now = snapshot{pair: pair, pool: pool, doors: doors(pair, pool), members: members(pair, pool)}
	return nil
}

func (f *Files) stamps() (list [3]stamp) {
	for i, file := range []string{f.cfg.CertFile, f.cfg.KeyFile, f.cfg.CAFile} {
		if info, err := os.Stat(file); file != "" && err == nil {
			list[i] = stamp{info.ModTime(), info.Size(), info.Mode()}
		}
	}
	return list
}

// Dialing is for a connection to host: the other end must be that, by a certificate of
// the authorities, and sees this process's own if it asks. Make one for each connection.
func (f *Files) Dialing(host string) *tls.Config {
	s := f.current()
	c := &tls.Config{ServerName: host, RootCAs: s.pool, MinVersion: tls.VersionTLS12, NextProtos: []string{"h2"}}
	if s.pair != nil {
		c.Certificates = []tls.Certificate{*s.pair}
	}
	return c
}

// Doors is for a port for clients. With authorities, clients must show a certificate of
// theirs.
func (f *Files) Doors() *tls.Config {
	c := doors(f.current().pair, nil)
	c.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) { return f.current().doors, nil }
	return c
}

func doors(pair *tls.Certificate, clients *x509.CertPool) *tls.Config {
	c := &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"}}
	if pair != nil {
		c.Certificates = []tls.Certificate{*pair}
	}
	if clients != nil {
		c.ClientAuth, c.ClientCAs = tls.RequireAndVerifyClientCert, clients
		c.SessionTicketsDisabled = true // a certificate that is trusted no longer ends with its connection
	}
	return c
}

// Members is for one connection at a port for members: both ends show a certificate of
// the authorities, by TLS 1.3.
func (f *Files) Members() *tls.Config { return f.current().members }

func members(pair *tls.Certificate, pool *x509.CertPool) *tls.Config {
	if pool == nil {
		pool = x509.NewCertPool() // nobody's
	}
	c := doors(pair, pool)
	c.MinVersion, c.NextProtos = tls.VersionTLS13, []string{"h2"}
	return c
}

// CheckMember says why the others would not take this process for the member at host: a
// member's certificate is from the authority of all, for both ends of a connection, and
// names the host that its holder advertises.
func (f *Files) CheckMember(host string) error {
	s := f.current()
	if s.pair == nil || s.pool == nil {
		return errors.New("a member needs a certificate, its key and the cluster's authority")
	}
	between := x509.NewCertPool()
	for _, der := range s.pair.Certificate[1:] {
		if cert, err := x509.ParseCertificate(der); err == nil {
			between.AddCert(cert)
		}
	}
	for _, use := range []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth} {
		if _, err := s.pair.Leaf.Verify(x509.VerifyOptions{Roots: s.pool, Intermediates: between, KeyUsages: []x509.ExtKeyUsage{use}}); err != nil {
			return fmt.Errorf("the certificate %s is not one for a member by the authority %s: issue it from that, for servers and clients: %w", f.cfg.CertFile, f.cfg.CAFile, err)
		}
	}
	if err := names(s.pair.Leaf, host); err != nil {
		return fmt.Errorf("the certificate %s: %w", f.cfg.CertFile, err)
	}
	return nil
}

// Names says why the other end of a connection is not the member at host, by its
// certificate, which was verified.
func Names(state tls.ConnectionState, host string) error {
	if len(state.PeerCertificates) == 0 {
		return errors.New("it has shown no certificate")
	}
	leaf := state.PeerCertificates[0]
	if uses := leaf.ExtKeyUsage; len(uses) > 0 && !slices.Contains(uses, x509.ExtKeyUsageServerAuth) && !slices.Contains(uses, x509.ExtKeyUsageAny) {
		return fmt.Errorf("its certificate (%s) is a client's, not a member's", leaf.Subject)
	}
	return names(leaf, host)
}

func names(leaf *x509.Certificate, host string) error {
	if err := leaf.VerifyHostname(host); err != nil {
		return fmt.Errorf("it is not for %s; issue one with --host %[1]s, or advertise a host that it names: %w", host, err)
	}
	return nil
}

// Unshaken is why a handshake failed: nothing that was to follow it was heard.
type Unshaken struct{ error }

// Unwrap returns the cause.
func (u Unshaken) Unwrap() error { return u.error }

// Explain adds to an error of a handshake what to do about it.
func (f *Files) Explain(err error) error {
	if errors.As(err, new(Unshaken)) {
		return err
	}
	return Unshaken{f.explain(err)}
}

func (f *Files) explain(err error) error {
	var (
		unknown  x509.UnknownAuthorityError
		hostname x509.HostnameError
		invalid  x509.CertificateInvalidError
		plain    tls.RecordHeaderError
	)
	const format = "TLS: %w (%s)"
	switch {
	case errors.As(err, &unknown):
		return fmt.Errorf(format, err, "the other end's certificate is not from the authority "+or(f.cfg.CAFile, "that this system trusts")+": give both the same")
	case errors.As(err, &hostname):
		return fmt.Errorf(format, err, "issue a certificate for the other end that names "+hostname.Host)
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return fmt.Errorf(format, err, "the other end's certificate has expired: issue a new one there")
	case errors.As(err, &plain):
		return fmt.Errorf(format, err, "the other end does not encrypt: give it a certificate too, or leave out the flags with which this one does")
	case Alert(err):
		return f.distrusted(err)
	}
	return fmt.Errorf("TLS: %w", err)
}

// distrusted says what to do where the other end does not like this one's certificate.
func (f *Files) distrusted(err error) error {
	if f.cfg.CertFile == "" {
		return fmt.Errorf("TLS: %w (the other end did not take this one's certificate, of which there is none: name one, and its key)", err)
	}
	return fmt.Errorf("TLS: %w (the other end did not take this one's certificate, %s: is it from the authority there, and in time?)", err, f.cfg.CertFile)
}

// Alert says whether err is what the other end said of a handshake that it did not like.
func Alert(err error) bool {
	var said *net.OpError
	return errors.As(err, &said) && said.Op == "remote error" // crypto/tls has no better name for it
}

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}
