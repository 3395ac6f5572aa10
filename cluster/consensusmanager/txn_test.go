package consensusmanager

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/xiaonanln/goverse/cluster/etcdmanager"
	"github.com/xiaonanln/goverse/cluster/sharding"
	"github.com/xiaonanln/goverse/internal/secure"
)

// protocol prints a transaction in the words of docs/format/etcd.md.
func protocol(name string, txn etcdmanager.Txn) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n", name)
	short := func(key string) string { return strings.Replace(key, "/goverse/", "P/", 1) }
	for _, g := range txn.If {
		switch g.Kind {
		case etcdmanager.GuardValueIs:
			fmt.Fprintf(&b, "  if    value(%s) = %s\n", short(g.Key), g.Value)
		case etcdmanager.GuardAlive:
			fmt.Fprintf(&b, "  if    exists(%s)\n", short(g.Key))
		case etcdmanager.GuardAbsent:
			fmt.Fprintf(&b, "  if    absent(%s)\n", short(g.Key))
		case etcdmanager.GuardCreatedAt:
			fmt.Fprintf(&b, "  if    created(%s) = %d\n", short(g.Key), g.Revision)
		case etcdmanager.GuardRangeEmpty:
			fmt.Fprintf(&b, "  if    empty[%s, %s)\n", short(g.Key), short(g.End))
		}
	}
	b.WriteString(operations("then", txn.Then, short))
	b.WriteString(operations("else", txn.Else, short))
	return regexp.MustCompile(`"n":"[0-9a-f]{8}"`).ReplaceAllString(b.String(), `"n":"<fresh>"`)
}

func operations(branch string, ops []etcdmanager.Op, short func(string) string) string {
	var b strings.Builder
	for _, op := range ops {
		lease := ""
		if op.Lease != 0 {
			lease = fmt.Sprintf(" on lease %d", op.Lease)
		}
		switch op.Kind {
		case etcdmanager.OpPut:
			fmt.Fprintf(&b, "  %s  put %s %s%s\n", branch, short(op.Key), op.Value, lease)
		case etcdmanager.OpDelete:
			fmt.Fprintf(&b, "  %s  delete %s\n", branch, short(op.Key))
		case etcdmanager.OpGet:
			fmt.Fprintf(&b, "  %s  get %s\n", branch, short(op.Key))
		}
	}
	return b.String()
}

