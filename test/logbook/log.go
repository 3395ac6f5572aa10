// Package logbook is the object that the cluster's tests are made of, and the
// checker of its histories. A log takes ids that are unique in the whole test, and
// answers with its length and a hash of all that it has: what two nodes do to one
// object, what is lost, doubled or reordered, and what a reply said that was not so,
// all show in the final log.
package logbook

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/xiaonanln/goverse/goverseapi"
	logbook_pb "github.com/xiaonanln/goverse/test/logbook/proto"
)

// log is what both types are.
type log struct {
	goverseapi.BaseObject
	ids    []string
	hash   uint64 // of ids
	ledger *Ledger
	place  any // where it lives

	activation int64 // its name in the journal
}

// VolatileLog lives in memory only, and moves with its shard.
type VolatileLog struct{ log }

// DurableLog is committed before it acknowledges.
type DurableLog struct{ log }

// OnCreated implements goverseapi.Object.
func (l *log) OnCreated() {
	l.ledger, l.place = ledgerOf(l.Context())
	l.activation = journal.Load().activation()
}

// ToData implements goverseapi.Object. The ids are one text: what a save costs should not
// grow with each of them.
func (l *log) ToData() (proto.Message, error) {
	return wrapperspb.String(strings.Join(l.ids, " ")), nil
}

// FromData implements goverseapi.Object.
func (l *log) FromData(m proto.Message) error {
	if text, ok := m.(*wrapperspb.StringValue); ok {
		l.ids = strings.Fields(text.GetValue())
		l.hash = Hash(l.ids)
	}
	return nil
}

// Append works for a while, sends the entry by way of another log if it says so, and
// then takes it. A context that ends first ends it without an effect.
func (l *log) Append(ctx context.Context, e *logbook_pb.Entry) (*logbook_pb.Mark, error) {
	defer l.ledger.enter(l)()
	defer journal.Load().enter(l, e.GetId())()
	if err := work(ctx, time.Duration(e.GetWorkMicros())*time.Microsecond); err != nil {
		return nil, err
	}
	if e.GetVia() != "" {
		if _, err := goverseapi.CallObject(ctx, l.Type(), e.GetVia(), "Append", &logbook_pb.Entry{Id: "via-" + e.GetId()}); err != nil {
			return nil, fmt.Errorf("via %s: %w", e.GetVia(), err)
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
	}
	l.ids, l.hash = append(l.ids, e.GetId()), Extend(l.hash, e.GetId())
	l.ledger.ran(l.String(), e.GetId())
	return &logbook_pb.Mark{Length: int64(len(l.ids)), Hash: l.hash, Pid: int64(os.Getpid())}, nil
}

// Read is the whole log.
func (l *log) Read(ctx context.Context, _ *logbook_pb.ReadRequest) (*logbook_pb.Page, error) {
	return &logbook_pb.Page{Ids: append([]string(nil), l.ids...)}, nil
}

func work(ctx context.Context, d time.Duration) error {
	if d == 0 {
		return ctx.Err()
	}
	timer, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	select {
	case <-timer.Done():
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Hash is of ids in their order.
func Hash(ids []string) uint64 {
	var hash uint64
	for _, id := range ids {
		hash = Extend(hash, id)
	}
	return hash
}

// Extend is the hash of a log with one more id.
func Extend(hash uint64, id string) uint64 {
	const offset, prime = 14695981039346656037, 1099511628211 // of FNV-1a
	var buffer [64]byte
	text := append(strconv.AppendUint(buffer[:0], hash, 10), ' ')
	sum := uint64(offset)
	for _, b := range append(text, id...) {
		sum = (sum ^ uint64(b)) * prime
	}
	return sum
}
