package gateconfig

import (
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/xiaonanln/goverse/internal/conf"
)

func TestDefaults(t *testing.T) {
	t.Setenv(EtcdVariable, "")
	c, err := NewLoader(nil).Load(nil)
	if err != nil {
		t.Fatal(err)
	}
	if c.ListenAddress != ":49000" || c.HTTPListenAddress != ":48000" || c.OpsListenAddress != "off" || c.EtcdPrefix != "/goverse" || c.EtcdAddress != "" {
		t.Errorf("%+v", c)
	}
}

func TestFlagsAndEnvironment(t *testing.T) {
	t.Setenv(EtcdVariable, "from-env:2379")
	c, err := NewLoader(nil).Load([]string{"--listen", "localhost:1", "--advertise=g:1", "--http-listen", ":2", "--ops-listen", ":3", "--etcd-prefix", "/x"})
	if err != nil {
		t.Fatal(err)
	}
	if c.ListenAddress != "localhost:1" || c.AdvertiseAddress != "g:1" || c.HTTPListenAddress != ":2" || c.OpsListenAddress != ":3" || c.EtcdPrefix != "/x" || c.EtcdAddress != "from-env:2379" {
		t.Errorf("%+v", c)
	}
	c, err = NewLoader(nil).Load([]string{"--etcd", "flag:2379"})
	if err != nil || c.EtcdAddress != "flag:2379" {
		t.Errorf("the flag must win over the environment: %+v, %v", c, err)
	}
}

func TestAProgramsOwnFlagsStandBeside(t *testing.T) {
	fs := flag.NewFlagSet("own", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	color := fs.String("color", "", "")
	c, err := NewLoader(fs).Load([]string{"--color", "red", "--etcd", "e:1"})
	if err != nil || *color != "red" || c.EtcdAddress != "e:1" {
		t.Errorf("%v %v %v", c, *color, err)
	}
}

// The file is below the environment, and that below the flags.
func TestFile(t *testing.T) {
	t.Setenv(EtcdVariable, "")
	t.Setenv("GOVERSE_MAX_CALLS", "7")
	path := filepath.Join(t.TempDir(), "cluster.yaml")
	text := `version: 1
cluster: {etcd: {endpoints: ["e:1"], prefix: /x}, min_quorum: 3, default_call_timeout: 4s}
gate_flags: {max-calls: 5, max-sessions: 6, resume-window: 90s}
gates:
  - {id: g1, grpc_addr: ":1", http_addr: off, ops_addr: ":3", advertise_addr: "g:1"}
  - {id: g2}
`
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := NewLoader(nil).Load([]string{"--config", path, "--gate-id", "g1", "--http-listen", ":2"})
	if err != nil {
		t.Fatal(err)
	}
	if c.EtcdAddress != "e:1" || c.EtcdPrefix != "/x" || c.ListenAddress != ":1" || c.HTTPListenAddress != ":2" || c.OpsListenAddress != ":3" || c.AdvertiseAddress != "g:1" ||
		c.MaxCalls != 7 || c.MaxSessions != 6 || c.ResumeWindow != 90*time.Second || c.DefaultCallTimeout != 4*time.Second || c.DefaultDeleteTimeout != 4*time.Second {
		t.Errorf("%+v", c)
	}
	for _, bad := range [][]string{{"--config", path}, {"--config", path, "--gate-id", "g3"}, {"--gate-id", "g1"}, {"--log-level", "loud"}} {
		if _, err := NewLoader(nil).Load(bad); err == nil {
			t.Errorf("%q passed", bad)
		}
	}
}

// The reference tells the defaults that the flags have.
func TestTheReferenceTellsTheDefaults(t *testing.T) {
	l := NewLoader(nil)
	for flag, standard := range conf.Defaults() {
		if f := l.flags.Lookup(flag); f != nil && f.DefValue != standard {
			t.Errorf("--%s is %q by default; the schema says %q", flag, f.DefValue, standard)
		}
	}
}

func TestBadCommandLines(t *testing.T) {
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"--lissten", ":1"}, "-lissten"},
		{[]string{"--listen"}, "needs an argument"},
		{[]string{"--etcd", ""}, "--etcd is given without a value"},
		{[]string{"--listen", ":1", "stray"}, `"stray"`},
	} {
		if _, err := NewLoader(nil).Load(c.args); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: %v; want it to say %q", c.args, err, c.want)
		}
	}
	l := NewLoader(nil)
	if _, err := l.Load(nil); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Load(nil); err == nil {
		t.Error("a second Load passed")
	}
	if _, err := NewLoader(nil).Load([]string{"-h"}); !errors.Is(err, flag.ErrHelp) {
		t.Errorf("-h: %v", err)
	}
}
