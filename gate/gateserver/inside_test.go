package gateserver

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"github.com/xiaonanln/goverse/object"
)

// What a gate shows of itself on /debug/goverse, as people and programs read it.
func TestInside(t *testing.T) {
	entered, let := make(chan struct{}, 1), make(chan struct{})
	router := newCluster(func(ctx context.Context, call object.Call) (object.Payload, error) {
		entered <- struct{}{}
		<-let
		return call.Payload, nil
	})
	s := start(t, router, func(c *GateServerConfig) {
		c.AdvertiseAddress, c.MaxSessions, c.MaxCalls, c.MaxClientCalls = "gate:1", 10, 20, 30
		c.Limits.AddressRate, c.Limits.TrustedProxies = Unlimited, []string{"10.0.0.0/8"}
	})
	p := socketTo(t, s)
	_, _ = register(t, t.Context(), dial(t, s))
	_, _ = follow(t, t.Context(), s)
	p.say(`{"op":"call","seq":1,"type":"Room","id":"a","method":"Canary","request":{"value":"canary"}}`)
	<-entered
	r, err := http.NewRequestWithContext(t.Context(), "GET", "http://"+s.OpsAddr()+"/debug/goverse", nil)
	if err != nil {
		t.Fatal(err)
	}
	got := do(t, r)
	close(let)
	p.next()
	const want = `{
  "gate": "gate:1",
  "problems": [],
  "sessions": {
    "sessions": 3,
    "max": 10,
    "doors": {
      "events": 1,
      "grpc": 1,
      "websocket": 1
    },
    "resumable": 0,
    "away": 0,
    "messages": 0,
    "kept": 0,
    "bytes": 0,
    "pushed": 0,
    "fullest": []
  },
  "calls": {
    "running": 1,
    "made": 1
  },
  "connections": {
    "open": 3,
    "refused": 0,
    "guests": 0,
    "addresses": []
  },
  "limits": {
    "sessions": 10,
    "calls": 20,
    "client_calls": 30,
    "connections": 60000,
    "address_connections": 2000,
    "address_calls": 256,
    "open_rate": 20,
    "client_rate": 20000,
    "address_rate": -1,
    "trusted_proxies": [
      "10.0.0.0/8"
    ]
  }
}`
	if got.status != 200 || strings.TrimSpace(got.body) != want {
		t.Errorf("%d %s\nwant\n%s", got.status, got.body, want)
	}
}

// However many addresses there are, few are named, the busiest first.
func TestInsideNamesFewAddresses(t *testing.T) {
	g := newVisitors(&GateServerConfig{}, nil)
	const addresses = 3 * maxToldAddresses
	for i := range addresses {
		for range 1 + i%2 {
			g.connect(netip.MustParseAddr(fmt.Sprintf("192.0.2.%d", i)))
		}
	}
	c := g.inside()
	if c.Open != addresses*3/2 || c.Guests != addresses || len(c.Addresses) != maxToldAddresses {
		t.Fatalf("%+v", c)
	}
	if first, last := c.Addresses[0], c.Addresses[maxToldAddresses-1]; first != (AddressInside{"192.0.2.1", 2, 0}) || last.Connections != 2 {
		t.Errorf("%+v … %+v", first, last)
	}
}
