package gateserver

import (
	"errors"
	"fmt"
	"net/netip"
	"time"
)

// Limits is what a gate lets its clients do, beside what the messages may be (4 MiB) and
// what stands in GateServerConfig. Zero values mean the defaults, and of a number Unlimited
// means no limit. docs/limits.md is the table of all limits.
//
// An address is an IPv4 address or the /64 of an IPv6 one. Clients on loopback have no
// address in this sense, nor have trusted proxies that do not name the client, and so
// nothing that is counted by address or by rate holds for them; unless LimitLoopback is set.
type Limits struct {
	Connections        int // open connections to the ports of clients; default 60,000
	AddressConnections int // of one address; default 2,000

	// OpenRate is how many connections one address may open per second, and likewise how
	// many sessions, OpenBurst how many at once; default 20 and 100.
	OpenRate, OpenBurst int
	// ClientRate is how many calls one client may make per second, ClientBurst how many
	// at once; default 20,000 and as many. A client is a session here.
	ClientRate, ClientBurst int
	// AddressRate is the same for all clients of an address; default 50,000.
	AddressRate, AddressBurst int
	// AddressCalls is how many calls of one address may be under way that belong to no
	// session; default 256. MaxClientCalls is the same for a session.
	AddressCalls int

	ConnectionStreams int // requests under way on one HTTP/2 connection; the client waits with more. Default 1,024
	HeaderBytes       int // of a request's headers; default 64 KiB

	HeaderTimeout time.Duration // for a request's headers, and a new connection's first words; default 10 s
	IdleTimeout   time.Duration // for a connection without requests; default 5 min
	// BodyRate is how many bytes per second of a request arrive at least, after BodyGrace;
	// default 16 KiB and 10 s.
	BodyRate  int
	BodyGrace time.Duration
	// AnswerRate is how many bytes per second of long messages a connection of gRPC takes
	// at least, while it has any to take; default 4 KiB.
	AnswerRate int
	// AnswerBytes is how many bytes of long answers, over 64 KiB, the gate keeps for clients
	// who have not taken them yet, and AddressAnswerBytes how many for those of one address; default 256 and 32 MiB. One answer alone may have more.
	AnswerBytes, AddressAnswerBytes int

	// TrustedProxies are the networks, as 10.0.0.0/8, of proxies whose X-Forwarded-For
	// names the client.
	TrustedProxies []string
	// LimitLoopback counts clients on loopback as any other address.
	LimitLoopback bool
}

// Unlimited in place of a number of Limits is no limit.
const Unlimited = -1

func (l Limits) withDefaults() Limits {
	number := func(n *int, value int) {
		if *n == 0 {
			*n = value
		}
	}
	number(&l.Connections, 60_000)
	number(&l.AddressConnections, 2000)
	number(&l.OpenRate, 20)
	number(&l.OpenBurst, max(100, l.OpenRate))
	number(&l.ClientRate, 20_000)
	number(&l.ClientBurst, l.ClientRate)
	number(&l.AddressRate, 50_000)
	number(&l.AddressBurst, l.AddressRate)
	number(&l.AddressCalls, 256)
	number(&l.ConnectionStreams, 1024)
	number(&l.HeaderBytes, 64<<10)
	number(&l.BodyRate, 16<<10)
	number(&l.AnswerRate, 4<<10)
	number(&l.AnswerBytes, 256<<20)
	number(&l.AddressAnswerBytes, 32<<20)
	if l.BodyGrace == 0 {
		l.BodyGrace = 10 * time.Second
	}
	if l.HeaderTimeout == 0 {
		l.HeaderTimeout = 10 * time.Second
	}
	if l.IdleTimeout == 0 {
		l.IdleTimeout = 5 * time.Minute
	}
	return l
}

// check reports everything that is wrong with l.
func (l Limits) check() error {
	var errs []error
	for _, n := range []struct {
		name      string
		value     int
		unlimited bool // may be
	}{
		{"Connections", l.Connections, true}, {"AddressConnections", l.AddressConnections, true}, {"OpenRate", l.OpenRate, true},
		{"OpenBurst", l.OpenBurst, true}, {"ClientRate", l.ClientRate, true}, {"ClientBurst", l.ClientBurst, true}, {"AddressRate", l.AddressRate, true},
		{"AddressBurst", l.AddressBurst, true}, {"AddressCalls", l.AddressCalls, true}, {"ConnectionStreams", l.ConnectionStreams, false},
		{"HeaderBytes", l.HeaderBytes, false}, {"BodyRate", l.BodyRate, false}, {"AnswerRate", l.AnswerRate, false},
		{"AnswerBytes", l.AnswerBytes, true}, {"AddressAnswerBytes", l.AddressAnswerBytes, true},
	} {
		switch {
		case n.value < 0 && !n.unlimited:
			errs = append(errs, fmt.Errorf("the number Limits.%s is %d; it cannot be negative", n.name, n.value))
		case n.value < Unlimited:
			errs = append(errs, fmt.Errorf("the number Limits.%s is %d; give a number, or %d for no limit", n.name, n.value, Unlimited))
		}
	}
	if l.HeaderTimeout < 0 || l.IdleTimeout < 0 || l.BodyGrace < 0 {
		errs = append(errs, fmt.Errorf("Limits.HeaderTimeout is %v, IdleTimeout %v and BodyGrace %v; they cannot be negative", l.HeaderTimeout, l.IdleTimeout, l.BodyGrace))
	}
	_, err := networks(l.TrustedProxies)
	return errors.Join(append(errs, err)...)
}

func networks(texts []string) ([]netip.Prefix, error) {
	var all []netip.Prefix
	var errs []error
	for _, text := range texts {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			errs = append(errs, fmt.Errorf("Limits.TrustedProxies has %q; give networks as 10.1.0.0/16, and one address as 10.1.2.3/32", text))
			continue
		}
		all = append(all, p.Masked())
	}
	return all, errors.Join(errs...)
}
