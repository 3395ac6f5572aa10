package goverseapi

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/xiaonanln/goverse/internal/conf"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func write(t *testing.T, text string) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "cluster.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func environment(list ...string) func(string) (string, bool) {
	return func(name string) (string, bool) {
		for _, entry := range list {
			if key, value, _ := strings.Cut(entry, "="); key == name {
				return value, true
			}
		}
		return "", false
	}
}

const clusterFile = `version: 1
cluster:
  etcd: {endpoints: ["e:1", "e:2"], prefix: /chat}
  shards: 64
  min_quorum: 2
  cluster_state_stability_duration: 3s
  default_call_timeout: 4s
nodes:
  - {id: n1, grpc_addr: "0.0.0.0:47000", advertise_addr: "n1:47000", http_addr: "127.0.0.1:47080", data_dir: /n1}
  - {id: n2, grpc_addr: "n2:47000", flags: {max-executions: 100}}
`

// The file reaches the node's configuration, and everything else wins over it.
func TestConfigOfANode(t *testing.T) {
	path := write(t, clusterFile)
	c, err := NewConfigLoader(nil).LoadIn(environment("GOVERSE_STABILITY=5s"), []string{"--config", path, "--node-id", "n1", "--min-quorum", "3"})
	if err != nil {
		t.Fatal(err)
	}
	if c.EtcdAddress != "e:1,e:2" || c.EtcdPrefix != "/chat" || c.NumShards != 64 || c.MinQuorum != 3 || c.NodeStabilityDuration != 5*time.Second ||
		c.DefaultCallTimeout != 4*time.Second || c.ListenAddress != "0.0.0.0:47000" || c.AdvertiseAddress != "n1:47000" ||
		c.MetricsListenAddress != "127.0.0.1:47080" || c.DataDir != "/n1" || c.OpenStore != nil {
		t.Errorf("%+v", c)
	}
	if err := c.Validate(); err != nil {
		t.Error(err)
	}
	c, err = NewConfigLoader(nil).LoadIn(environment("GOVERSE_CONFIG="+path, "GOVERSE_NODE_ID=n2"), nil)
	if err != nil || c.ListenAddress != "n2:47000" || c.MaxExecutions != 100 {
		t.Errorf("%+v, %v", c, err)
	}
	if _, err := NewServerWithConfig(c); err != nil {
		t.Error(err)
	}
}

func TestBadConfigOfANode(t *testing.T) {
	path := write(t, clusterFile)
	own := func(c *ServerConfig) *ConfigLoader {
		c.OpenStore = openSQLite
		return newConfigLoader(flag.NewFlagSet("", flag.ContinueOnError), c)
	}
	for _, c := range []struct {
		l    *ConfigLoader
		args []string
		want string
	}{
		{NewConfigLoader(nil), []string{"--config", path}, "--node-id n1 or n2"},
		{NewConfigLoader(nil), []string{"--config", path, "--node-id", "n9"}, `no node "n9"; there are n1, n2`},
		{NewConfigLoader(nil), []string{"--node-id", "n1"}, "give the file with --config"},
		{NewConfigLoader(nil), []string{"--config", path + "x", "--node-id", "n1"}, "no such file"},
		{NewConfigLoader(nil), []string{"--config", write(t, "version: 1\nnods: []")}, "cluster.yaml:2: nods: there is no such key; did you mean nodes?"},
		{NewConfigLoader(nil), []string{"--config", path, "--node-id", "n1", "--ops-listen", ":1"}, "give one"},
		{NewConfigLoader(nil), []string{"--log-level", "loud", "--log-format", "xml"}, `"loud"`},
		{NewConfigLoader(nil), []string{"--postgres-port", "0x10000"}, "port 65536"},
		{NewConfigLoader(nil), []string{"stray"}, `"stray"`},
		{own(&ServerConfig{}), []string{"--postgres-host", "db"}, "brings its own store"},
	} {
		if _, err := c.l.LoadIn(environment(), c.args); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: %v; want it to say %q", c.args, err, c.want)
		}
	}
	l := NewConfigLoader(nil)
	if _, err := l.LoadIn(environment(), nil); err != nil {
		t.Fatal(err)
	}
	if _, err := l.LoadIn(environment(), nil); err == nil {
		t.Error("a second Load passed")
	}
}

// Anything that is said of PostgreSQL makes it the store; nothing said is SQLite.
func TestConfigChoosesTheStore(t *testing.T) {
	for _, c := range []struct {
		args []string
		env  string
		want bool
	}{
		{nil, "", false},
		{[]string{"--config", write(t, "version: 1\n")}, "", false},
		{[]string{"--config", write(t, "version: 1\npostgres: {}\n")}, "", true},
		{[]string{"--postgres-database", "x"}, "", true},
		{nil, "GOVERSE_POSTGRES=postgres://a@b/c", true},
	} {
		cfg, err := NewConfigLoader(nil).LoadIn(environment(c.env), c.args)
		if err != nil || (cfg.OpenStore != nil) != c.want {
			t.Errorf("%q %s: %v, %v", c.args, c.env, cfg, err)
		}
	}
}

// What a program has set before stays, and so do flags of its own with our names.
func TestAProgramsOwnFlagsWin(t *testing.T) {
	fs := flag.NewFlagSet("", flag.ContinueOnError)
	level := fs.String("log-level", "mine", "")
	cfg := &ServerConfig{DefaultCallTimeout: time.Minute, NumShards: 8, MaxExecutions: 70}
	if _, err := newConfigLoader(fs, cfg).LoadIn(environment(), []string{"--log-level", "high"}); err != nil {
		t.Fatal(err)
	}
	if *level != "high" || cfg.DefaultCallTimeout != time.Minute || cfg.NumShards != 8 || cfg.MaxExecutions != 70 {
		t.Errorf("%s %+v", *level, cfg)
	}
}

// The reference tells the defaults that the flags have, and knows each of their names.
func TestTheReferenceTellsTheDefaults(t *testing.T) {
	l := NewConfigLoader(nil)
	for flag, standard := range conf.Defaults() {
		if f := l.flags.Lookup(flag); f != nil && f.DefValue != standard {
			t.Errorf("--%s is %q by default; the schema says %q", flag, f.DefValue, standard)
		}
	}
}
