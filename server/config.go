// Package server assembles a node: it owns the listeners, the coordinator's
// connection and the store, builds cluster and node on them, and lives as long as
// the process serves.
package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/xiaonanln/goverse/cluster"
	"github.com/xiaonanln/goverse/cluster/consensusmanager"
	"github.com/xiaonanln/goverse/cluster/sharding"
	"github.com/xiaonanln/goverse/internal/access"
	"github.com/xiaonanln/goverse/internal/event"
	"github.com/xiaonanln/goverse/node"
	"github.com/xiaonanln/goverse/object"
	"github.com/xiaonanln/goverse/util/logger"
)

// ServerConfig says how a node runs. The zero value is a node that needs nothing
// else: it runs an etcd of its own and listens on localhost.
type ServerConfig struct {
	ListenAddress    string // for other nodes and gates; default localhost:47000
	AdvertiseAddress string // how they reach it; default: ListenAddress
	// MetricsListenAddress is the operations port: /healthz, /ready, /metrics (in Prometheus'
	// text format), and for callers on this machine /debug/pprof/, /debug/goverse (Inside, as
	// JSON), /debug/loglevel, and what is stored: /api/v1/objects/{type}?after=&limit= and
	// /api/v1/objects/{type}/{id}. Empty: none. It has no authentication: keep it on loopback
	// or a closed network.
	MetricsListenAddress string

	// EtcdAddress is the coordinator: one endpoint or several, separated by commas.
	// Empty: a real etcd inside this process, with its data in DataDir.
	EtcdAddress string
	EtcdPrefix  string // what this cluster's keys begin with; default /goverse
	DataDir     string // of the embedded etcd and the default store; default ./.goverse

	MinQuorum                 int           // nodes that must be there before the cluster forms; default 1
	QuorumLoss                string        // what a formed cluster does below MinQuorum: "continue" (default), "freeze" (nothing is taken over) or "stop" (and clients' calls are refused)
	NodeStabilityDuration     time.Duration // how long the members must be unchanged before a voluntary change; default 10 s
	ShardMappingCheckInterval time.Duration // how often the whole picture is read anew; default 30 s
	NumShards                 int           // 1 to 8192, set when a cluster is first created; default 8192
	InspectorAddress          string        // for programs that set it: nodes do not report to an inspector, which finds them in etcd

	// DegradedMode is what becomes of durable objects while etcd does not answer for longer
	// than this node's lease (5 s): "on", they are served, each answer by the word of the
	// store; "off", they are not. Default: on where the store is on a server of its own, as
	// PostgreSQL is. All other objects are never served then, and nothing is taken over.
	DegradedMode string

	DefaultCallTimeout   time.Duration // of calls whose context has no deadline; default 30 s
	DefaultCreateTimeout time.Duration // default: DefaultCallTimeout
	DefaultDeleteTimeout time.Duration // default: DefaultCallTimeout
	DrainTimeout         time.Duration // how long a stop waits for running calls; default 25 s

	// MaxActivations bounds how many objects live in this node's memory at once; default
	// 1,000,000. Over it, and where GOMEMLIMIT is set and 60 % of it are in use, idle
	// objects are ended, about in the order of their last use; volatile ones with a state
	// only past their idle timeout. Where none can be, new ones are refused as overloaded.
	MaxActivations int

	// MaxExecutions bounds how many calls are under way here at once, those aside that wait
	// for an object's turn or for a shard; default 8,192, at least 64. More root calls are
	// refused as overloaded and not executed. It is the upper bound of a limit that follows
	// the latency: where calls take much longer than usual, fewer are taken, but never less
	// than 64.
	MaxExecutions int

	// ObjectAccessRules say who may call methods, ObjectLifecycleRules who may create and
	// delete objects: the first that matches decides, and where none does everybody may.
	// They hold for the objects on this node, whatever gates say: give all nodes the same.
	ObjectAccessRules    []access.Rule
	ObjectLifecycleRules []access.LifecycleRule

	// AutoLoadObjects are created once the cluster is up, and come to life again after a death
	// or a move: give all nodes the same.
	AutoLoadObjects []object.AutoLoad

	// Interceptors run around the methods of all objects here, the first outermost; see
	// goverseapi.Interceptor.
	Interceptors []object.Interceptor

	// CopyMessages finds mistakes: objects in one process share the messages of their calls,
	// and with it each side gets a copy, and an object that changes what would be shared is
	// named in the log. It costs a copy or two of each message.
	CopyMessages bool

	// Types are the object types of this node. goverseapi fills in the process's own.
	Types *object.Types
	// OpenStore opens the store when the server runs and Node was given none. nil: no
	// store, all objects are volatile. goverseapi fills in SQLite in DataDir. warn takes
	// what an operator should know of the store later on.
	OpenStore func(ctx context.Context, dataDir string, warn func(text string, err error)) (object.PersistenceProvider, io.Closer, error)
	// TLS encrypts the connections between nodes and gates, at both ends: each shows a
	// certificate of the authority in CAFile that names the host which it advertises. All of
	// a cluster have it or none. EtcdTLS does so for etcd. RequireTLS: do not run where
	// anything is in plain text beyond this machine. See docs/tls.md.
	TLS, EtcdTLS TLSConfig
	RequireTLS   bool

	// Companions run beside the node on its cluster, for example a gate. They stop
	// before the node drains; the server stops when one of them fails.
	Companions []func(ctx context.Context, c *cluster.Cluster) error

	// Listener serves in place of ListenAddress, for programs that open it themselves.
	Listener net.Listener
	// Logger is what the server and its objects log to; default: the default logger.
	Logger *logger.Logger
	// LogOperations writes a line for each call.
	LogOperations bool
	// MetricsRegistry takes this server's metrics beside the program's own, and is what
	// /metrics shows. nil: a registry of its own, with the Go runtime's and the process's.
	MetricsRegistry *prometheus.Registry
	// TracerProvider makes OpenTelemetry spans of calls, and its sampler decides which; nil:
	// Tracing says. Whoever made it ends it.
	TracerProvider TracerProvider
	// Tracing sends spans to a collector. Zero: nothing is traced, unless OpenTelemetry's own
	// variables in the environment name a collector.
	Tracing Tracing
	// Events hears everything that happens, beside the log.
	Events event.Listener
}

