package conf

import "time"

// File is the one file of a cluster. Its tags are the whole schema: yaml is a key, flag
// the flag that it stands for (and so the variable GOVERSE_…), default what holds without
// both, reload what becomes of a change while a program runs (restart, if there is no
// tag), oneof the words that there are, and doc what it means. Strict decoding, the order of the sources, the reference
// and what `goverse config` says come from them.
type File struct {
	Version   int               `yaml:"version" doc:"The form of this file. There is only 1."`
	Cluster   Cluster           `yaml:"cluster" doc:"What all nodes and gates have to agree on."`
	Postgres  *Postgres         `yaml:"postgres" doc:"Keeps the objects' state in PostgreSQL. Without this section each node has a SQLite file in its data directory."`
	Inspector Inspector         `yaml:"inspector" doc:"The page that shows the cluster."`
	NodeFlags map[string]string `yaml:"node_flags" doc:"Flags of all node programs, by their names without dashes, for which there is no key here; an entry's own flags win."`
	GateFlags map[string]string `yaml:"gate_flags" doc:"The same for all gate programs. Those of docs/limits.md count now when they change, in an entry too; others at a restart."`
	Nodes     []Node            `yaml:"nodes" doc:"The node programs. A program takes the entry that --node-id names, or the only one."`
	Gates     []Gate            `yaml:"gates" doc:"The gate programs. A program takes the entry that --gate-id names, or the only one."`

	Access    []AccessRule    `yaml:"object_access_rules" reload:"now" doc:"Who may call which method of which object. The first rule that matches decides."`
	Lifecycle []LifecycleRule `yaml:"object_lifecycle_rules" reload:"now" doc:"Who may create and delete which object. The first rule that matches decides."`
}

// Cluster is what all members have to agree on.
type Cluster struct {
	Shards        int           `yaml:"shards" flag:"shards" reload:"never" default:"0" doc:"How many shards the objects are dealt to, 1 to 8192; set when the cluster is first created. 0 is 8192."`
	Etcd          Etcd          `yaml:"etcd" doc:"The cluster's etcd. Without it a node runs one inside its process."`
	MinQuorum     int           `yaml:"min_quorum" flag:"min-quorum" default:"1" doc:"Nodes that must be there before the cluster forms."`
	QuorumLoss    string        `yaml:"quorum_loss" flag:"quorum-loss" oneof:"continue,freeze,stop" default:"continue" doc:"What a formed cluster does with fewer: continue, freeze or stop."`
	DegradedMode  string        `yaml:"degraded_mode" flag:"degraded-mode" oneof:"on,off" default:"" doc:"Whether durable objects are served while etcd does not answer: on or off; empty is what fits the store."`
	Stability     time.Duration `yaml:"cluster_state_stability_duration" flag:"stability" default:"10s" doc:"For how long the nodes must have been the same before objects are moved to even them out."`
	CallTimeout   time.Duration `yaml:"default_call_timeout" flag:"call-timeout" default:"30s" doc:"How long a call may take whose caller does not say."`
	CreateTimeout time.Duration `yaml:"default_create_timeout" flag:"create-timeout" default:"0s" doc:"The same for creating an object; 0 is as for calls."`
	DeleteTimeout time.Duration `yaml:"default_delete_timeout" flag:"delete-timeout" default:"0s" doc:"The same for deleting an object; 0 is as for calls."`
	LogLevel      string        `yaml:"log_level" flag:"log-level" oneof:"debug,info,warn,error,off" reload:"now" default:"info" doc:"What is logged: debug, info, warn, error or off."`
	LogFormat     string        `yaml:"log_format" flag:"log-format" oneof:"text,json" default:"text" doc:"How lines are written to standard error: text or json."`
	AutoLoad      []AutoLoad    `yaml:"auto_load_objects" doc:"Objects that are created once the cluster is up, and come to life again after a death or a move."`
	Tracing       Tracing       `yaml:"tracing" doc:"Where spans of calls go, as OpenTelemetry has them."`
	TLS           MemberTLS     `yaml:"tls" doc:"What nodes and gates show each other, in files that are at the same path on every machine; an entry's own tls wins. See docs/tls.md."`
	ClientTLS     ClientTLS     `yaml:"client_tls" doc:"The same for what gates show their clients."`
	RequireTLS    bool          `yaml:"require_tls" flag:"require-tls" default:"false" doc:"Do not start where anything would be in plain text beyond the machine."`
}

