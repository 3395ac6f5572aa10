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
	GateFlags map[string]string `yaml:"gate_flags" doc:"The same for all gate programs."`
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
}

// Etcd is where the cluster's keys are.
type Etcd struct {
	Endpoints []string `yaml:"endpoints" flag:"etcd" default:"" doc:"host:port of each of its servers."`
	Prefix    string   `yaml:"prefix" flag:"etcd-prefix" default:"/goverse" doc:"What this cluster's keys begin with."`
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
	Flags     map[string]string `yaml:"flags" doc:"Flags of this program, by their names without dashes, for which there is no key."`
}

// Gate is one gate program.
type Gate struct {
	ID        string            `yaml:"id" doc:"What --gate-id calls it; only this file knows it."`
	Listen    string            `yaml:"grpc_addr" flag:"listen" doc:"host:port for clients over gRPC."`
	Advertise string            `yaml:"advertise_addr" flag:"advertise" doc:"host:port by which others reach it; it begins its client ids."`
	HTTP      string            `yaml:"http_addr" flag:"http-listen" doc:"host:port for JSON, events and WebSockets; off for none."`
	Ops       string            `yaml:"ops_addr" flag:"ops-listen" doc:"host:port for operators; off for none."`
	Flags     map[string]string `yaml:"flags" doc:"Flags of this program, by their names without dashes, for which there is no key."`
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
