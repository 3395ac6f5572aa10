package consensusmanager

import (
	"bytes"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/xiaonanln/goverse/cluster/etcdmanager"
	"github.com/xiaonanln/goverse/cluster/sharding"
)

var rewriteGolden = flag.Bool("rewrite-golden", false, "write the golden files anew")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *rewriteGolden {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(want) != got {
		t.Errorf("%s differs; if that is meant, run with -rewrite-golden.\nwant:\n%s\ngot:\n%s", path, want, got)
	}
}

const testKeys = keys("/goverse/")

var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// The transcripts: etcd's changes in, the view and what alarms out; and what a node
// decides on it.
//
//	apply rev=5       lines of "put key value" and "del key"
//	load rev=9        lines of "put key value": all there is
//	decide a#a1 quorum=1 stability=10s at=3s loss=freeze still
func TestViewTranscripts(t *testing.T) {
	datadriven.Walk(t, "testdata/view", func(t *testing.T, path string) {
		v := newView()
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			arg := func(name string) string {
				for _, a := range d.CmdArgs {
					if a.Key == name && len(a.Vals) == 1 {
						return a.Vals[0]
					}
				}
				return ""
			}
			at, _ := time.ParseDuration(arg("at"))
			now := epoch.Add(at)
			switch d.Cmd {
			case "decide":
				address, registration, _ := strings.Cut(d.CmdArgs[0].Key, "#")
				quorum, _ := strconv.Atoi(arg("quorum"))
				stability, _ := time.ParseDuration(arg("stability"))
				rules := Rules{MinQuorum: max(1, quorum), Stability: stability, QuorumLoss: QuorumLoss(arg("loss")), Still: d.HasArg("still")}
				return describe(Decide(v, Self{address, registration}, rules, now)) + standing(rules, v)
			case "apply", "load":
				revision, err := strconv.ParseInt(arg("rev"), 10, 64)
				if err != nil {
					d.Fatalf(t, "rev: %v", err)
				}
				var alarms []string
				if d.Cmd == "load" {
					v, alarms = v.Load(testKeys, page(revision, d.Input), now)
				} else {
					v, alarms = v.Apply(testKeys, batch(revision, d.Input), now)
				}
				return fmt.Sprintf("revision %d ", v.Revision) + show(v) + lines("alarm: ", alarms)
			}
			d.Fatalf(t, "no command %s", d.Cmd)
			return ""
		})
	})
}

// standing says what the rules make of a cluster that is below its quorum.
func standing(rules Rules, v *View) string {
	if rules.QuorumLoss == "" {
		return ""
	}
	return fmt.Sprintf("quorate=%v frozen=%v refuses=%v\n", rules.Quorate(v), rules.Frozen(v), rules.Refuses(v))
}

func show(v *View) string {
	var b strings.Builder
	b.WriteString(v.String())
	for _, s := range v.Table.All() {
		fmt.Fprintf(&b, "%v  %v\n", s, s.State(v.Members()))
	}
	return b.String()
}

func lines(prefix string, list []string) string {
	var b strings.Builder
	for _, l := range list {
		fmt.Fprintf(&b, "%s%s\n", prefix, l)
	}
	return b.String()
}

func describe(intents []Intent) string {
	var b strings.Builder
	for _, i := range intents {
		fmt.Fprintln(&b, i)
		for _, c := range i.Changes {
			fmt.Fprintf(&b, "  %v\n", c)
		}
	}
	if len(intents) == 0 {
		return "nothing\n"
	}
	return b.String()
}

func batch(revision int64, input string) etcdmanager.Batch {
	b := etcdmanager.Batch{Revision: revision}
	for line := range strings.Lines(input) {
		what, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		key, value, _ := strings.Cut(rest, " ")
		item := etcdmanager.Item{Key: string(testKeys) + key, Value: []byte(value), CreateRevision: revision, ModRevision: revision}
		b.Events = append(b.Events, etcdmanager.Event{Item: item, Deleted: what == "del"})
	}
	return b
}

func page(revision int64, input string) etcdmanager.Page {
	p := etcdmanager.Page{Revision: revision}
	for _, e := range batch(revision, input).Events {
		p.Items = append(p.Items, e.Item)
	}
	return p
}