// AutoLoad names objects that the cluster has from its beginning.
type AutoLoad struct {
	Type     string `yaml:"type" doc:"Their type, which every node program has."`
	ID       string `yaml:"id" doc:"The object's id; or what the ids of several end with."`
	PerShard bool   `yaml:"per_shard" default:"false" doc:"One for each shard N, which lies on it: shard#N/ID."`
	PerNode  bool   `yaml:"per_node" default:"false" doc:"One on each node, which it does not leave: ADDRESS/ID, with the address that the node advertises. It is volatile."`
}

// Tracing is where spans go.
type Tracing struct {
	OTLP  string  `yaml:"otlp" flag:"trace-otlp" default:"" doc:"host:port of a collector that speaks OTLP over gRPC, or https://host:port with TLS; empty is what OTEL_EXPORTER_OTLP_ENDPOINT says."`
	Ratio float64 `yaml:"ratio" flag:"trace-ratio" default:"0" doc:"Which part of the traces that begin in the cluster is kept, 0 to 1; 0 is what OTEL_TRACES_SAMPLER says, else 0.01."`
}

// MemberTLS names what nodes and gates show each other.
type MemberTLS struct {
	Cert string `yaml:"cert" flag:"tls-cert" default:"" doc:"File with the certificate, in PEM."`
	Key  string `yaml:"key" flag:"tls-key" default:"" doc:"File with its key."`
	CA   string `yaml:"ca" flag:"tls-ca" default:"" doc:"File with the authority that all nodes' and gates' certificates are from."`
}

// ClientTLS names what gates show their clients.
type ClientTLS struct {
	Cert string `yaml:"cert" flag:"client-tls-cert" default:"" doc:"File with the certificate, in PEM; without it that of tls."`
	Key  string `yaml:"key" flag:"client-tls-key" default:"" doc:"File with its key."`
	CA   string `yaml:"ca" flag:"client-tls-ca" default:"" doc:"File with the authority that every client must have a certificate from; without it clients need none."`
}

// EtcdTLS names what etcd is shown.
type EtcdTLS struct {
	Cert string `yaml:"cert" flag:"etcd-tls-cert" default:"" doc:"File with the certificate that etcd is shown, if it wants one, in PEM."`
	Key  string `yaml:"key" flag:"etcd-tls-key" default:"" doc:"File with its key."`
	CA   string `yaml:"ca" flag:"etcd-tls-ca" default:"" doc:"File with the authority that etcd's certificate is from."`
}

// Etcd is where the cluster's keys are.
type Etcd struct {
	Endpoints []string `yaml:"endpoints" flag:"etcd" default:"" doc:"host:port of each of its servers."`
	Prefix    string   `yaml:"prefix" flag:"etcd-prefix" default:"/goverse" doc:"What this cluster's keys begin with."`
	TLS       EtcdTLS  `yaml:"tls" doc:"Encrypts the connections to etcd. Without it they are in plain text."`
}

// Postgres is the database of the objects' state; see util/postgres.Config.
type Postgres struct {
	URL            string        `yaml:"url" flag:"postgres" secret:"true" default:"" doc:"postgres://user:password@host/database; stands for all keys below it but the limits."`
	Host           string        `yaml:"host" flag:"postgres-host" default:"localhost" doc:"A name, an address, or the directory of a Unix socket."`
	Port           int           `yaml:"port" flag:"postgres-port" default:"5432" doc:"1 to 65535."`
	User           string        `yaml:"user" flag:"postgres-user" default:"goverse" doc:"Who signs in."`
	Password       string        `yaml:"password" flag:"postgres-password" secret:"true" default:"" doc:"With what; better in GOVERSE_POSTGRES_PASSWORD, in PGPASSWORD or in ~/.pgpass than here."`
	Database       string        `yaml:"database" flag:"postgres-database" default:"goverse" doc:"Its name."`
	SSLMode        string        `yaml:"sslmode" flag:"postgres-sslmode" oneof:"disable,allow,prefer,require,verify-ca,verify-full" default:"disable" doc:"disable, allow, prefer, require, verify-ca or verify-full; only the last proves which server answers."`
	MaxOpenConns   int           `yaml:"max_open_conns" flag:"postgres-max-open-conns" default:"16" doc:"Connections of one node at most, 2 to 1000."`
	MaxIdleConns   int           `yaml:"max_idle_conns" flag:"postgres-max-idle-conns" default:"0" doc:"How many of them are kept while nobody uses them; 0 is all."`
	ConnectTimeout time.Duration `yaml:"connect_timeout" flag:"postgres-connect-timeout" default:"5s" doc:"How long it may take to make one."`
}

