// Package gateconfig reads the configuration of a gate program: its command line, over
// the environment (GOVERSE_…), over its entry in the cluster's file (--config), over the
// defaults; see docs/reference/config.md.
package gateconfig

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/xiaonanln/goverse/gate/gateserver"
	"github.com/xiaonanln/goverse/internal/conf"
	"github.com/xiaonanln/goverse/internal/secure"
	"github.com/xiaonanln/goverse/util/logger"
)

// EtcdVariable names the environment variable that is the etcd address where no
// flag gives one.
const EtcdVariable = "GOVERSE_ETCD"

// Loader reads a command line. It is used once.
type Loader struct {
	flags    *flag.FlagSet
	config   gateserver.GateServerConfig
	file, id string
	level    string // of the log
	format   string

	document *conf.Document // nil without --config
	settings []conf.Setting
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
	fs.StringVar(&c.AdvertiseHTTP, "advertise-http", "", "`URL` by which clients reach this gate over HTTP, told to those of a gate that leaves (default: the host of --advertise and the port of --http-listen)")
	fs.StringVar(&c.HTTPListenAddress, "http-listen", ":48000", "`host:port` for JSON, events and WebSockets over HTTP; off for none")
	fs.StringVar(&c.OpsListenAddress, "ops-listen", "off", "`host:port` for operators: /healthz, /ready, /debug/pprof/, /api/v1/objects/TYPE; without a host it listens on loopback")
	fs.StringVar(&c.EtcdAddress, "etcd", "", "the cluster's etcd, `host:port`, several separated by commas (default $"+EtcdVariable+")")
	fs.StringVar(&c.EtcdPrefix, "etcd-prefix", "/goverse", "where in etcd the cluster's `keys` are")
	fs.StringVar(&c.InspectorAddress, "inspector-address", "", "`host:port` of the inspector, which older versions reported to; it changes nothing, because an inspector finds who is there in etcd")
	fs.StringVar(&l.file, "config", "", "`file` that describes the cluster: its YAML, docs/reference/config.md")
	fs.StringVar(&l.id, "gate-id", "", "which `entry` of the file's gates this is (default: the only one)")
	fs.DurationVar(&c.DefaultCallTimeout, "call-timeout", 30*time.Second, "how long a call may take whose client does not say")
	fs.DurationVar(&c.DefaultCreateTimeout, "create-timeout", 0, "the same for creating an object (default: as for calls)")
	fs.DurationVar(&c.DefaultDeleteTimeout, "delete-timeout", 0, "the same for deleting an object (default: as for calls)")
	fs.DurationVar(&c.ResumeWindow, "resume-window", time.Minute, "how long a session waits for a client that asked to come back, with what is pushed meanwhile")
	secure.ClusterFlags(fs, &c.TLS, &c.EtcdTLS, &c.RequireTLS)
	secure.DoorFlags(fs, &c.ClientTLS)
	addLimits(fs, c)
	fs.StringVar(&c.Tracing.Endpoint, "trace-otlp", "", "`host:port` of a collector of OpenTelemetry traces (OTLP over gRPC); https://host:port with TLS (default: what OTEL_EXPORTER_OTLP_ENDPOINT says)")
	fs.Float64Var(&c.Tracing.Ratio, "trace-ratio", 0, "which `part` of the traces that begin here is kept, 0 to 1 (default: what OTEL_TRACES_SAMPLER says, else 0.01)")
	fs.StringVar(&l.level, "log-level", "info", "what is logged: debug, info, warn, error or off")
	fs.StringVar(&l.format, "log-format", "text", "how lines are written to standard error: text or json")
	return l
}

// discard takes what flag would print: Load returns it as an error.
type discard struct{}

func (discard) Write(b []byte) (int, error) { return len(b), nil }

// Load parses args, which do not have the program's name. The error is
// flag.ErrHelp when they ask for help. Whether the configuration as a whole makes
// sense is for gateserver.NewGateServer to say: a program may complete it first.
func (l *Loader) Load(args []string) (*gateserver.GateServerConfig, error) {
	return l.LoadIn(os.LookupEnv, args)
}