func (c ServerConfig) withDefaults() ServerConfig {
	if c.Listener != nil {
		c.ListenAddress = c.Listener.Addr().String()
	}
	setDefault(&c.ListenAddress, "localhost:47000")
	setDefault(&c.AdvertiseAddress, c.ListenAddress)
	setDefault(&c.EtcdPrefix, "/goverse")
	setDefault(&c.DataDir, ".goverse")
	setDefault(&c.MinQuorum, 1)
	setDefault(&c.NumShards, sharding.NumShards)
	setDefault(&c.MaxActivations, node.DefaultMaxActivations)
	setDefault(&c.MaxExecutions, node.DefaultMaxExecutions)
	setDefault(&c.NodeStabilityDuration, 10*time.Second)
	setDefault(&c.DefaultCallTimeout, 30*time.Second)
	setDefault(&c.DefaultCreateTimeout, c.DefaultCallTimeout)
	setDefault(&c.DefaultDeleteTimeout, c.DefaultCallTimeout)
	setDefault(&c.DrainTimeout, 25*time.Second)
	if c.Types == nil {
		c.Types = object.NewTypes()
	}
	return c
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// Validate tells everything that is wrong with the configuration at once.
func (c ServerConfig) Validate() error {
	named := c.AdvertiseAddress != ""
	c = c.withDefaults()
	var errs []error
	for _, a := range []struct{ name, address string }{
		{"ListenAddress (--listen)", c.ListenAddress}, {"MetricsListenAddress (--ops-listen)", c.MetricsListenAddress},
	} {
		if _, _, err := net.SplitHostPort(a.address); a.address != "" && err != nil {
			errs = append(errs, fmt.Errorf("%s is %q; give host:port, as in localhost:47000", a.name, a.address))
		}
	}
	if host, port, err := net.SplitHostPort(c.AdvertiseAddress); (named || err == nil) && (host == "" || port == "" || port == "0") {
		errs = append(errs, fmt.Errorf("AdvertiseAddress (--advertise) is %q; give the host and the port by which others reach this node", c.AdvertiseAddress))
	}
	if c.NumShards < 1 || c.NumShards > sharding.NumShards {
		errs = append(errs, fmt.Errorf("NumShards is %d; it must be between 1 and %d", c.NumShards, sharding.NumShards))
	}
	if c.MaxActivations < 1 {
		errs = append(errs, fmt.Errorf("MaxActivations is %d; it must be at least 1", c.MaxActivations))
	}
	if c.MaxExecutions < node.MinExecutions {
		errs = append(errs, fmt.Errorf("MaxExecutions is %d; it must be at least %d, below which the limit never falls; leave it out for %d", c.MaxExecutions, node.MinExecutions, node.DefaultMaxExecutions))
	}
	if c.MinQuorum < 1 {
		errs = append(errs, fmt.Errorf("MinQuorum is %d; it must be at least 1", c.MinQuorum))
	}
	switch consensusmanager.QuorumLoss(c.QuorumLoss) {
	case "", consensusmanager.QuorumContinue, consensusmanager.QuorumFreeze, consensusmanager.QuorumStop:
	default:
		errs = append(errs, fmt.Errorf("QuorumLoss (--quorum-loss) is %q; it must be continue, freeze or stop", c.QuorumLoss))
	}
	switch node.DegradedMode(c.DegradedMode) {
	case node.DegradedAuto, node.DegradedOn, node.DegradedOff:
	default:
		errs = append(errs, fmt.Errorf("DegradedMode (--degraded-mode) is %q; it must be on or off, or empty for what fits the store", c.DegradedMode))
	}
	for _, d := range []struct {
		name string
		d    time.Duration
	}{
		{"NodeStabilityDuration", c.NodeStabilityDuration}, {"ShardMappingCheckInterval", c.ShardMappingCheckInterval},
		{"DefaultCallTimeout", c.DefaultCallTimeout}, {"DefaultCreateTimeout", c.DefaultCreateTimeout},
		{"DefaultDeleteTimeout", c.DefaultDeleteTimeout}, {"DrainTimeout", c.DrainTimeout},
	} {
		if d.d < 0 {
			errs = append(errs, fmt.Errorf("%s is %v; it must not be negative", d.name, d.d))
		}
	}
	for i, err := range object.CheckAutoLoads(c.AutoLoadObjects) {
		if err != nil {
			errs = append(errs, fmt.Errorf("AutoLoadObjects[%d] (auto_load_objects): %w", i, err))
		}
	}
	_, err := access.Compile(c.ObjectAccessRules, c.ObjectLifecycleRules)
	return errors.Join(append(errs, err, c.checkTLS(), c.Tracing.Check())...)
}
