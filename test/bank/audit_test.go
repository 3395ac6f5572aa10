//go:build unix

package bank

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/xiaonanln/goverse/object"
)

// audit compares what clients were told, what objects say, what is stored, and what the
// database has written down itself.
func (o *office) audit() {
	o.t.Helper()
	applied, carried := o.auditObjects()
	o.auditOrders(applied, carried)
	o.auditLedger()
	o.auditSaves()
}

// auditObjects asks every account, holds it against what is stored, counts the money,
// and returns what was applied: by order and account, how often.
func (o *office) auditObjects() (applied map[string]map[string]int, carried map[string]int64) {
	o.t.Helper()
	total := int64(0)
	applied, carried = map[string]map[string]int{}, map[string]int64{}
	for i := range o.accounts {
		account := o.look("Account", name(i), &structpb.Struct{}).(*structpb.Struct)
		stored := new(structpb.Struct)
		o.stored("Account", name(i), stored)
		if !proto.Equal(account, stored) {
			o.t.Errorf("%s says it is %v, and what is stored is %v", name(i), account, stored)
		}
		total += int64(stored.Fields["balance"].GetNumberValue())
		sum := int64(0)
		for id, n := range stored.Fields["applied"].GetStructValue().GetFields() {
			if applied[id] == nil {
				applied[id] = map[string]int{}
			}
			applied[id][name(i)] = int(n.GetNumberValue())
			sum += int64(n.GetNumberValue())
		}
		done := o.vault.number(o.t, `SELECT count(*) FROM goverse_calls WHERE object_type='Account' AND object_id=$1 AND status=$2`, name(i), int(object.CallDone))
		if sum != done {
			o.t.Errorf("%s has applied %d calls, and %d are recorded", name(i), sum, done)
		}
		clerk := fmt.Sprint("clerk-", i)
		carried[clerk] = o.look("Clerk", clerk, &structpb.Struct{}).(*wrapperspb.Int64Value).GetValue()
	}
	if want := int64(o.accounts) * each; total != want {
		o.t.Errorf("there is %d of %d", total, want)
	}
	return applied, carried
}

func (o *office) look(typ, id string, request proto.Message) proto.Message {
	o.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	reply, err := o.clients[0].CallObject(ctx, typ, id, "Look", request)
	if err != nil {
		o.t.Fatal(err)
	}
	return reply
}

// stored reads an object's state from the store into m.
func (o *office) stored(typ, id string, m *structpb.Struct) {
	o.t.Helper()
	record, err := o.vault.store.Load(o.t.Context(), object.Ref{Type: typ, ID: id})
	if err != nil {
		o.t.Fatal(err)
	}
	raw := new(structpb.Struct)
	if err := protojson.Unmarshal(record.Data, raw); err != nil {
		o.t.Fatalf("%s/%s: %v in %s", typ, id, err, record.Data)
	}
	if err := protojson.Unmarshal([]byte(protojson.Format(raw.Fields["value"])), m); err != nil {
		o.t.Fatal(err)
	}
}

// auditOrders: an order that succeeded was applied once to both accounts, another to
// none; each has its record.
func (o *office) auditOrders(applied map[string]map[string]int, carried map[string]int64) {
	o.t.Helper()
	count, asked, byMethod := 0, 0, map[string]int{}
	clerks := map[string]int64{}
	for _, b := range o.orders {
		asked = max(asked, b.asked)
		got, want, status := fmt.Sprint(applied[b.id]), "map[]", object.CallFailed
		if b.done {
			count++
			byMethod[b.method]++
			want, status = fmt.Sprint(map[string]int{b.from: 1, b.to: 1}), object.CallDone
			if clerk, is := strings.CutPrefix(b.object, "Clerk/"); is {
				clerks[clerk]++
			}
		}
		if got != want {
			o.t.Errorf("%v was applied %s; want %s (%q)", b, got, want, b.failed)
		}
		typ, id, _ := strings.Cut(b.object, "/")
		switch record, err := o.vault.store.FindCall(o.t.Context(), object.Ref{Type: typ, ID: id}, b.id); {
		case errors.Is(err, object.ErrNotStored):
			o.t.Errorf("%v was answered, and has no record", b)
		case err != nil:
			o.t.Fatal(err)
		case record.Status != status:
			o.t.Errorf("%v is recorded as %v, its client was told otherwise: %v", b, record.Status, b.done)
		}
	}
	for clerk, n := range carried {
		if n != clerks[clerk] {
			o.t.Errorf("%s has carried out %d orders; its clients know of %d", clerk, n, clerks[clerk])
		}
	}
	o.t.Logf("%d of %d orders succeeded %v; one was asked for %d times", count, len(o.orders), byMethod, asked)
	if count < len(o.orders)/2 || len(byMethod) != 3 {
		o.t.Errorf("too few orders succeeded: %d of %d, %v", count, len(o.orders), byMethod)
	}
}