// Inspector is the page that shows the cluster.
type Inspector struct {
	Address string `yaml:"address" flag:"inspector-listen" default:"" doc:"host:port of the page that shows the cluster, in programs that serve one; off for none."`
}

// Node is one node program.
type Node struct {
	ID        string            `yaml:"id" doc:"What --node-id calls it; only this file knows it."`
	Listen    string            `yaml:"grpc_addr" flag:"listen" doc:"host:port on which other nodes and gates reach it."`
	Advertise string            `yaml:"advertise_addr" flag:"advertise" doc:"host:port that they are told, if it differs."`
	HTTP      string            `yaml:"http_addr" flag:"http-listen" doc:"host:port for clients of a program that has a gate too; of any other, the operations port."`
	Ops       string            `yaml:"ops_addr" flag:"ops-listen" doc:"host:port of the operations port: /healthz, /ready, /metrics."`
	DataDir   string            `yaml:"data_dir" flag:"data-dir" doc:"Directory of the embedded etcd and the SQLite store."`
	TLS       MemberTLS         `yaml:"tls" doc:"What it shows other nodes and gates."`
	ClientTLS ClientTLS         `yaml:"client_tls" doc:"What it shows clients, in a program that has a gate too."`
	Flags     map[string]string `yaml:"flags" doc:"Flags of this program, by their names without dashes, for which there is no key."`
}

// Gate is one gate program.
type Gate struct {
	ID            string            `yaml:"id" doc:"What --gate-id calls it; only this file knows it."`
	Listen        string            `yaml:"grpc_addr" flag:"listen" doc:"host:port for clients over gRPC."`
	Advertise     string            `yaml:"advertise_addr" flag:"advertise" doc:"host:port by which others reach it; it begins its client ids."`
	HTTP          string            `yaml:"http_addr" flag:"http-listen" doc:"host:port for JSON, events and WebSockets; off for none."`
	AdvertiseHTTP string            `yaml:"advertise_http" flag:"advertise-http" doc:"The URL by which clients reach that, if it differs: those of a gate that leaves are told it."`
	Ops           string            `yaml:"ops_addr" flag:"ops-listen" doc:"host:port for operators; off for none."`
	TLS           MemberTLS         `yaml:"tls" doc:"What it shows nodes."`
	ClientTLS     ClientTLS         `yaml:"client_tls" doc:"What it shows its clients."`
	Flags         map[string]string `yaml:"flags" doc:"Flags of this program, by their names without dashes, for which there is no key."`
}

// AccessRule says who may call methods.
type AccessRule struct {
	Type   string `yaml:"type" doc:"A type, or a /regexp/ that has to match all of it; empty is any."`
	ID     string `yaml:"id" doc:"An id, or a /regexp/; empty is any."`
	Method string `yaml:"method" doc:"A method, or a /regexp/; empty is any."`
	Access string `yaml:"access" doc:"REJECT nobody, INTERNAL objects and nodes but no client, EXTERNAL clients only, ALLOW everybody."`
}

// LifecycleRule says who may create and delete objects.
type LifecycleRule struct {
	Type      string `yaml:"type" doc:"A type, or a /regexp/ that has to match all of it; empty is any."`
	ID        string `yaml:"id" doc:"An id, or a /regexp/; empty is any."`
	Lifecycle string `yaml:"lifecycle" doc:"CREATE, DELETE, or ALL (or empty) for both."`
	Access    string `yaml:"access" doc:"REJECT nobody, INTERNAL objects and nodes but no client, EXTERNAL clients only, ALLOW everybody."`
}
