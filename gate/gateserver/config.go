package gateserver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/xiaonanln/goverse/cluster/sharding"
	"github.com/xiaonanln/goverse/gate"
	"github.com/xiaonanln/goverse/internal/access"
	"github.com/xiaonanln/goverse/internal/event"
	"github.com/xiaonanln/goverse/internal/peer"
	"github.com/xiaonanln/goverse/object"
	"github.com/xiaonanln/goverse/util/logger"
)

// GateServerConfig is what a gate needs to know. Zero values mean the defaults.
type GateServerConfig struct {
	ListenAddress     string // gRPC for clients; default ":49000"
	AdvertiseAddress  string // how the world names this gate: the prefix of its client ids, unique in the cluster; default from ListenAddress
	AdvertiseHTTP     string // the root by which clients reach this gate over HTTP, told to those of a gate that leaves, as https://gate1:48000; default from AdvertiseAddress and HTTPListenAddress
	HTTPListenAddress string // JSON, events, WebSocket and pages; default ":48000", "off" for none
	OpsListenAddress  string // health, readiness, profiles and what is stored, for operators; default none. Without a host it listens on loopback

	EtcdAddress      string // the cluster's etcd, several endpoints separated by commas; not needed with Router
	EtcdPrefix       string // default "/goverse"
	NumShards        int    // only to check it against the cluster's; 0 = take the cluster's
	InspectorAddress string // for programs that set it: gates do not report to an inspector, which finds them in etcd

	DefaultCallTimeout   time.Duration // of a call whose client names no deadline; default 30 s
	DefaultCreateTimeout time.Duration // default 30 s
	DefaultDeleteTimeout time.Duration // default 30 s
	HeartbeatInterval    time.Duration // silence after which a push stream shows that it lives; default 20 s
	WriteTimeout         time.Duration // how long a client may leave what is sent to it unread; default 10 s
	ResumeWindow         time.Duration // how long a session waits for a client that asked to come back; default 60 s
	MaxSessions          int           // clients that are connected or waited for; default 50,000
	MaxCalls             int           // calls under way at once; more are Overloaded; default 16,384
	MaxClientCalls       int           // calls under way at once on one client's stream, which holds back what is more; default 256

	// TLS is this gate's certificate among the nodes, ClientTLS the one that it shows its
	// clients, over gRPC and HTTP: with an authority they must have certificates, too. Without
	// one of its own that is TLS's. EtcdTLS is for etcd. RequireTLS: do not start where
	// anything is in plain text beyond this machine. See docs/tls.md.
	TLS, ClientTLS, EtcdTLS TLSConfig
	RequireTLS              bool

	Limits Limits // what else clients may do

	// ListenFlag is what this program calls the flag for ListenAddress, for the words of
	// errors; default "--listen".
	ListenFlag string
	// AllowedOrigins are web origins, as in "https://chat.example.com", whose pages may
	// use this gate besides the pages that it serves itself.
	AllowedOrigins []string
	// EventHandler says who clients are, on every door; nil: nobody asks. Package gate/auth
	// has some.
	EventHandler gate.EventHandler
	// RequestHeaders are names that count only as headers of a request itself, and are
	// refused in X-Goverse-Auth and in a WebSocket's hello, where no proxy sees them: name
	// here what a proxy sets and EventHandler trusts.
	RequestHeaders []string
	// ObjectAccessRules and ObjectLifecycleRules are the nodes' (see server.ServerConfig),
	// who enforce theirs: here they only answer earlier.
	ObjectAccessRules    []access.Rule
	ObjectLifecycleRules []access.LifecycleRule
	// Interceptors run around what clients ask, the first outermost.
	Interceptors []Interceptor
	// Handler serves the program's own pages at "/" of the HTTP port. Optional.
	Handler http.Handler
	// Router, when set, is the cluster of this very process; the gate then joins none.
	Router Router
	// MetricsRegistry takes this gate's metrics beside the program's own, and is what
	// /metrics shows. nil: a registry of its own, with the Go runtime's and the process's.
	MetricsRegistry *prometheus.Registry
	// TracerProvider makes OpenTelemetry spans of calls, and its sampler decides which; nil:
	// Tracing says. Whoever made it ends it.
	TracerProvider TracerProvider
	// Tracing sends spans to a collector. Zero: nothing is traced, unless OpenTelemetry's own
	// variables in the environment name a collector.
	Tracing Tracing
	// Logger takes what the gate has to say; nil is the default logger.
	Logger *logger.Logger
	// Listener hears the gate's events beside the Logger.
	Listener event.Listener
}

// Router finds the node that holds an object, and brings what objects push.
type Router interface {
	// Call runs a call wherever its object lives, within ctx.
	Call(ctx context.Context, call object.Call) (object.Payload, error)
	// FollowPushes hands deliver what is pushed to the clients of gateAddress, in order
	// per sending node, until ctx ends. deliver may be called concurrently.
	FollowPushes(ctx context.Context, gateAddress string, deliver func(peer.PushFrame) error) error
	// PushesReady is closed when FollowPushes hears every node for the first time: what
	// is pushed before may be lost.
	PushesReady() <-chan struct{}
	// PushesUp says whether it hears every node now.
	PushesUp() bool
	// Ready is closed when calls can be expected to succeed for the first time.
	Ready() <-chan struct{}
	// Problems says why calls may fail now; empty when all is well.
	Problems() []string
	// Records is what the cluster's store has, for operators.
	object.Records
	// Catalogs is what types the nodes have, each different answer once and the newest
	// first, and how many nodes did not answer.
	Catalogs(ctx context.Context) (list []object.Catalog, silent int, err error)
}