// auditLedger: the program's own table has each side of each order that is to be in it
// once, and nothing else.
func (o *office) auditLedger() {
	o.t.Helper()
	type entry struct {
		id, account string
		amount      int64
	}
	entries := map[entry]int{}
	for _, b := range o.orders {
		if b.done && b.book {
			entries[entry{b.id, b.from, -b.amount}]++
			entries[entry{b.id, b.to, b.amount}]++
		}
	}
	want := len(entries)
	rows, err := o.vault.db.QueryContext(o.t.Context(), `SELECT order_id, account, amount FROM bank_ledger`)
	if err != nil {
		o.t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var e entry
		if err := rows.Scan(&e.id, &e.account, &e.amount); err != nil {
			o.t.Fatal(err)
		}
		entries[e]--
	}
	if err := rows.Err(); err != nil {
		o.t.Fatal(err)
	}
	for e, n := range entries {
		if n != 0 {
			o.t.Errorf("the ledger has %+v %d times more often than the accounts", e, -n)
		}
	}
	o.t.Logf("the ledger has %d entries", want)
	if want == 0 {
		o.t.Errorf("nothing was to be in the ledger")
	}
}

// auditSaves: an object's versions are 1, 2, 3, ... and each was made by one save of its
// own; a save that the store had acknowledged is the one that made its version; and the
// objects' versions are the last.
func (o *office) auditSaves() {
	o.t.Helper()
	rows, err := o.vault.db.QueryContext(o.t.Context(), `SELECT object_type, object_id, version, save_id FROM bank_journal ORDER BY 1, 2, 3`)
	if err != nil {
		o.t.Fatal(err)
	}
	defer rows.Close()
	type place struct {
		typ, id string
		version int64
	}
	made, last, saves := map[place]string{}, map[object.Ref]int64{}, map[string]bool{}
	for rows.Next() {
		var p place
		var save string
		if err := rows.Scan(&p.typ, &p.id, &p.version, &save); err != nil {
			o.t.Fatal(err)
		}
		save = strings.ToLower(strings.ReplaceAll(save, "-", ""))
		ref := object.Ref{Type: p.typ, ID: p.id}
		if last[ref]++; p.version != last[ref] {
			o.t.Errorf("the %dth save of %v made version %d", last[ref], ref, p.version)
		}
		if saves[save] {
			o.t.Errorf("a save of %v was applied twice, at last as %d", ref, p.version)
		}
		made[p], saves[save] = save, true
	}
	if err := rows.Err(); err != nil {
		o.t.Fatal(err)
	}
	for ref, version := range last {
		record, err := o.vault.store.Load(o.t.Context(), ref)
		if err != nil {
			o.t.Fatal(err)
		}
		if int64(record.Version) != version {
			o.t.Errorf("%v is at version %d after %d saves", ref, record.Version, version)
		}
	}
	acknowledged := 0
	for lines := bufio.NewScanner(bytes.NewReader(o.readAcks())); lines.Scan(); acknowledged++ {
		var p place
		var save string
		if _, err := fmt.Sscan(lines.Text(), &p.typ, &p.id, &p.version, &save); err != nil {
			o.t.Fatalf("%q: %v", lines.Text(), err)
		}
		if made[p] != save {
			o.t.Errorf("save %s of %s/%s was acknowledged as version %d, which save %q made", save, p.typ, p.id, p.version, made[p])
		}
	}
	o.t.Logf("%d saves of %d objects, %d of them acknowledged to a node", len(saves), len(last), acknowledged)
	if acknowledged == 0 || acknowledged > len(saves) {
		o.t.Errorf("%d saves were acknowledged, %d made", acknowledged, len(saves))
	}
}
