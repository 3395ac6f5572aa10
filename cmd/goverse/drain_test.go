package main

import (
	"bytes"
	"context"
	"strings"
	"sync"
	"testing"

	"github.com/xiaonanln/goverse/cluster/consensusmanager"
	"github.com/xiaonanln/goverse/cluster/etcdmanager"
	"github.com/xiaonanln/goverse/cluster/etcdmanager/memkv"
)

const twoNodes = `put meta {"cluster":"c1","boot":"b1","store":"s1","shards":2}
put formed {"nodes":2}
put leader {"node":"a:1","reg":"a1"}
put nodes/a:1 {"reg":"a1","state":"ready"}
put nodes/b:1 {"reg":"b1","state":"ready"}
put reg/a1 a:1
put reg/b1 b:1
put shards/0000 {"e":1,"c":"a:1","ci":"a1","t":"a:1","h":"","n":"00000001"}
put shards/0001 {"e":1,"c":"b:1","ci":"b1","t":"b:1","h":"","n":"00000001"}`

// await waits until the cluster in store is as it should be.
func await(t testing.TB, store *memkv.Store, is func(*consensusmanager.View) bool) {
	t.Helper()
	kv := store.Connect()
	defer kv.Close()
	if err := consensusmanager.Follow(t.Context(), kv, "/goverse", func(v *consensusmanager.View) bool { return !is(v) }); err != nil {
		t.Fatal(err)
	}
}

func draining(address string) func(*consensusmanager.View) bool {
	return func(v *consensusmanager.View) bool {
		m, ok := v.Member(address)
		return ok && m.State == consensusmanager.StateDraining
	}
}

// Whatever ends the draining ends the waiting, and is told.
func TestDrainWaits(t *testing.T) {
	for _, c := range []struct {
		name, then string
		code       int
		stdout     string
		stderr     string
	}{
		{"until all has moved", `put shards/0000 {"e":1,"c":"a:1","ci":"a1","t":"b:1","h":"","n":"00000002"}
			put shards/0000 {"e":2,"c":"b:1","ci":"b1","t":"b:1","h":"ff","n":"00000003"}`,
			0, `"state": "draining",
  "changed": true,
  "held": 0,`, "a:1 is draining: 1 shard to go, to 1 ready node\n"},
		{"until somebody takes it back", `put nodes/a:1 {"reg":"a1","state":"ready"}`, 1, "", "a:1 is ready again: somebody took the order back"},
		{"until the process is gone", "del nodes/a:1\ndel reg/a1", 0, `"state": "gone"`, ""},
		{"until it starts anew", "del reg/a1\nput reg/a2 a:1\nput nodes/a:1 {\"reg\":\"a2\",\"state\":\"ready\"}", -1, "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			store := memkv.NewStore()
			defer store.Close()
			write(t, store, twoNodes)
			ended := make(chan outcome)
			go func() {
				ended <- runOn(t, connectTo(t, store, false), nil, "drain", "a:1", "--wait", "-o", "json")
			}()
			await(t, store, draining("a:1"))
			write(t, store, c.then)
			out := <-ended
			switch {
			case c.code < 0: // it may see the moment in which the node was gone
				if started := strings.Contains(out.err, "a:1 was started anew, and is ready"); out.code == 1 != started || out.code == 0 != strings.Contains(out.stdout, `"gone"`) {
					t.Error(out)
				}
			case out.code != c.code || !strings.Contains(out.stdout, c.stdout) || !strings.Contains(out.err, c.stderr):
				t.Error(out)
			}
		})
	}
}

// A shard that is on its way is not gone.
func TestDrainWaitsForWhatIsMoving(t *testing.T) {
	store := memkv.NewStore()
	defer store.Close()
	write(t, store, twoNodes)
	write(t, store, `put nodes/a:1 {"reg":"a1","state":"draining","by":"operator"}
		put shards/0000 {"e":1,"c":"a:1","ci":"a1","t":"b:1","h":"","n":"00000002"}`)
	waits := &watched{Conn: store.Connect(), watching: make(chan struct{})}
	ended := make(chan outcome, 1)
	go func() {
		ended <- runOn(t, func(etcdmanager.Config) (etcdmanager.KV, error) { return waits, nil }, nil, "drain", "a:1", "--wait")
	}()
	select {
	case <-waits.watching: // it has seen how things are, and goes on
	case out := <-ended:
		t.Fatal(out)
	}
	write(t, store, `put shards/0000 {"e":2,"c":"b:1","ci":"b1","t":"b:1","h":"ff","n":"00000003"}`)
	if out := <-ended; out.code != 0 || out.stdout != "a:1 has no shard left: its process can be stopped\n" ||
		out.err != "a:1 was draining already: 1 shard to go, to 1 ready node\n1 shard left: 0\n" {
		t.Error(out)
	}
}

