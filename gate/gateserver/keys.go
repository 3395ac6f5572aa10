package gateserver

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	grpcpeer "google.golang.org/grpc/peer"

	"github.com/xiaonanln/goverse/cluster/etcdmanager"
	"github.com/xiaonanln/goverse/internal/event"
	"github.com/xiaonanln/goverse/internal/secure"
)

// TLSConfig names the files that encrypt a kind of connection. They may be replaced while
// the process runs.
type TLSConfig = secure.TLSConfig

// doorTLS is what clients are shown.
func (c *GateServerConfig) doorTLS() TLSConfig {
	d := c.ClientTLS
	if d.CertFile == "" && d.KeyFile == "" {
		d.CertFile, d.KeyFile = c.TLS.CertFile, c.TLS.KeyFile
	}
	return d
}

// checkTLS says what is missing, before any file is opened.
func (c *GateServerConfig) checkTLS() error {
	var errs []error
	if c.TLS.Given() && c.Router == nil {
		errs = append(errs, c.TLS.Complete("--tls"))
	}
	if d := c.doorTLS(); d.Given() && (d.CertFile == "" || d.KeyFile == "") {
		errs = append(errs, errors.New("ClientTLS (--client-tls-…) is given without both a certificate and its key: name --client-tls-cert and --client-tls-key, or --tls-cert and --tls-key"))
	}
	if c.RequireTLS {
		errs = append(errs, secure.Refused(secure.Exposed(c.links()...)))
	}
	return errors.Join(errs...)
}

// links is what this gate speaks over.
func (c *GateServerConfig) links() []secure.Link {
	encrypted := c.doorTLS().Given()
	const mend = "give --client-tls-cert and --client-tls-key, or listen on localhost behind something that encrypts"
	list := []secure.Link{{What: "the gRPC port for clients", Address: c.ListenAddress, Encrypted: encrypted, Mend: mend}}
	if c.HTTPListenAddress != off {
		list = append(list, secure.Link{What: "the HTTP port for clients", Address: c.HTTPListenAddress, Encrypted: encrypted, Mend: mend})
	}
	if c.OpsListenAddress != off {
		list = append(list, secure.Link{What: "the operations port", Address: c.OpsListenAddress, Mend: "give --ops-listen on localhost"})
	}
	if c.Router != nil {
		return list // the node's own
	}
	list = append(list, secure.Link{What: "the connections to nodes", Address: "all nodes", Encrypted: c.TLS.Given() || c.onLoopback(), Mend: "give --tls-cert, --tls-key and --tls-ca"})
	for _, endpoint := range etcdmanager.Endpoints(c.EtcdAddress) {
		list = append(list, secure.Link{What: "the connection to etcd", Address: endpoint, Encrypted: c.EtcdTLS.Given(), Mend: "give --etcd-tls-ca, and --etcd-tls-cert and --etcd-tls-key if etcd wants to know its clients"})
	}
	return list
}

// onLoopback says that etcd is on this machine alone: so are the nodes, most likely.
func (c *GateServerConfig) onLoopback() bool {
	for _, endpoint := range etcdmanager.Endpoints(c.EtcdAddress) {
		if len(secure.Exposed(secure.Link{Address: endpoint})) > 0 {
			return false
		}
	}
	return true
}

// keys are the certificates that a gate runs with; nil where there are none.
type keys struct{ members, doors, etcd *secure.Files }

// openKeys reads them, and tells of what is in plain text.
func (s *GateServer) openKeys() (k keys, err error) {
	for _, f := range []struct {
		what string
		cfg  TLSConfig
		to   **secure.Files
	}{
		{"TLS between nodes and gates", s.cfg.TLS, &k.members}, {"TLS for clients", s.cfg.doorTLS(), &k.doors}, {"TLS to etcd", s.cfg.EtcdTLS, &k.etcd},
	} {
		if !f.cfg.Given() || s.cfg.Router != nil && f.to != &k.doors {
			continue
		}
		if *f.to, err = secure.Open(f.cfg, s.heard); err != nil {
			return k, fmt.Errorf("%s: %w", f.what, err)
		}
	}
	if k.members != nil {
		host, _, _ := net.SplitHostPort(s.address)
		if err := k.members.CheckMember(host); err != nil {
			return k, fmt.Errorf("TLS between nodes and gates: %w", err)
		}
	}
	for _, exposed := range secure.Exposed(s.cfg.links()...) {
		s.notice(event.Warn, exposed, nil)
	}
	return k, nil
}

// unlock reads the certificates once the gate's address is known.
func (s *GateServer) unlock() (err error) {
	if s.keys, err = s.openKeys(); err != nil {
		s.listen.close()
		s.listen = listeners{}
	}
	return err
}

// https is nil for plain HTTP.
func (k keys) https() *tls.Config {
	if k.doors == nil {
		return nil
	}
	return k.doors.Doors()
}

// etcdCredentials are nil for plain text.
func (k keys) etcdCredentials() credentials.TransportCredentials {
	if k.etcd == nil {
		return nil
	}
	return k.etcd.Credentials()
}

// grpc encrypts the gRPC port, if there is a certificate for clients.
func (k keys) grpc() []grpc.ServerOption {
	if k.doors == nil {
		return nil
	}
	return []grpc.ServerOption{grpc.Creds(credentials.NewTLS(k.doors.Doors()))}
}

// ClientCertificate is the certificate that the client of a call has shown, or nil. It
// was verified: ClientTLS names the authority that it is from. ctx is that of an
// interceptor or of OnClientAuthorise.
func ClientCertificate(ctx context.Context) *x509.Certificate {
	var state tls.ConnectionState
	if conn, ok := ctx.Value(connKey{}).(*tls.Conn); ok {
		state = conn.ConnectionState()
	} else if from, ok := grpcpeer.FromContext(ctx); ok {
		info, _ := from.AuthInfo.(credentials.TLSInfo)
		state = info.State
	}
	if len(state.VerifiedChains) == 0 {
		return nil
	}
	return state.VerifiedChains[0][0]
}
