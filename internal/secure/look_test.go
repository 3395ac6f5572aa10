package secure

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/xiaonanln/goverse/internal/event"
)

// What a port shows is seen also where it then refuses this end, and by TLS 1.2.
func TestLook(t *testing.T) {
	now, dir := time.Now(), t.TempDir()
	a, ca, err := NewAuthority("test", now.Add(-time.Hour), now.AddDate(0, 0, 30))
	if err != nil {
		t.Fatal(err)
	}
	cfg := TLSConfig{CAFile: filepath.Join(dir, "ca.pem")}
	if err := ca.Write(cfg.CAFile, filepath.Join(dir, "ca.key"), false); err != nil {
		t.Fatal(err)
	}
	files, err := Open(cfg, event.Listener{})
	if err != nil {
		t.Fatal(err)
	}
	made, err := a.Issue(Holder{Hosts: []string{"127.0.0.1"}, NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(0, 0, 20)})
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(made.Cert, made.Key)
	if err != nil {
		t.Fatal(err)
	}
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{pair}, MaxVersion: version, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: x509.NewCertPool()})
		if err != nil {
			t.Fatal(err)
		}
		served := make(chan struct{})
		go func() {
			defer close(served)
			if c, err := l.Accept(); err == nil {
				_ = c.(*tls.Conn).Handshake() // it refuses
				c.Close()
			}
		}()
		s, err := files.Look(t.Context(), l.Addr().String())
		if err != nil || s.Misnamed != nil || s.Unsigned != nil || s.NotAfter.Sub(now) < 19*24*time.Hour {
			t.Errorf("%x: %+v, %v", version, s, err)
		}
		<-served
		l.Close()
		if _, err := files.Look(t.Context(), l.Addr().String()); err == nil || errors.As(err, new(Unshaken)) {
			t.Errorf("a port that is closed: %v", err)
		}
	}
}

// An authority that ends before its certificate ends that, too.
func TestAnAuthorityThatEnds(t *testing.T) {
	now := time.Now()
	a, ca, err := NewAuthority("test", now.Add(-time.Hour), now.AddDate(0, 0, 30))
	if err != nil {
		t.Fatal(err)
	}
	ends := a.cert.NotAfter
	a.cert.NotAfter = now.AddDate(1, 0, 0) // so that it issues beyond its own end
	made, err := a.Issue(Holder{Hosts: []string{"n1"}, NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(0, 6, 0)})
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(made.Cert, made.Key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(pair.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca.Cert)
	if s := judge([]*x509.Certificate{leaf}, roots, "n1", now); !s.NotAfter.Equal(ends) || s.Unsigned != nil || s.Misnamed != nil {
		t.Errorf("%+v", s)
	}
	if s := judge([]*x509.Certificate{leaf}, roots, "n2", now); s.Misnamed == nil {
		t.Errorf("%+v", s)
	}
}