// However changes are cut into batches, and wherever a full load takes their place,
// the view is that of the keys as they stand: for all values, sane or not.
func TestViewIsWhatTheKeysSay(t *testing.T) {
	values := map[string][]string{
		"meta":        {`{"cluster":"c","boot":"b","store":"none","shards":3}`},
		"formed":      {"{}", "junk"},
		"hold":        {"{}"},
		"leader":      {`{"node":"a","reg":"a1"}`, `{"node":"b","reg":"b1"}`},
		"map":         {`{"epoch":1,"n":"1"}`, `{"epoch":2,"n":"2"}`},
		"nodes/a":     {`{"reg":"a1","state":"ready"}`, `{"reg":"a2","state":"draining"}`},
		"nodes/b":     {`{"reg":"b1","state":"ready"}`},
		"reg/a1":      {"a", "b"},
		"reg/b1":      {"b"},
		"gates/g":     {`{"reg":"g1"}`},
		"other":       {"x"},
		"shards/0001": {`{"e":1,"c":"a","ci":"a1","t":"a","h":"","n":"1"}`, `{"e":2,"c":"b","ci":"b1","t":"a","h":"","n":"2"}`},
		"shards/0007": {`{"e":1}`},
		"orders/0001": {`{"to":"b","pin":true}`, `{"to":"b","reg":"b1"}`},
		"orders/x":    {`{"to":"b","pin":true}`},
	}
	names := slices.Sorted(func(yield func(string) bool) {
		for k := range values {
			if !yield(k) {
				return
			}
		}
	})
	rapid.Check(t, func(t *rapid.T) {
		store := map[string]etcdmanager.Item{}
		put := func(revision int64, name, value string) etcdmanager.Event {
			item := etcdmanager.Item{Key: string(testKeys) + name, Value: []byte(value), CreateRevision: revision, ModRevision: revision}
			if old, ok := store[item.Key]; ok {
				item.CreateRevision = old.CreateRevision
			}
			store[item.Key] = item
			return etcdmanager.Event{Item: item}
		}
		whole := func(revision int64) etcdmanager.Page {
			p := etcdmanager.Page{Revision: revision}
			for _, item := range store {
				p.Items = append(p.Items, item)
			}
			slices.SortFunc(p.Items, func(a, b etcdmanager.Item) int { return strings.Compare(a.Key, b.Key) })
			return p
		}
		v := newView()
		v, _ = v.Apply(testKeys, etcdmanager.Batch{Revision: 1, Events: []etcdmanager.Event{put(1, "meta", values["meta"][0])}}, epoch)
		missed := false // batches that only a load can make up for
		for revision := int64(2); revision < 14; revision++ {
			b := etcdmanager.Batch{Revision: revision}
			seen := map[string]bool{}
			for range rapid.IntRange(1, 4).Draw(t, "changes") {
				name := rapid.SampledFrom(names[1:]).Draw(t, "key")
				if name == "meta" || seen[name] {
					continue
				}
				seen[name] = true
				key := string(testKeys) + name
				if _, there := store[key]; there && rapid.Bool().Draw(t, "delete") {
					delete(store, key)
					b.Events = append(b.Events, etcdmanager.Event{Item: etcdmanager.Item{Key: key, ModRevision: revision}, Deleted: true})
					continue
				}
				b.Events = append(b.Events, put(revision, name, rapid.SampledFrom(values[name]).Draw(t, "value")))
			}
			switch rapid.IntRange(0, 5).Draw(t, "way") {
			case 0:
				missed = true
			case 1:
				v, _ = v.Load(testKeys, whole(revision), epoch)
				missed = false
			default:
				before := v.Revision
				v, _ = v.Apply(testKeys, b, epoch)
				if v.Revision <= before {
					t.Fatalf("the revision went from %d to %d", before, v.Revision)
				}
				if again, _ := v.Apply(testKeys, b, epoch); again != v {
					t.Fatal("a batch that was applied before changed the view")
				}
			}
		}
		if missed {
			v, _ = v.Load(testKeys, whole(14), epoch)
		}
		want, _ := newView().Load(testKeys, whole(14), epoch)
		if got, want := settled(v), settled(want); got != want {
			t.Fatalf("the view is\n%s\nand of the keys alone it is\n%s", got, want)
		}
		if again, _ := v.Load(testKeys, whole(v.Revision), epoch); again != v {
			t.Fatal("a load of what is known changed the view")
		}
	})
}

// settled is a view without what depends on the past: the last good fields of a
// record that is gone.
func settled(v *View) string {
	var kept []*sharding.Shard
	for _, s := range v.Table.All() {
		if s.Damaged && s.Raw() == nil {
			kept = append(kept, sharding.NewTable(v.Table.Len()).Shard(s.ID))
		}
	}
	table := v.Table.With(kept...)
	var b strings.Builder
	fmt.Fprintln(&b, v.Formed, v.Hold, v.Leader, string(v.mapping.raw), v.regs, v.Members(), v.Gates(), v.orders, v.Damage(), table.Census(v.Members()))
	for _, s := range table.All() {
		fmt.Fprintln(&b, s)
	}
	return b.String()
}

