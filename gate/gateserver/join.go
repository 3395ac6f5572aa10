package gateserver

import (
	"context"
	"fmt"

	"google.golang.org/grpc/credentials"

	members "github.com/xiaonanln/goverse/cluster"
	"github.com/xiaonanln/goverse/cluster/etcdmanager"
	"github.com/xiaonanln/goverse/internal/peer"
	"github.com/xiaonanln/goverse/internal/secure"
)

// join finds the router: the configured one, or a membership of the gate's own,
// which lasts until leave. Before leave the cluster still routes and pushes.
func (s *GateServer) join(ctx context.Context) (leave func(), err error) {
	if s.router = s.cfg.Router; s.router != nil {
		return func() {}, nil
	}
	kvs, hangUp, err := dialEtcd(s.cfg.EtcdAddress, s.keys.etcdCredentials())
	if err != nil {
		return nil, fmt.Errorf("joining the cluster (--etcd): %w", err)
	}
	for i := range kvs {
		kvs[i] = etcdmanager.Told(kvs[i], s.heard)
	}
	var c *members.Cluster // which knows the secret that the connections to its members begin with
	member := &peer.Membership{Address: s.address, TLS: s.keys.members, Listener: s.heard, Secret: func(ctx context.Context) (secure.Secret, error) { return c.Secret(ctx) }}
	c, err = members.New(members.Config{
		Address: s.address, Gate: true, HTTP: s.httpRoot(), KVs: kvs, Prefix: s.cfg.EtcdPrefix, Dialer: member.Dialer(s.heard),
		NumShards: s.cfg.NumShards, CallTimeout: s.cfg.DefaultCallTimeout, Listener: s.heard, Tracer: s.tracer,
	})
	if err != nil {
		hangUp()
		return nil, err
	}
	s.router = c
	membership, end := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		s.fail("the membership of the cluster", c.Run(membership, nil))
	}()
	return func() {
		end()
		<-ended
		hangUp()
	}, nil
}

func dialEtcd(addresses string, encrypt credentials.TransportCredentials) (kvs []etcdmanager.KV, hangUp func(), err error) {
	kvs, err = etcdmanager.DialAll(etcdmanager.Config{Endpoints: etcdmanager.Endpoints(addresses), Credentials: encrypt})
	if err != nil {
		return nil, nil, err
	}
	return kvs, func() {
		for _, kv := range kvs {
			_ = kv.Close() // nothing is under way any more
		}
	}, nil
}

// checkEtcd says what is wrong with the addresses before anything is dialled.
func (c *GateServerConfig) checkEtcd() error {
	cfg := etcdmanager.Config{Endpoints: etcdmanager.Endpoints(c.EtcdAddress)}
	if c.EtcdTLS.Given() {
		cfg.Credentials = credentials.NewTLS(nil) // the files are read when the gate starts
	}
	if err := cfg.Validate(); err != nil {
		return fmt.Errorf("EtcdAddress (--etcd), several separated by commas: %w", err)
	}
	return nil
}
