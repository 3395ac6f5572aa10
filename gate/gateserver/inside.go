package gateserver

import (
	"cmp"
	"context"

	"github.com/xiaonanln/goverse/gate"
	"github.com/xiaonanln/goverse/internal/most"
)

// maxToldAddresses bounds how many addresses Inside names.
const maxToldAddresses = 32

// Inside is what /debug/goverse of a gate shows: how it stands, as of now. Its lists are
// bounded, and it has neither messages nor what clients prove themselves by.
type Inside struct {
	Gate        string         `json:"gate"`
	Problems    []string       `json:"problems"` // none: it is ready
	Sessions    gate.Condition `json:"sessions"`
	Calls       CallsInside    `json:"calls"`
	Connections ConnsInside    `json:"connections"`
	Limits      LimitsInside   `json:"limits"`
}

// CallsInside counts what clients ask.
type CallsInside struct {
	Running int64  `json:"running"`
	Made    uint64 `json:"made"` // that were let in, so far
}

// ConnsInside is who is connected.
type ConnsInside struct {
	Open    int `json:"open"`
	Refused int `json:"refused"` // of these, that are still told why
	// Guests are the addresses, and the clients who call beside their sessions, that are
	// remembered, and Addresses those of them with the most connections.
	Guests    int             `json:"guests"`
	Addresses []AddressInside `json:"addresses"`
}

// AddressInside is one address.
type AddressInside struct {
	Address     string `json:"address"`
	Connections int    `json:"connections"`
	Calls       int    `json:"calls"` // under way, of no session
}

// LimitsInside are the limits as they hold now; -1: there is none.
type LimitsInside struct {
	Sessions           int      `json:"sessions"`
	Calls              int64    `json:"calls"`
	ClientCalls        int      `json:"client_calls"`
	Connections        int      `json:"connections"`
	AddressConnections int      `json:"address_connections"`
	AddressCalls       int      `json:"address_calls"`
	OpenRate           int      `json:"open_rate"`
	ClientRate         int      `json:"client_rate"`
	AddressRate        int      `json:"address_rate"`
	TrustedProxies     []string `json:"trusted_proxies"`
}

// inside looks at everything.
func (r *running) inside(life context.Context, c *calls) Inside {
	problems := r.server.problems(life)
	if problems == nil {
		problems = []string{}
	}
	return Inside{
		Gate: r.server.address, Problems: problems, Sessions: r.gate.Condition(),
		Calls:       CallsInside{c.running.Load(), c.made.Load()},
		Connections: c.visitors.inside(),
		Limits:      c.limits(),
	}
}

func (c *calls) limits() LimitsInside {
	v := c.visitors.now()
	return LimitsInside{
		Sessions: v.sessions, Calls: int64(v.calls), ClientCalls: v.clientCalls, Connections: v.Connections, AddressConnections: v.AddressConnections,
		AddressCalls: v.AddressCalls, OpenRate: v.OpenRate, ClientRate: v.ClientRate, AddressRate: v.AddressRate,
		TrustedProxies: append([]string{}, v.TrustedProxies...),
	}
}

func (t *guests) inside() ConnsInside {
	busiest := most.New(maxToldAddresses, func(a, b AddressInside) int {
		return cmp.Or(cmp.Compare(a.Connections, b.Connections), cmp.Compare(a.Calls, b.Calls), cmp.Compare(b.Address, a.Address))
	})
	t.mu.Lock()
	defer t.mu.Unlock()
	for w, v := range t.all {
		if w.address.IsValid() && (v.connections > 0 || v.calls > 0) {
			busiest.Add(AddressInside{w.address.String(), v.connections, v.calls})
		}
	}
	return ConnsInside{Open: t.open, Refused: t.cut, Guests: len(t.all), Addresses: busiest.List()}
}
