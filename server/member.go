package server

import (
	"context"
	"errors"
	"fmt"
	"net"

	"google.golang.org/grpc/credentials"

	"github.com/xiaonanln/goverse/cluster/etcdmanager"
	"github.com/xiaonanln/goverse/internal/event"
	"github.com/xiaonanln/goverse/internal/peer"
	"github.com/xiaonanln/goverse/internal/secure"
)

// TLSConfig names the files that encrypt a kind of connection. They may be replaced while
// the process runs.
type TLSConfig = secure.TLSConfig

// checkTLS says what is missing, before any file is opened.
func (c ServerConfig) checkTLS() error {
	var errs []error
	if c.TLS.Given() {
		errs = append(errs, c.TLS.Complete("--tls"))
	}
	if c.EtcdTLS.Given() && c.EtcdAddress == "" {
		errs = append(errs, errors.New("EtcdTLS (--etcd-tls-…) is for an etcd elsewhere, and this node runs its own, on loopback: leave it out, or name the etcd with --etcd"))
	}
	if c.RequireTLS {
		errs = append(errs, secure.Refused(secure.Exposed(c.links()...)))
	}
	return errors.Join(errs...)
}

// links is what this node speaks over.
func (c ServerConfig) links() []secure.Link {
	list := []secure.Link{
		{What: "the port for nodes and gates", Address: c.ListenAddress, Encrypted: c.TLS.Given(), Mend: "give --tls-cert, --tls-key and --tls-ca, or --listen on localhost"},
		{What: "the operations port", Address: c.MetricsListenAddress, Mend: "give --ops-listen on localhost"},
	}
	for _, endpoint := range etcdmanager.Endpoints(c.EtcdAddress) {
		list = append(list, secure.Link{What: "the connection to etcd", Address: endpoint, Encrypted: c.EtcdTLS.Given(), Mend: "give --etcd-tls-ca, and --etcd-tls-cert and --etcd-tls-key if etcd wants to know its clients"})
	}
	return list
}

// keys are the certificates that this node runs with; nil where there are none.
type keys struct{ members, etcd *secure.Files }

// openKeys reads them, and tells of what is in plain text.
func (r *assembly) openKeys() (k keys, err error) {
	if r.cfg.TLS.Given() {
		if k.members, err = secure.Open(r.cfg.TLS, r.events); err != nil {
			return k, fmt.Errorf("TLS between nodes and gates: %w", err)
		}
		host, _, _ := net.SplitHostPort(r.cfg.AdvertiseAddress)
		if err := k.members.CheckMember(host); err != nil {
			return k, fmt.Errorf("TLS between nodes and gates: %w", err)
		}
	}
	if r.cfg.EtcdTLS.Given() {
		if k.etcd, err = secure.Open(r.cfg.EtcdTLS, r.events); err != nil {
			return k, fmt.Errorf("TLS to etcd: %w", err)
		}
	}
	for _, exposed := range secure.Exposed(r.cfg.links()...) {
		r.notice(event.Warn, nil, "%s", exposed)
	}
	return k, nil
}

// etcdCredentials are nil for plain text.
func (k keys) etcdCredentials() credentials.TransportCredentials {
	if k.etcd == nil {
		return nil
	}
	return k.etcd.Credentials()
}

// membership is what this node and its peers prove to each other.
func (r *assembly) membership(secret func(context.Context) (secure.Secret, error)) *peer.Membership {
	return &peer.Membership{Address: r.cfg.AdvertiseAddress, Secret: secret, TLS: r.keys.members, Listener: r.events}
}
