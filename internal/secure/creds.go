package secure

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"sync/atomic"

	"google.golang.org/grpc/credentials"
)

// Credentials are gRPC's for connections that this process makes; each uses what the
// files say when it is made.
func (f *Files) Credentials() credentials.TransportCredentials { return creds{f} }

type creds struct{ f *Files }

// Info implements credentials.TransportCredentials.
func (creds) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: "tls"}
}

// Clone implements credentials.TransportCredentials.
func (c creds) Clone() credentials.TransportCredentials { return c }

// OverrideServerName implements credentials.TransportCredentials: nobody may.
func (creds) OverrideServerName(string) error {
	return errors.New("the other end's name is that of its address")
}

// ClientHandshake implements credentials.TransportCredentials.
func (c creds) ClientHandshake(ctx context.Context, address string, raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	u := &unheard{f: c.f}
	conn, info, err := credentials.NewTLS(u.watch(c.f.Dialing(""))).ClientHandshake(ctx, address, raw) // it takes the host from address
	if err != nil {
		return nil, nil, c.f.Explain(err)
	}
	u.Conn = conn
	return u, info, nil
}

// Dial connects to address over TCP and TLS, for protocol.
func (f *Files) Dial(ctx context.Context, address, protocol string) (net.Conn, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	raw, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	u := &unheard{f: f}
	cfg := u.watch(f.Dialing(host))
	cfg.NextProtos = []string{protocol}
	conn := tls.Client(raw, cfg)
	if err := conn.HandshakeContext(ctx); err != nil {
		raw.Close()
		return nil, f.Explain(err)
	}
	u.Conn = conn
	return u, nil
}

// unheard is a connection on which the other end has said nothing yet. By TLS 1.3 the
// handshake is over for this end before the other one judges its certificate, and what
// that says then may be lost with the connection.
type unheard struct {
	net.Conn
	f     *Files
	asked bool // for this end's certificate
	heard atomic.Bool
}

// watch has u know whether the other end asks for a certificate.
func (u *unheard) watch(cfg *tls.Config) *tls.Config {
	own := new(tls.Certificate) // none
	if len(cfg.Certificates) > 0 {
		own = &cfg.Certificates[0]
	}
	cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		u.asked = true
		return own, nil
	}
	return cfg
}

func (u *unheard) Read(b []byte) (int, error) {
	n, err := u.Conn.Read(b)
	if n > 0 {
		u.heard.Store(true)
	}
	return n, u.judge(err)
}

func (u *unheard) Write(b []byte) (int, error) {
	n, err := u.Conn.Write(b)
	return n, u.judge(err)
}

func (u *unheard) judge(err error) error {
	var late interface{ Timeout() bool }
	switch {
	case err == nil || !u.asked || u.heard.Load() || errors.Is(err, net.ErrClosed) || errors.As(err, &late) && late.Timeout():
		return err
	case Alert(err):
		return u.f.Explain(err)
	}
	return u.f.distrusted(err)
}

// ServerHandshake implements credentials.TransportCredentials.
func (creds) ServerHandshake(net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return nil, nil, errors.New("these credentials are for connections that this process makes")
}