// Nothing that stands in any key may bring a process down.
func FuzzView(f *testing.F) {
	f.Add("meta", []byte(`{"cluster":"c","boot":"b","store":"s","shards":8192}`))
	f.Add("nodes/10.0.0.1:47000", []byte(`{"reg":"x","state":"ready","types":["A"]}`))
	f.Add("leader", []byte(`{"node":"a","reg":"b"}`))
	f.Add("map", []byte(`{"epoch":18446744073709551615,"n":"x"}`))
	f.Add("shards/0001", []byte(`{"e":1,"c":"a","ci":"b"}`))
	f.Add("shards/00x1", []byte(`{}`))
	f.Add("gates/", []byte(`[]`))
	f.Add("orders/0003", []byte(`{"to":"a","pin":true}`))
	f.Add("orders/8191", []byte(`{"to":"a","reg":"a1"}`))
	f.Fuzz(func(t *testing.T, name string, value []byte) {
		v, _ := newView().Apply(testKeys, batch(1, `put meta {"cluster":"c","boot":"b","store":"none","shards":4}
			put nodes/a {"reg":"a1","state":"ready"}
			put reg/a1 a
			put formed {}
			put leader {"node":"a","reg":"a1"}`), epoch)
		item := etcdmanager.Item{Key: string(testKeys) + name, Value: value, CreateRevision: 2, ModRevision: 2}
		v, _ = v.Apply(testKeys, etcdmanager.Batch{Revision: 2, Events: []etcdmanager.Event{{Item: item}}}, epoch)
		_ = show(v)
		if err := v.Table.Check(); err != nil {
			t.Error(err)
		}
		Decide(v, Self{"a", "a1"}, Rules{MinQuorum: 1}, epoch)
		next := v.mapping.next()
		if m, err := decodeMapping(next.raw); err != nil || m.Epoch != next.Epoch {
			t.Errorf("%q is followed by %q: %v", v.mapping.raw, next.raw, err)
		}
		if m, err := decodeMeta(value); err == nil && !bytes.Equal(m.raw, value) {
			t.Error("meta's bytes are not kept")
		}
		v, _ = v.Load(testKeys, etcdmanager.Page{Revision: 3}, epoch)
		if len(v.Members()) > 0 || v.Leader.Term != 0 || v.Table.Len() != 0 {
			t.Errorf("of nothing: %v", v)
		}
	})
}

// The leader's rewriting keeps what it does not know.
func TestMappingKeepsUnknownMembers(t *testing.T) {
	m, err := decodeMapping([]byte(`{"epoch":4,"n":"aa","later":[1,{"x":2}],"a":"<b>"}`))
	if err != nil {
		t.Fatal(err)
	}
	next := m.next()
	if want := fmt.Sprintf(`{"epoch":5,"n":%q,"a":"<b>","later":[1,{"x":2}]}`, next.Nonce); string(next.raw) != want {
		t.Errorf("got %s, want %s", next.raw, want)
	}
	if m.Epoch != 4 || next.Nonce == m.Nonce {
		t.Error("the one before must stay, and no nonce comes twice")
	}
}

// A gate of an older version tells no port for HTTP, and one of a later version may tell
// more than this one reads. Both are gates.
func TestWhereGatesAreOverHTTP(t *testing.T) {
	v, alarms := newView().Apply(testKeys, batch(5, `put gates/old:1 {"reg":"x1"}
put gates/new:1 {"reg":"x2","http":"https://new:2"}
put gates/later:1 {"reg":"x3","http":"http://later:2","doors":["quic"]}
put gates/odd:1 {"reg":"x4","http":7}`), epoch)
	want := map[string]string{"new:1": "https://new:2", "later:1": "http://later:2"}
	if got := v.HTTPGates(); !maps.Equal(got, want) {
		t.Errorf("over HTTP: %v", got)
	}
	if got := v.Gates(); !slices.Equal(got, []string{"later:1", "new:1", "old:1"}) {
		t.Errorf("gates %q", got)
	}
	if len(alarms) != 1 || !strings.Contains(alarms[0], "odd:1") {
		t.Errorf("alarms %q", alarms)
	}
	v, _ = v.Apply(testKeys, batch(6, "del gates/new:1"), epoch)
	if got := v.HTTPGates(); len(got) != 1 {
		t.Errorf("after one has left: %v", got)
	}
}