// off in place of an address means: do not listen.
const off = "off"

func (c *GateServerConfig) withDefaults() {
	text := func(s *string, value string) {
		if *s == "" {
			*s = value
		}
	}
	text(&c.ListenAddress, ":49000")
	text(&c.HTTPListenAddress, ":48000")
	text(&c.OpsListenAddress, off)
	text(&c.EtcdPrefix, "/goverse")
	text(&c.ListenFlag, "--listen")
	span := func(d *time.Duration, value time.Duration) {
		if *d == 0 {
			*d = value
		}
	}
	span(&c.DefaultCallTimeout, 30*time.Second)
	span(&c.DefaultCreateTimeout, 30*time.Second)
	span(&c.DefaultDeleteTimeout, 30*time.Second)
	span(&c.HeartbeatInterval, 20*time.Second)
	span(&c.WriteTimeout, 10*time.Second)
	if c.MaxCalls == 0 {
		c.MaxCalls = 16384
	}
	if c.MaxClientCalls == 0 {
		c.MaxClientCalls = 256
	}
	if strings.HasPrefix(c.OpsListenAddress, ":") {
		c.OpsListenAddress = "127.0.0.1" + c.OpsListenAddress
	}
	if c.Logger == nil {
		c.Logger = logger.NewLogger("gate")
	}
}

// Validate reports everything that is wrong with c, each with what to do about it.
func (c *GateServerConfig) Validate() error {
	d := *c
	d.withDefaults()
	errs := []error{
		listenable("ListenAddress ("+d.ListenFlag+")", d.ListenAddress, false),
		listenable("HTTPListenAddress (--http-listen)", d.HTTPListenAddress, true),
		listenable("OpsListenAddress (--ops-listen)", d.OpsListenAddress, true),
		advertisable(d.AdvertiseAddress),
		apart(d.ListenFlag, d.ListenAddress, "--http-listen", d.HTTPListenAddress),
		apart(d.ListenFlag, d.ListenAddress, "--ops-listen", d.OpsListenAddress),
		apart("--http-listen", d.HTTPListenAddress, "--ops-listen", d.OpsListenAddress),
		d.positive(), d.checkTLS(), d.checkRoot(), d.Limits.check(), d.Tracing.Check(),
	}
	if d.NumShards < 0 || d.NumShards > sharding.NumShards {
		errs = append(errs, fmt.Errorf("NumShards is %d; it is 1 to %d, or 0 for what the cluster has", d.NumShards, sharding.NumShards))
	}
	if d.Router == nil && d.EtcdAddress == "" {
		errs = append(errs, errors.New("a gate in a process of its own needs the cluster's etcd: give --etcd host:port, set GOVERSE_ETCD, or set EtcdAddress"))
	}
	if d.Router == nil && d.EtcdAddress != "" {
		errs = append(errs, d.checkEtcd())
	}
	_, wrong := access.Compile(d.ObjectAccessRules, d.ObjectLifecycleRules)
	errs = append(errs, wrong)
	for _, origin := range d.AllowedOrigins {
		errs = append(errs, http.NewCrossOriginProtection().AddTrustedOrigin(origin))
	}
	return errors.Join(errs...)
}

func (c *GateServerConfig) positive() error {
	var errs []error
	check := func(name string, bad bool, value any) {
		if bad {
			errs = append(errs, fmt.Errorf("%s is %v; it cannot be negative", name, value))
		}
	}
	for _, d := range []struct {
		name  string
		value time.Duration
	}{
		{"DefaultCallTimeout", c.DefaultCallTimeout}, {"DefaultCreateTimeout", c.DefaultCreateTimeout},
		{"DefaultDeleteTimeout", c.DefaultDeleteTimeout}, {"HeartbeatInterval", c.HeartbeatInterval}, {"WriteTimeout", c.WriteTimeout},
		{"ResumeWindow", c.ResumeWindow},
	} {
		check(d.name, d.value < 0, d.value)
	}
	check("MaxSessions", c.MaxSessions < 0, c.MaxSessions)
	check("MaxCalls", c.MaxCalls < 0, c.MaxCalls)
	check("MaxClientCalls", c.MaxClientCalls < 0, c.MaxClientCalls)
	return errors.Join(errs...)
}

func listenable(what, address string, mayBeOff bool) error {
	if mayBeOff && address == off {
		return nil
	}
	_, port, err := net.SplitHostPort(address)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil {
		return fmt.Errorf("%s is %q; give host:port or :port, as in localhost:49000 or :49000", what, address)
	}
	return nil
}

func advertisable(address string) error {
	if address == "" {
		return nil
	}
	host, port, err := net.SplitHostPort(address)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil || host == "" || port == "0" || object.ValidID(address) != nil || strings.Contains(address, "/") {
		return fmt.Errorf("AdvertiseAddress (--advertise) is %q; give the host:port by which others reach this gate", address)
	}
	return nil
}

// apart refuses one port for two purposes.
func apart(flagA, a, flagB, b string) error {
	hostA, portA, errA := net.SplitHostPort(a)
	hostB, portB, errB := net.SplitHostPort(b)
	if errA != nil || errB != nil || portA != portB || portA == "0" {
		return nil
	}
	if hostA == hostB || unspecified(hostA) || unspecified(hostB) {
		return fmt.Errorf("%s %s and %s %s name the same port; give each its own", flagA, a, flagB, b)
	}
	return nil
}

func unspecified(host string) bool {
	return host == "" || net.ParseIP(host).IsUnspecified()
}