// LoadIn is Load with another environment than the process's.
func (l *Loader) LoadIn(environment func(string) (string, bool), args []string) (*gateserver.GateServerConfig, error) {
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
	if err := l.settle(environment); err != nil {
		return nil, err
	}
	config := l.config
	config.DefaultCreateTimeout = cmp.Or(config.DefaultCreateTimeout, config.DefaultCallTimeout)
	config.DefaultDeleteTimeout = cmp.Or(config.DefaultDeleteTimeout, config.DefaultCallTimeout)
	return &config, nil
}

// settle completes the flags from the environment and from the cluster's file.
func (l *Loader) settle(environment func(string) (string, bool)) (err error) {
	var values []conf.Value
	file, id := conf.Given(environment, "config", l.file), conf.Given(environment, "gate-id", l.id)
	switch {
	case file != "":
		if l.document, err = conf.Read(file); err != nil {
			return err
		}
		if values, err = l.document.Gate(id); err != nil {
			return err
		}
	case id != "":
		return errors.New("--gate-id names an entry of a file; give the file with --config")
	}
	if l.settings, err = conf.Settle(l.flags, environment, values); err != nil {
		return err
	}
	_, err = logger.ParseLevel(l.level)
	return errors.Join(err, logger.CheckFormat(l.format))
}

// Follow lets the program take up what changes in the cluster's file, within 2 s and on
// SIGHUP, until ctx ends: of a gate that is the log's level, and what clients may do, which
// setLimits is told, as GateServer's. Without a file it returns at once, and SIGHUP ends the
// process, as ever.
func (l *Loader) Follow(ctx context.Context, setLimits func(*gateserver.GateServerConfig) error) {
	if l.document == nil {
		return
	}
	again := make(chan os.Signal, 1)
	signal.Notify(again, syscall.SIGHUP)
	defer signal.Stop(again)
	live := &conf.Live{
		Started: l.document, Settings: l.settings, Flags: l.flags, Say: logger.NewLogger("config").Say,
		Values: func(d *conf.Document) ([]conf.Value, error) { return d.Gate(l.id) },
		Takes:  isLimit,
		Apply:  func(_ *conf.Document, changes []conf.Change) error { return l.apply(changes, setLimits) },
	}
	_ = live.Run(ctx, conf.Every, again) // it ends with ctx
}

// apply takes up changes that count now, all or none. Rules of access are the nodes'.
func (l *Loader) apply(changes []conf.Change, setLimits func(*gateserver.GateServerConfig) error) error {
	limits := slices.ContainsFunc(changes, func(c conf.Change) bool { return isLimit(c.Flag) })
	at := slices.IndexFunc(changes, func(c conf.Change) bool { return c.Flag == "log-level" })
	var level logger.Level
	if at >= 0 {
		var err error
		if level, err = logger.ParseLevel(changes[at].New); err != nil {
			return err
		}
	}
	if limits {
		next, err := withLimits(l.config, changes)
		if err == nil {
			err = setLimits(next)
		}
		if err != nil {
			return err
		}
		l.config = *next
	}
	if at >= 0 {
		logger.SetLevel(level)
	}
	return nil
}

// Settings is what each flag is after Load, and where its value came from.
func (l *Loader) Settings() []conf.Setting { return l.settings }

// SetLog makes the process log as it was told, if it was told anything.
func (l *Loader) SetLog() {
	if conf.From(l.settings, "log-format") != conf.Default {
		_ = logger.UseFormat(l.format, os.Stderr) // Load has checked it
	}
	if level, err := logger.ParseLevel(l.level); err == nil && conf.From(l.settings, "log-level") != conf.Default {
		logger.SetLevel(level)
	}
}

// notEmpty refuses --etcd "" and its like: an unset variable in a script is no wish
// for a default.
func (l *Loader) notEmpty() error {
	var errs []error
	l.flags.Visit(func(f *flag.Flag) {
		switch f.Name {
		case "listen", "advertise", "advertise-http", "http-listen", "ops-listen", "etcd", "etcd-prefix":
			if f.Value.String() == "" {
				errs = append(errs, fmt.Errorf("--%s is given without a value; leave the flag out for its default", f.Name))
			}
		}
	})
	return errors.Join(errs...)
}
