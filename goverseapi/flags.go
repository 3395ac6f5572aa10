package goverseapi

import (
	"flag"
	"time"

	"github.com/xiaonanln/goverse/internal/secure"
)

// addNodeFlags adds the flags of a node program, beside those of a ConfigLoader. Each of
// them has a variable in the environment, and a key in the cluster's file, its own or one
// below node_flags and flags.
func addNodeFlags(fs *flag.FlagSet, cfg *ServerConfig) {
	fs.StringVar(&cfg.ListenAddress, "listen", "localhost:47000", "`host:port` on which other nodes and gates reach this node")
	fs.StringVar(&cfg.AdvertiseAddress, "advertise", "", "`host:port` that they are told, if it differs from --listen")
	fs.StringVar(&cfg.EtcdAddress, "etcd", "", "the cluster's etcd, `host:port`, several separated by commas (default: an etcd inside this process)")
	fs.StringVar(&cfg.EtcdPrefix, "etcd-prefix", "/goverse", "what this cluster's `keys` in etcd begin with")
	fs.StringVar(&cfg.InspectorAddress, "inspector-address", "", "`host:port` of the inspector, which older versions reported to; it changes nothing, because an inspector finds who is there in etcd")
	fs.StringVar(&cfg.DataDir, "data-dir", ".goverse", "`directory` for the embedded etcd and the SQLite store")
	fs.IntVar(&cfg.MinQuorum, "min-quorum", 1, "`nodes` that must be there before the cluster forms")
	fs.StringVar(&cfg.QuorumLoss, "quorum-loss", "continue", "what a formed cluster does with fewer: continue, freeze (nothing is taken over) or stop (and clients are refused)")
	fs.StringVar(&cfg.DegradedMode, "degraded-mode", "", "whether durable objects are served while etcd does not answer: on or off (default: on where the store is on a server of its own)")
	fs.DurationVar(&cfg.NodeStabilityDuration, "stability", 10*time.Second, "for how long the nodes must have been the same before objects are moved to even them out")
	fs.BoolVar(&cfg.CopyMessages, "copy-messages", false, "give each side of a call its own copy of the messages, and name the objects that change what would be shared: for finding mistakes")
	fs.BoolVar(&cfg.LogOperations, "log-operations", false, "write a line for each call")
	fs.StringVar(&cfg.Tracing.Endpoint, "trace-otlp", "", "`host:port` of a collector of OpenTelemetry traces (OTLP over gRPC); https://host:port with TLS (default: what OTEL_EXPORTER_OTLP_ENDPOINT says)")
	fs.Float64Var(&cfg.Tracing.Ratio, "trace-ratio", 0, "which `part` of the traces that begin here is kept, 0 to 1 (default: what OTEL_TRACES_SAMPLER says, else 0.01)")
	secure.ClusterFlags(fs, &cfg.TLS, &cfg.EtcdTLS, &cfg.RequireTLS)
	fs.StringVar(&cfg.MetricsListenAddress, "ops-listen", "", "`host:port` of the operations port: /healthz, /ready, /metrics, and for callers on this machine /debug/ and /api/v1/objects/TYPE (default: none)")
}