// The guards are what keeps two nodes from one shard. A change of this golden is a
// change of the protocol, and needs the model's word.
func TestTransactions(t *testing.T) {
	w := writer{keys: testKeys, self: Self{Address: "b:1", Registration: "b1"}, meta: []byte("M")}
	v, _ := newView().Apply(testKeys, batch(7, `put meta {"cluster":"c","boot":"b","store":"none","shards":6}
		put nodes/b:1 {"reg":"b1","state":"ready"}
		put reg/b1 b:1
		put nodes/c:1 {"reg":"c1","state":"ready"}
		put reg/c1 c:1
		put map {"epoch":3,"n":"0000000a"}
		put shards/0001 {"e":4,"c":"x:1","ci":"x1","t":"b:1","h":"","n":"00000001","later":1}
		put shards/0002 {"e":5,"c":"y:1","ci":"y1","t":"b:1","h":"","n":"00000002"}
		put shards/0003 {"e":6,"c":"","ci":"","t":"b:1","h":"","n":"00000003"}
		put shards/0004 {"e":7,"c":"b:1","ci":"b1","t":"b:1","h":"00ff","n":"00000004"}
		put shards/0005 {"e":8,"c":"b:1","ci":"b1","t":"c:1","h":"00ee","n":"00000005"}`), epoch)
	shards := func(ids ...sharding.ID) []*sharding.Shard {
		var list []*sharding.Shard
		for _, id := range ids {
			list = append(list, v.Table.Shard(id))
		}
		return list
	}
	old := v.mapping
	next := old.next()
	var b strings.Builder
	b.WriteString(protocol("bootstrap", bootstrapTxn(testKeys, []byte("M"), 0)))
	b.WriteString(protocol("bootstrap, after an earlier life", bootstrapTxn(testKeys, []byte("M"), 8)))
	b.WriteString(protocol("T-REG of a node", alsoReg(registerTxn(testKeys, testKeys.node("b:1"), []byte("v"), []byte("M"), 9, 0), testKeys, "b1", "b:1", 9)))
	b.WriteString(protocol("T-REG of a node, after an earlier life", alsoReg(registerTxn(testKeys, testKeys.node("b:1"), []byte("v"), []byte("M"), 9, 8), testKeys, "b1", "b:1", 9)))
	b.WriteString(protocol("T-REG of a gate", registerTxn(testKeys, testKeys.gate("g:1"), []byte("v"), []byte("M"), 9, 0)))
	secret, _ := secure.ParseSecret(strings.Repeat("5a", secure.SecretBytes))
	b.WriteString(protocol("T-SECRET", w.secretTxn(nil, secret)))
	b.WriteString(protocol("T-SECRET, over one that nobody can read", w.secretTxn(&etcdmanager.Item{Value: []byte("damaged")}, secret)))
	b.WriteString(protocol("T-LEAD", w.lead(9)))
	b.WriteString(protocol("T-YIELD", w.yield(6)))
	b.WriteString(protocol("formation", w.form(6, 2)))
	b.WriteString(protocol("T-PLAN", w.plan(6, old, next, v, []sharding.Change{{Shard: 0, To: "b:1"}, {Shard: 1, To: "c:1"}})))
	b.WriteString(protocol("T-PLAN, the first", w.plan(6, Mapping{}, Mapping{}.next(), v, []sharding.Change{{Shard: 0, To: "b:1"}})))
	b.WriteString(protocol("T-CLAIM", w.claim(shards(1, 2, 3))))
	hands := []Handover{{Shard: v.Table.Shard(5), To: Self{"c:1", "c1"}, ID: "00aa"}}
	records, err := v.receiving(hands)
	if err != nil {
		t.Fatal(err)
	}
	b.WriteString(protocol("T-HAND", w.hand(hands, records)))
	b.WriteString(protocol("T-RESOLVE", w.poison(v.Table.Shard(5), v.Table.Shard(5).Encode(nonce()))))
	b.WriteString(protocol("T-BUMP", w.bump(shards(4), map[sharding.ID]uint64{4: 40})))
	b.WriteString(protocol("T-RELEASE", w.release(shards(4))))
	b.WriteString(protocol("drain", w.drain([]byte("v"), 9)))
	golden(t, "transactions.golden", b.String())
}

// Whatever there is to write, every transaction is one that etcd takes.
func TestTransactionsAreSmallEnough(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(0, 1000).Draw(t, "shards")
		others := rapid.IntRange(1, 40).Draw(t, "others")
		w := writer{keys: testKeys, self: Self{Address: "me", Registration: "m1"}, meta: []byte("M")}
		v := newView()
		v.Table = sharding.NewTable(sharding.NumShards)
		var changes []sharding.Change
		var claims []*sharding.Shard
		var hands []Handover
		for i := range n {
			who := fmt.Sprint(rapid.IntRange(0, others).Draw(t, "who"))
			changes = append(changes, sharding.Change{Shard: sharding.ID(i), To: "t" + who})
			claims = append(claims, &sharding.Shard{ID: sharding.ID(i), Epoch: 1, Current: "c" + who, Registration: "x" + who})
			hands = append(hands, Handover{Shard: claims[i], To: Self{"t" + who, "y" + who}, ID: "h"})
		}
		planned, claimed, handed := 0, 0, 0
		for _, b := range PlanBatches(changes) {
			txn := w.plan(1, Mapping{}, Mapping{}.next(), v, b)
			check(t, txn, len(b), planGuards)
			planned += len(b)
		}
		for _, b := range ClaimBatches(claims) {
			check(t, w.claim(b), len(b), claimGuards)
			claimed += len(b)
		}
		for _, b := range HandBatches(hands) {
			check(t, w.hand(b, nil), len(b), handGuards)
			handed += len(b)
		}
		if planned != n || claimed != n || handed != n {
			t.Fatalf("%d, %d and %d of %d shards are in the batches", planned, claimed, handed, n)
		}
	})
}

