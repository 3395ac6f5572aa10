package inspector

import (
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"

	"github.com/xiaonanln/goverse/cluster/census"
	"github.com/xiaonanln/goverse/internal/event"
	"github.com/xiaonanln/goverse/internal/peer"
	"github.com/xiaonanln/goverse/internal/secure"
)

// TLSConfig names the files that encrypt the inspector's port. They may be replaced while
// it runs.
type TLSConfig = secure.TLSConfig

// checkTLS says what is missing, before any file is opened.
func (c Config) checkTLS() error {
	var errs []error
	if c.TLS.Given() && (c.TLS.CertFile == "" || c.TLS.KeyFile == "") {
		errs = append(errs, errors.New("the inspector's port is to be encrypted without both a certificate and its key: name --tls-cert and --tls-key"))
	}
	if c.MemberTLS.Given() {
		errs = append(errs, c.MemberTLS.Complete("--member-tls"))
	}
	if c.RequireTLS {
		errs = append(errs, secure.Refused(c.exposed()))
	}
	return errors.Join(errs...)
}

// exposed says whether the port is in plain text beyond this machine.
func (c Config) exposed() []string {
	return secure.Exposed(secure.Link{What: "the inspector's port", Address: c.ListenAddress, Encrypted: c.TLS.Given(), Mend: "give --tls-cert and --tls-key, or listen on localhost"})
}

// serving is how the port is served: encrypted, if there is a certificate.
func (i *Inspector) serving(s *http.Server) (func(net.Listener) error, error) {
	if !i.cfg.TLS.Given() {
		for _, text := range i.cfg.exposed() {
			i.notice(event.Warn, text)
		}
		return s.Serve, nil
	}
	keys, err := secure.Open(i.cfg.TLS, i.cfg.Listener)
	if err != nil {
		return nil, fmt.Errorf("TLS of the inspector's port: %w", err)
	}
	s.TLSConfig = keys.Doors()
	s.ErrorLog = log.New(io.Discard, "", 0) // of each handshake that fails: whoever made it knows
	return func(l net.Listener) error { return s.ServeTLS(l, "", "") }, nil
}

func (i *Inspector) notice(s event.Severity, text string) {
	if heard := i.cfg.Listener.Notice; heard != nil {
		heard(event.Notice{Severity: s, From: "inspector", Text: text})
	}
}

// dialer reaches the nodes.
func (i *Inspector) dialer() (peer.Dialer, error) {
	if i.cfg.Dialer != nil || !i.cfg.MemberTLS.Given() {
		return i.dialerWith(nil), nil
	}
	keys, err := secure.Open(i.cfg.MemberTLS, i.cfg.Listener)
	if err != nil {
		return nil, fmt.Errorf("TLS to the nodes: %w", err)
	}
	return i.dialerWith(keys), nil
}

func (i *Inspector) dialerWith(keys *secure.Files) peer.Dialer {
	if i.cfg.Dialer != nil {
		return i.cfg.Dialer
	}
	return census.NewDialer(i.cfg.Name, i.secret, keys, i.cfg.Listener)
}