// watched tells when the program begins to watch.
type watched struct {
	*memkv.Conn
	watching chan struct{}
	once     sync.Once
}

func (w *watched) Watch(ctx context.Context, prefix string, from int64) <-chan etcdmanager.Batch {
	w.once.Do(func() { close(w.watching) })
	return w.Conn.Watch(ctx, prefix, from)
}

// The end of the context stands for Ctrl-C.
func TestTheWaitIsInterrupted(t *testing.T) {
	store := memkv.NewStore()
	defer store.Close()
	write(t, store, twoNodes)
	ctx, interrupt := context.WithCancel(t.Context())
	ended := make(chan outcome)
	go func() {
		ended <- runIn(ctx, connectTo(t, store, false), nil, "", "drain", "a:1", "--wait")
	}()
	await(t, store, draining("a:1"))
	interrupt()
	out := <-ended
	if out.code != 1 || !strings.Contains(out.err, "a:1 goes on draining") && !strings.Contains(out.err, "canceled") || out.stdout != "" {
		t.Error(out)
	}
	await(t, store, draining("a:1"))
}

// An etcd that fails while one waits: the node goes on draining.
func TestTheWaitLosesEtcd(t *testing.T) {
	store := memkv.NewStore()
	defer store.Close()
	write(t, store, twoNodes)
	ended := make(chan outcome)
	dial := func(etcdmanager.Config) (etcdmanager.KV, error) { return &forgetful{Conn: store.Connect()}, nil }
	go func() {
		ended <- runOn(t, dial, nil, "drain", "a:1", "--wait")
	}()
	if out := <-ended; out.code != 1 || !strings.Contains(out.err, "a:1 goes on draining, but cannot be watched any more: ") {
		t.Error(out)
	}
	await(t, store, draining("a:1"))
}

// forgetful answers once, and never again.
type forgetful struct {
	*memkv.Conn
	asked bool
}

func (f *forgetful) Range(ctx context.Context, prefix string) (etcdmanager.Page, error) {
	if f.asked {
		return etcdmanager.Page{}, etcdmanager.ErrClosed
	}
	f.asked = true
	return f.Conn.Range(ctx, prefix)
}

// An order whose answer is lost says that it may be given again.
func TestAnOrderWhoseAnswerIsLost(t *testing.T) {
	store := memkv.NewStore()
	defer store.Close()
	write(t, store, twoNodes)
	dial := func(etcdmanager.Config) (etcdmanager.KV, error) { return &mute{store.Connect()}, nil }
	out := runOn(t, dial, nil, "drain", "a:1", "--timeout", "50ms")
	if out.code != 1 || !strings.Contains(out.err, "it is not known whether a:1 was marked: give the same order again, which does no harm") {
		t.Error(out)
	}
	if out := runOn(t, connectTo(t, store, false), nil, "drain", "a:1"); out.code != 0 || !strings.Contains(out.stdout, "was draining already") {
		t.Error(out)
	}
}

// mute does not answer transactions.
type mute struct{ *memkv.Conn }

func (m *mute) Commit(ctx context.Context, txn etcdmanager.Txn) (etcdmanager.Result, error) {
	m.Set(memkv.AnswersLost)
	defer m.Set(memkv.Healthy)
	return m.Conn.Commit(ctx, txn)
}

func TestReport(t *testing.T) {
	for interactive, want := range map[bool]string{false: "3 left\n", true: "\r\x1b[K3 left\n"} {
		var b bytes.Buffer
		r := newReport(&b, interactive)
		for range 5 {
			r.say("3 left")
		}
		r.end()
		if b.String() != want {
			t.Errorf("%q, want %q", b.String(), want)
		}
	}
}