func check(t *rapid.T, txn etcdmanager.Txn, shards, fixed int) {
	if len(txn.If) > etcdmanager.MaxTxnOps || len(txn.Then) > etcdmanager.MaxTxnOps || shards == 0 || shards > MaxBatch || len(txn.If)-shards > MaxGuards || len(txn.If)-shards <= fixed-1 {
		t.Fatalf("%d guards, %d operations for %d shards", len(txn.If), len(txn.Then), shards)
	}
}

// The fewest transactions: no batch could have taken the next shard, too.
func TestBatchesAreFull(t *testing.T) {
	var changes []sharding.Change
	for i := range 1000 {
		changes = append(changes, sharding.Change{Shard: sharding.ID(i), To: "a"})
	}
	if n := len(PlanBatches(changes)); n != 9 {
		t.Errorf("%d batches for 1000 shards", n)
	}
	for i := range changes {
		changes[i].To = fmt.Sprint("n", i/10)
	}
	if n := len(PlanBatches(changes)); n != 9 { // 112 shards of 12 targets and 4 other guards are 128
		t.Errorf("%d batches for 1000 shards of 100 targets", n)
	}
	if PlanBatches(nil) != nil || ClaimBatches(nil) != nil {
		t.Error("batches of nothing")
	}
}

// docs/format/etcd.md shows what is written: every value, and every transaction.
func TestDocumentation(t *testing.T) {
	b, err := os.ReadFile("../../docs/format/etcd.md")
	if err != nil {
		t.Fatal(err)
	}
	doc := string(b)
	const address = "10.0.0.1:47000"
	shard := sharding.NewTable(8192).Shard(0).Claimed(address, "x1")
	shard.Epoch = 9
	for _, value := range [][]byte{
		encodeJSON(Meta{Cluster: "c1", Boot: "b1", Store: "s1", Shards: 8192}),
		encodeJSON(Member{Registration: "x1", State: StateReady, Store: "s1", Version: "v1", Weight: 1, Types: []string{"ChatRoom"}}),
		encodeJSON(Gate{Registration: "x2", HTTP: "https://gate1:48000"}),
		encodeJSON(Leader{Address: address, Registration: "x1"}),
		encodeJSON(Mapping{Epoch: 7, Nonce: "0a1b2c3d"}),
		shard.Encode("0a1b2c3d"),
		encodeJSON(acts{[]Act{{Number: 1, At: 1767225600000, Who: "ann@laptop", What: Drains, On: address}}}),
		encodeJSON(Order{To: address, Pin: true}), encodeJSON(Order{To: address, Registration: "x1"}),
	} {
		if !strings.Contains(doc, "`"+string(value)+"`") {
			t.Errorf("the page does not show %s", value)
		}
	}
	for _, golden := range []string{"transactions.golden", "operator.golden"} {
		transactions, err := os.ReadFile("testdata/" + golden)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(doc, "```\n"+string(transactions)+"```\n") {
			t.Errorf("the page does not show the transactions as testdata/%s has them", golden)
		}
	}
	for _, key := range []string{
		testKeys.meta(), testKeys.formed(), testKeys.hold(), testKeys.node("<address>"), testKeys.reg("<registration>"), testKeys.gate("<address>"),
		testKeys.leader(), testKeys.mapping(), testKeys.secret(), testKeys.acts(), testKeys.shard(0), testKeys.order(0),
	} {
		if !strings.Contains(doc, "`"+strings.Replace(key, "/goverse", "P", 1)+"`") {
			t.Errorf("the page does not name %s", key)
		}
	}
}
