package gateconfig

import (
	"flag"
	"fmt"
	"strings"

	"github.com/xiaonanln/goverse/gate/gateserver"
	"github.com/xiaonanln/goverse/internal/conf"
)

// addLimits defines the flags of what clients may do; docs/limits.md has the others. A gate
// that runs takes all of them up.
func addLimits(fs *flag.FlagSet, c *gateserver.GateServerConfig) {
	fs.IntVar(&c.MaxSessions, "max-sessions", 50_000, "`clients` that are connected at once")
	fs.IntVar(&c.MaxCalls, "max-calls", 16384, "`calls` under way at once; more are refused as overloaded")
	fs.IntVar(&c.MaxClientCalls, "max-client-calls", 256, "`calls` under way at once of one client's stream, which holds back what is more")
	l := &c.Limits
	fs.IntVar(&l.Connections, "max-connections", 60_000, "`connections` of clients that are open at once; -1 for no limit, here and below")
	fs.IntVar(&l.AddressConnections, "max-address-connections", 2000, "`connections` of one address; clients on loopback, and trusted proxies, have none")
	fs.IntVar(&l.AddressCalls, "max-address-calls", 256, "`calls` under way at once of one address that belong to no session")
	fs.IntVar(&l.OpenRate, "open-rate", 20, "`connections`, and likewise sessions, that one address opens per second; at once 100, or as many")
	fs.IntVar(&l.ClientRate, "client-rate", 20_000, "`calls` that one client makes per second on its stream")
	fs.IntVar(&l.AddressRate, "address-rate", 50_000, "`calls` that one address makes per second")
	fs.IntVar(&l.AnswerBytes, "answer-bytes", 256<<20, "`bytes` of long answers that are kept for clients who have not taken them yet")
	fs.IntVar(&l.AddressAnswerBytes, "address-answer-bytes", 32<<20, "the same, in `bytes`, for the clients of one address")
	fs.Var((*list)(&l.TrustedProxies), "trusted-proxies", "`networks`, as 10.1.0.0/16, of proxies whose X-Forwarded-For names the client; several separated by commas")
}

// isLimit says of a flag that addLimits defines it.
func isLimit(name string) bool {
	fs := flag.NewFlagSet("", flag.ContinueOnError)
	addLimits(fs, new(gateserver.GateServerConfig))
	return fs.Lookup(name) != nil
}

// withLimits is a configuration with the limits that have changed.
func withLimits(cfg gateserver.GateServerConfig, changes []conf.Change) (*gateserver.GateServerConfig, error) {
	next, fs := new(gateserver.GateServerConfig), flag.NewFlagSet("", flag.ContinueOnError)
	addLimits(fs, next)
	*next = cfg
	for _, c := range changes {
		if fs.Lookup(c.Flag) == nil {
			continue
		}
		if err := fs.Set(c.Flag, c.New); err != nil {
			return nil, fmt.Errorf("%s: %w", c.Key, err)
		}
	}
	return next, nil
}

// list is a flag of several values with commas between them.
type list []string

func (l *list) String() string { return strings.Join(*l, ",") }

func (l *list) Set(text string) error {
	*l = nil
	for one := range strings.SplitSeq(text, ",") {
		if one = strings.TrimSpace(one); one != "" {
			*l = append(*l, one)
		}
	}
	return nil
}
