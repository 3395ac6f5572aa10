package secure

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"time"
)

// Shown is the certificate that a port shows, judged from this end.
type Shown struct {
	NotBefore time.Time
	NotAfter  time.Time // of it, or of an authority above it that ends sooner
	Misnamed  error     // it is not for the host by which the port was reached; nil: it is
	Unsigned  error     // it is not a server's from the authorities of the Files; nil: it is
}

// Look is the certificate of the port at address, whatever is wrong with it. It shows the
// port this end's own, says nothing, and hangs up. The error of a port that was reached and
// has shown none is an Unshaken.
func (f *Files) Look(ctx context.Context, address string) (*Shown, error) {
	address = withoutScheme(address)
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	raw, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	defer raw.Close()
	var chain []*x509.Certificate
	cfg := f.Dialing(host)
	cfg.InsecureSkipVerify = true // it is judged below, and nothing follows
	cfg.VerifyConnection = func(s tls.ConnectionState) error {
		chain = s.PeerCertificates
		return nil
	}
	err = tls.Client(raw, cfg).HandshakeContext(ctx)
	if len(chain) == 0 {
		return nil, f.Explain(errors.Join(err, ctx.Err()))
	}
	return judge(chain, cfg.RootCAs, host, time.Now()), nil
}

// judge finds all that is wrong, where a handshake names the first thing only.
func judge(chain []*x509.Certificate, roots *x509.CertPool, host string, now time.Time) *Shown {
	leaf := chain[0]
	s := &Shown{NotBefore: leaf.NotBefore, NotAfter: leaf.NotAfter, Misnamed: leaf.VerifyHostname(host)}
	between := x509.NewCertPool()
	for _, c := range chain[1:] {
		between.AddCert(c)
	}
	within := now // its own time is judged apart
	if now.After(leaf.NotAfter) {
		within = leaf.NotAfter
	} else if now.Before(leaf.NotBefore) {
		within = leaf.NotBefore
	}
	chains, err := leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, CurrentTime: within})
	if err != nil {
		s.Unsigned = err
		return s
	}
	for _, c := range chains[0] {
		if c.NotAfter.Before(s.NotAfter) {
			s.NotAfter = c.NotAfter
		}
	}
	return s
}
