// Package gateconfig reads the configuration of a gate program from its command
// line and environment.
package gateconfig

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"

	"github.com/xiaonanln/goverse/gate/gateserver"
)

// EtcdVariable names the environment variable that is the etcd address where no
// flag gives one.
const EtcdVariable = "GOVERSE_ETCD"

// Loader reads a command line. It is used once.
type Loader struct {
	flags  *flag.FlagSet
	config gateserver.GateServerConfig
}

// NewLoader defines the gate's flags in fs, beside those that the program has
// there; nil is a set of its own that prints nothing.
func NewLoader(fs *flag.FlagSet) *Loader {
	if fs == nil {
		fs = flag.NewFlagSet("gate", flag.ContinueOnError)
		fs.SetOutput(discard{})
	}
	l := &Loader{flags: fs}
	c := &l.config
	fs.StringVar(&c.ListenAddress, "listen", ":49000", "`host:port` for clients over gRPC")
	fs.StringVar(&c.AdvertiseAddress, "advertise", "", "`host:port` by which others reach this gate; it begins its client ids and is unique in the cluster (default from --listen)")
	fs.StringVar(&c.HTTPListenAddress, "http-listen", ":48000", "`host:port` for JSON, events and WebSockets over HTTP; off for none")
	fs.StringVar(&c.OpsListenAddress, "ops-listen", "off", "`host:port` for operators: /healthz, /ready, /debug/pprof/, /api/v1/objects/TYPE; without a host it listens on loopback")
	fs.StringVar(&c.EtcdAddress, "etcd", "", "the cluster's etcd, `host:port`, several separated by commas (default $"+EtcdVariable+")")
	fs.StringVar(&c.EtcdPrefix, "etcd-prefix", "/goverse", "where in etcd the cluster's `keys` are")
	return l
}

// discard takes what flag would print: Load returns it as an error.
type discard struct{}

func (discard) Write(b []byte) (int, error) { return len(b), nil }

// Load parses args, which do not have the program's name. The error is
// flag.ErrHelp when they ask for help. Whether the configuration as a whole makes
// sense is for gateserver.NewGateServer to say: a program may complete it first.
func (l *Loader) Load(args []string) (*gateserver.GateServerConfig, error) {
	if l.flags.Parsed() {
		return nil, errors.New("a Loader loads once; make a new one")
	}
	if err := l.flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return nil, err
		}
		return nil, fmt.Errorf("%w; --help lists the flags", err)
	}
	if rest := l.flags.Args(); len(rest) > 0 {
		return nil, fmt.Errorf("unexpected argument %q; flags have the form --name value, and --help lists them", strings.Join(rest, " "))
	}
	if err := l.notEmpty(); err != nil {
		return nil, err
	}
	config := l.config
	if config.EtcdAddress == "" {
		config.EtcdAddress = os.Getenv(EtcdVariable)
	}
	return &config, nil
}

// notEmpty refuses --etcd "" and its like: an unset variable in a script is no wish
// for a default.
func (l *Loader) notEmpty() error {
	var errs []error
	l.flags.Visit(func(f *flag.Flag) {
		switch f.Name {
		case "listen", "advertise", "http-listen", "ops-listen", "etcd", "etcd-prefix":
			if f.Value.String() == "" {
				errs = append(errs, fmt.Errorf("--%s is given without a value; leave the flag out for its default", f.Name))
			}
		}
	})
	return errors.Join(errs...)
}
