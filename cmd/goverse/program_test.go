package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/xiaonanln/goverse/cluster/etcdmanager"
	"github.com/xiaonanln/goverse/cluster/etcdmanager/embedded"
	"github.com/xiaonanln/goverse/server"
)

// command is the program as a process, in an empty directory.
func command(t *testing.T, environment []string, args ...string) *exec.Cmd {
	c := exec.CommandContext(t.Context(), os.Args[0], args...)
	c.Dir = t.TempDir()
	c.Env = append([]string{asProgram + "=1", "HOME=" + c.Dir, "PATH=" + os.Getenv("PATH")}, environment...)
	return c
}

func execute(t *testing.T, environment []string, args ...string) outcome {
	t.Helper()
	var stdout, stderr bytes.Buffer
	c := command(t, environment, args...)
	c.Stdout, c.Stderr = &stdout, &stderr
	err := c.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return outcome{c.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

// here is the program in this process, as it is but for the environment.
func here(t *testing.T, environment []string, args ...string) outcome {
	variables := map[string]string{}
	for _, v := range environment {
		name, value, _ := strings.Cut(v, "=")
		variables[name] = value
	}
	return runOn(t, dialEtcd, variables, args...)
}

func TestExitCodes(t *testing.T) {
	for _, c := range []struct {
		run               func(*testing.T, []string, ...string) outcome
		environment, args string
		code              int
		stdout, stderr    string
	}{
		{execute, "", "--help", 0, "goverse explain object ChatRoom/general", ""},
		{execute, "", "drian", 2, "", "did you mean drain?"},
		{execute, "", "explain shard many", 2, "", `shard "many": want a number`},
		{execute, "GOVERSE_ETCD=localhost:1", "nodes --timeout 200ms", 1, "", "GOVERSE_ETCD says so"},
		{execute, "", "completion bash", 0, "__start_goverse", ""},
		{here, "", "", 0, "Exit codes:", ""},
		{here, "", "explain shard --help", 0, "goverse explain shard 4711", ""},
		{here, "", "help drain", 0, "--force", ""},
		{here, "", "version", 0, "goverse ", ""},
		{here, "", "version -o json", 0, `"go": "go`, ""},
		{here, "", "__complete shards --state or", 0, "orphaned", ""},
		{here, "", "nodes --etdc x", 2, "", "unknown flag: --etdc"},
		{here, "", "nodes --etcd=", 2, "", "--etcd is given without a value"},
		{here, "GOVERSE_TIMEOUT=long", "nodes", 2, "", `GOVERSE_TIMEOUT="long"`},
		{here, "GOVERSE_ETCD=nowhere", "nodes", 2, "", `etcd endpoint "nowhere"`},
		{here, "GOVERSE_ETCD=nowhere", "nodes --etcd localhost:1 --timeout 200ms", 1, "", "etcd localhost:1: no answer within 200ms"},
		{here, "GOVERSE_ETCD_PREFIX=/", "nodes", 2, "", `--etcd-prefix "/"`},
		{here, "", "nodes --data-dir testdata", 1, "", "no program has its data in testdata"},
		{here, "GOVERSE_DATA_DIR=/nowhere", "nodes", 1, "", "no program has its data in /nowhere"},
		{here, "", "gate --help", 0, "goverse gate --etcd localhost:2379", ""},
		{here, "", "help inspector", 0, "goverse inspector --etcd localhost:2379", ""},
		{here, "", "gate", 2, "", "needs the cluster's etcd: give --etcd host:port"},
		{here, "", "gate --lisen x", 2, "", "goverse gate: flag provided but not defined: -lisen"},
		{here, "", "inspector x", 2, "", `goverse inspector: unexpected argument "x"`},
		{here, "", "inspector --data-dir /nowhere", 1, "", "no etcd to look at"},
		{here, "", "--etcd=localhost:1 gate --listen 127.0.0.1:0 --http-listen off", 1, "", "etcd localhost:1: no answer"},
		{here, "", "__complete gate --max-s", 0, "--max-sessions\tclients", ""},
		{here, "", "__complete inspector --member-n", 0, "--member-name\thost", ""},
		{here, "", "call A/b M --gate localhost:1", 1, "", "(NotExecuted)"},
	} {
		var environment []string
		if c.environment != "" {
			environment = []string{c.environment}
		}
		out := c.run(t, environment, strings.Fields(c.args)...)
		if out.code != c.code || !strings.Contains(out.stdout, c.stdout) || !strings.Contains(out.err, c.stderr) || c.code != 0 && out.stdout != "" {
			t.Errorf("%s %s: %v", c.environment, c.args, out)
		}
	}
}

// Beside a program with an etcd of its own no flag is needed.
func TestTheProgramsOwnEtcd(t *testing.T) {
	dir := filepath.Join(t.TempDir(), ".goverse")
	etcd, err := embedded.Start(t.Context(), embedded.Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	defer etcd.Close()
	kv, err := etcdmanager.Dial(etcdmanager.Config{Endpoints: []string{etcd.Endpoint()}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := kv.Commit(t.Context(), etcdmanager.Txn{Then: []etcdmanager.Op{etcdmanager.Put("/goverse/meta", []byte(`{"cluster":"c1","boot":"b1","store":"s1","shards":7}`), 0)}}); err != nil {
		t.Fatal(err)
	}
	kv.Close()
	beside := command(t, nil, "shards")
	beside.Dir = filepath.Dir(dir)
	if out, err := beside.Output(); err != nil || !strings.Contains(string(out), "total       7") {
		t.Errorf("%s, %v", out, err)
	}
	elsewhere := []string{"GOVERSE_ETCD=localhost:1"}
	for i, out := range []outcome{
		here(t, elsewhere, "shards", "--etcd", etcd.Endpoint()),
		here(t, elsewhere, "shards", "--data-dir", dir),
		here(t, []string{"GOVERSE_DATA_DIR=" + dir}, "shards"),
		here(t, []string{"GOVERSE_ETCD=" + etcd.Endpoint(), "GOVERSE_DATA_DIR=/nowhere"}, "shards"),
	} {
		if out.code != 0 || !strings.Contains(out.stdout, "total       7") {
			t.Error(i, out)
		}
	}
	if out := here(t, append(elsewhere, "GOVERSE_DATA_DIR="+dir), "shards", "--timeout", "200ms"); out.code != 1 || !strings.Contains(out.err, "localhost:1") {
		t.Error(out)
	}
	if err := etcd.Close(); err != nil {
		t.Fatal(err)
	}
	if out := here(t, nil, "nodes", "--data-dir", dir); out.code != 1 || !strings.Contains(out.err, "the program that has its data in "+dir+" is not running") {
		t.Error(out)
	}
}

// What a process that died, or is not ready, has left in its lock file.
func TestLockFiles(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone := l.Addr().String()
	l.Close()
	for text, want := range map[string]string{
		fmt.Sprintf(`{"pid":1,"endpoint":%q,"lease":"0"}   `, gone): "died, or its etcd does not answer at " + gone,
		`{"pid":1,"endpoint":"","lease":"0"}`:                       "is still starting",
		"":                                                          "is still starting",
		`{"pid":0,"endpoint":"127.0.0.1:1","lease":"0"}`: "is not running",
	} {
		dir := t.TempDir()
		if err := os.WriteFile(etcdmanager.LockFile(dir), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if endpoint, err := etcdmanager.EndpointIn(dir); endpoint != "" || err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %s, %v", text, endpoint, err)
		}
		f := commonFlags{dataDir: dir}
		if list, why, err := f.endpoints(); err != nil || len(list) != 1 || list[0] != defaultEtcd || !strings.Contains(why, want) {
			t.Errorf("%s: %q, %s, %v", text, list, why, err)
		}
	}
}

// A real cluster: look, drain, wait, take back.
func TestARealCluster(t *testing.T) {
	etcd, err := embedded.Start(context.Background(), embedded.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { etcd.Close() }) // after the nodes
	goverse := func(args ...string) outcome {
		t.Helper()
		return execute(t, []string{"GOVERSE_ETCD=" + etcd.Endpoint()}, args...)
	}
	a, b := node(t, etcd.Endpoint()), node(t, etcd.Endpoint())
	nodes := func() (l nodeList) {
		t.Helper()
		out := goverse("nodes", "-o", "json")
		if err := json.Unmarshal([]byte(out.stdout), &l); err != nil || out.code != 0 {
			t.Fatal(out, err)
		}
		return l
	}
	follow(t, etcd.Endpoint(), "both have shards", func(l nodeList) bool {
		return len(l.Nodes) == 2 && l.Nodes[0].Held > 0 && l.Nodes[1].Held > 0 && l.Nodes[0].Held+l.Nodes[1].Held == 64
	})
	asks(t, goverse, a, b)
	if out := goverse("drain", a, "--wait"); out.code != 0 || out.stdout != a+" has no shard left: its process can be stopped\n" {
		t.Error(out)
	}
	for _, n := range nodes().Nodes {
		if n.Address == a && (n.State != "draining" || n.Held+n.Target > 0) || n.Address == b && n.Held != 64 {
			t.Errorf("%+v", n)
		}
	}
	if out := goverse("explain", "object", "Nothing/shard#7/x"); out.code != 0 || !strings.Contains(out.stdout, b+" holds it, and calls run there") {
		t.Error(out)
	}
	if out := goverse("drain", b, "--wait"); out.code != 1 || !strings.Contains(out.err, "is the last ready node") {
		t.Error(out)
	}
	interrupted(t, etcd.Endpoint(), b)
	if out := goverse("drain", a, "--undo"); out.code != 0 {
		t.Error(out)
	}
	follow(t, etcd.Endpoint(), "all has moved to "+a, func(l nodeList) bool {
		for _, n := range l.Nodes {
			if n.Address == a && n.Held == 64 && n.State == "ready" {
				return true
			}
		}
		return false
	})
	if out := goverse("drain", b, "--undo"); out.code != 0 || !strings.Contains(out.stdout, "is ready again") {
		t.Error(out)
	}
}

// asks tries the commands that ask the nodes themselves.
func asks(t *testing.T, goverse func(args ...string) outcome, a, b string) {
	t.Helper()
	if out := goverse("objects", "-o", "json"); !strings.Contains(out.stdout, `"objects": []`) || out.code != 0 && !strings.Contains(out.err, "the list lacks") {
		t.Error(out)
	}
	if out := goverse("objects", "--node", "x:1"); out.code != 1 || !strings.Contains(out.err, "no node is registered as x:1") {
		t.Error(out)
	}
	if out := goverse("objects", "--limit", "0"); out.code != 2 {
		t.Error(out)
	}
	if out := goverse("top", "--times", "2"); out.code != 0 || strings.Count(out.stdout, a) != 2 || strings.Count(out.stdout, b) != 2 {
		t.Error(out)
	}
	if out := goverse("top", "--every", "10ms"); out.code != 2 {
		t.Error(out)
	}
	answered := false // a busy machine may let a node be silent for its short time
	for n := 0; n < 10 && !answered; n++ {
		out := goverse("doctor")
		if !strings.Contains(out.stdout, "all 64 have a live holder") {
			t.Error(out)
		}
		if answered = strings.Contains(out.stdout, "2 ports answered from here") && strings.Contains(out.stdout, "well   clocks    2 clocks and"); !answered {
			t.Log(out)
		}
	}
	if !answered {
		t.Error("the nodes never answered")
	}
}

// node runs a node without a store until the test ends.
func node(t *testing.T, etcd string) (address string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s, err := server.New(server.ServerConfig{Listener: l, EtcdAddress: etcd, NumShards: 64, MinQuorum: 2, NodeStabilityDuration: 100 * time.Millisecond, DataDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	select {
	case <-s.Joined():
	case err := <-ended:
		ended <- err
	}
	return l.Addr().String()
}

// follow watches the nodes until they are as they should be, and interrupts.
func follow(t *testing.T, etcd, what string, is func(nodeList) bool) {
	t.Helper()
	c := command(t, nil, "nodes", "--watch", "-o", "json", "--etcd", etcd)
	c.Stderr = os.Stderr
	lines, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	decoder := json.NewDecoder(lines)
	for {
		var l nodeList
		if err := decoder.Decode(&l); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if is(l) {
			break
		}
	}
	if err := c.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := c.Wait(); err != nil {
		t.Errorf("an interrupt is how a watch ends: %v", err)
	}
}

// interrupted waits for the last ready node, which never gets empty, until Ctrl-C.
func interrupted(t *testing.T, etcd, address string) {
	t.Helper()
	c := command(t, nil, "drain", address, "--wait", "--force", "--etcd", etcd)
	told, err := c.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	var said strings.Builder
	for !strings.Contains(said.String(), "64 shards left; no other node is ready to take them") {
		b := make([]byte, 1<<10)
		n, err := told.Read(b)
		if said.Write(b[:n]); err != nil {
			t.Fatal(said.String(), err)
		}
	}
	if err := c.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	rest := new(bytes.Buffer)
	rest.ReadFrom(told)
	if c.Wait(); c.ProcessState.ExitCode() != 1 || !strings.Contains(rest.String(), address+" goes on draining (64 shards left)") {
		t.Errorf("%v: %s%s", c.ProcessState, &said, rest)
	}
}
