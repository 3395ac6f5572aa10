package main

import (
	"context"
	"errors"
	"flag"

	"github.com/spf13/cobra"

	"github.com/xiaonanln/goverse/cluster/census"
	"github.com/xiaonanln/goverse/internal/event"
	"github.com/xiaonanln/goverse/internal/secure"
)

// nodeFlags is by what a command that asks nodes is known to them.
func (p *program) nodeFlags(c *cobra.Command) {
	goFlags(c.Flags(), func(fs *flag.FlagSet) {
		p.flags.nodeTLS.Flags(fs, "node-tls", "that nodes are shown: a member's, for the host goverse", "the nodes' certificates are from; without it they are spoken to in plain text")
	})
}

// self is what nodes are told of this program.
const self = "goverse:0"

// peers is the way to the nodes of the cluster in v, by the secret that is in its etcd.
// The caller closes it.
func (p *program) peers(v *picture) (*census.Peers, error) {
	secret := v.Secret()
	if !secret.Known() {
		return nil, errors.New("the cluster has no secret in etcd yet, so its nodes would refuse to be asked: a node writes it once it has started")
	}
	var files *secure.Files
	if p.flags.nodeTLS.Given() {
		var err error
		if files, err = p.keys("node", p.flags.nodeTLS); err != nil {
			return nil, err
		}
	}
	return census.NewPeers(census.NewDialer(self, func(context.Context) (secure.Secret, error) { return secret, nil }, files, event.Listener{})), nil
}
