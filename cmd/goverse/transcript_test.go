package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"github.com/xiaonanln/goverse/cluster/etcdmanager"
	"github.com/xiaonanln/goverse/cluster/etcdmanager/memkv"
)

// The transcripts: what is in etcd, and what the command line says of it.
//
//	etcd        lines of "put key value" and "del key", below /goverse/ unless the key begins with /
//	condition   what etcd says of itself: lines of "endpoint address", with words of
//	            silent, unled, learner, old, version=, cluster=, and in MiB size=, used=, quota=,
//	            and of "alarm NOSPACE" or "alarm CORRUPT"; without any it says nothing
//	run         a command line; its words are separated by blanks
func TestTranscripts(t *testing.T) {
	datadriven.Walk(t, "testdata/transcripts", func(t *testing.T, path string) {
		store := memkv.NewStore()
		defer store.Close()
		var condition *etcdmanager.Condition
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			switch d.Cmd {
			case "etcd":
				write(t, store, d.Input)
				return ""
			case "condition":
				condition = conditionOf(t, d.Input)
				return ""
			case "run":
				args := strings.Fields(d.Input)[1:]
				dial := connectTo(t, store, args[0] != "drain" && args[0] != "move")
				return runOn(t, examined(dial, condition), nil, args...).String()
			}
			d.Fatalf(t, "unknown command %s", d.Cmd)
			return ""
		})
	})
}

// write puts and deletes keys, each at a revision of its own.
func write(t testing.TB, store *memkv.Store, script string) {
	t.Helper()
	kv := store.Connect()
	defer kv.Close()
	for line := range strings.Lines(script) {
		verb, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		key, value, _ := strings.Cut(rest, " ")
		if !strings.HasPrefix(key, "/") {
			key = "/goverse/" + key
		}
		op := etcdmanager.Put(key, []byte(value), 0)
		if verb == "del" {
			op = etcdmanager.Delete(key)
		}
		if _, err := kv.Commit(t.Context(), etcdmanager.Txn{Then: []etcdmanager.Op{op}}); err != nil {
			t.Fatal(err)
		}
	}
}

// outcome is what a run of the program left.
type outcome struct {
	code        int
	stdout, err string
}

func (o outcome) String() string {
	var b strings.Builder
	b.WriteString(o.stdout)
	for line := range strings.Lines(o.err) {
		fmt.Fprintf(&b, "stderr: %s", line)
	}
	if o.code != 0 {
		fmt.Fprintf(&b, "exit code %d\n", o.code)
	}
	return b.String()
}

type dialer func(etcdmanager.Config) (etcdmanager.KV, error)

// runOn is the program in this process, with another etcd.
func runOn(t testing.TB, dial dialer, environment map[string]string, args ...string) outcome {
	t.Helper()
	return runIn(t.Context(), dial, environment, "", args...)
}

func runIn(ctx context.Context, dial dialer, environment map[string]string, stdin string, args ...string) outcome {
	var stdout, stderr bytes.Buffer
	p := &program{
		in: strings.NewReader(stdin), out: &stdout, err: &stderr, dial: dial,
		environment: func(name string) (string, bool) { v, ok := environment[name]; return v, ok },
	}
	code := p.run(ctx, args)
	return outcome{code, stdout.String(), stderr.String()}
}

// An output that cannot be written is a failure.
func TestAFullDisk(t *testing.T) {
	store := memkv.NewStore()
	defer store.Close()
	write(t, store, twoNodes)
	for _, args := range []string{"nodes", "nodes -o json", "shards --all", "explain shard 1", "version"} {
		var stderr bytes.Buffer
		p := &program{in: strings.NewReader(""), out: full{}, err: &stderr, dial: connectTo(t, store, true), environment: func(string) (string, bool) { return "", false }}
		if code := p.run(t.Context(), strings.Fields(args)); code != 1 || !strings.Contains(stderr.String(), "no space left") {
			t.Errorf("%s: %d, %s", args, code, &stderr)
		}
	}
}

type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("no space left") }

// connectTo dials a store in memory; whoever only reads must not do more.
func connectTo(t testing.TB, store *memkv.Store, readOnly bool) dialer {
	return func(etcdmanager.Config) (etcdmanager.KV, error) {
		if readOnly {
			return onlyReads{store.Connect(), t}, nil
		}
		return store.Connect(), nil
	}
}

// onlyReads fails the test when something is to be written.
type onlyReads struct {
	*memkv.Conn
	t testing.TB
}

func (o onlyReads) Commit(context.Context, etcdmanager.Txn) (etcdmanager.Result, error) {
	o.t.Error("a transaction of a command that only reads")
	return etcdmanager.Result{}, etcdmanager.ErrNotApplied
}

func (o onlyReads) Grant(context.Context, time.Duration) (etcdmanager.LeaseID, time.Duration, error) {
	o.t.Error("a lease of a command that only reads")
	return 0, 0, etcdmanager.ErrNotApplied
}
