package server

import (
	"context"

	"github.com/xiaonanln/goverse/internal/peer"
	"github.com/xiaonanln/goverse/internal/secure"
)

// membership is what this node and its peers prove to each other.
func (r *assembly) membership(secret func(context.Context) (secure.Secret, error)) *peer.Membership {
	return &peer.Membership{Address: r.cfg.AdvertiseAddress, Secret: secret, Listener: r.events}
}
