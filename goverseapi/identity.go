package goverseapi

import (
	"context"

	"github.com/xiaonanln/goverse/gate"
)

// Who the clients of a gate are: GateServerConfig.EventHandler. Package gate/auth has
// handlers for tokens.
type (
	// CallerIdentity is who a client has proved to be.
	CallerIdentity = gate.CallerIdentity
	// GateEventHandler says who clients are, and hears of their leaving.
	GateEventHandler = gate.EventHandler
)

// NoopGateEventHandler lets everybody in as nobody. Programs embed it to write one method
// only.
type NoopGateEventHandler struct{}

// OnClientAuthorise implements GateEventHandler.
func (NoopGateEventHandler) OnClientAuthorise(context.Context, map[string][]string) (*CallerIdentity, error) {
	return nil, nil
}

// OnClientDisconnect implements GateEventHandler.
func (NoopGateEventHandler) OnClientDisconnect(context.Context, string, *CallerIdentity) {}

var _ GateEventHandler = NoopGateEventHandler{}
