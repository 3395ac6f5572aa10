package api

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/xiaonanln/goverse/goverseapi"
	"github.com/xiaonanln/goverse/goversetest"
	"github.com/xiaonanln/goverse/node"
	"github.com/xiaonanln/goverse/object"
	"github.com/xiaonanln/goverse/object/memstore"
	"github.com/xiaonanln/goverse/util/sqlite"
)

var (
	_ func(context.Context) error                                                          = goverseapi.Flush
	_ func(context.Context, func(context.Context, object.Tx) error) error                  = goverseapi.OnCommit
	_ func() goverseapi.TypeOption                                                         = goverseapi.Transactional
	_ func(ctx context.Context, t, after string, n int) ([]goverseapi.StoredObject, error) = goverseapi.ListObjects
	_ func(ctx context.Context, objType, id string) ([]byte, error)                        = goverseapi.StoredState
	_ func(*bool) goverseapi.CallOption                                                    = goverseapi.WithUnsaved
	_ func(*node.Node, context.Context) error                                              = (*node.Node).SaveAllObjects
)

// Tally keeps a sum in one of the modes.
type Tally struct {
	goverseapi.BaseObject
	sum int64
}

func (c *Tally) ToData() (proto.Message, error) { return wrapperspb.Int64(c.sum), nil }

func (c *Tally) FromData(m proto.Message) error {
	c.sum = 0
	if v, ok := m.(*wrapperspb.Int64Value); ok {
		c.sum = v.Value
	}
	return nil
}

var errOdd = errors.New("the sum would be odd")

// Even adds, and then fails if the sum is odd.
func (c *Tally) Even(ctx context.Context, n *wrapperspb.Int64Value) (*wrapperspb.Int64Value, error) {
	if c.sum += n.Value; c.sum%2 != 0 {
		return nil, errOdd
	}
	return wrapperspb.Int64(c.sum), nil
}

// Flushed adds, and returns when that is durable.
func (c *Tally) Flushed(ctx context.Context, n *wrapperspb.Int64Value) (*wrapperspb.Int64Value, error) {
	c.sum += n.Value
	return wrapperspb.Int64(c.sum), goverseapi.Flush(ctx)
}

// Logged adds, and writes that down in the same commit.
func (c *Tally) Logged(ctx context.Context, n *wrapperspb.Int64Value) (*wrapperspb.Int64Value, error) {
	c.sum += n.Value
	sum := c.sum
	err := goverseapi.OnCommit(ctx, func(ctx context.Context, tx object.Tx) error {
		if _, ok := sqlite.TxOf(tx); ok {
			return book.insert(ctx, tx, sum)
		}
		memstore.Then(tx, func() { book.note(sum) })
		return odd(sum)
	})
	return wrapperspb.Int64(c.sum), err
}

// odd refuses sums over 100.
func odd(sum int64) error {
	if sum > 100 {
		return errOdd
	}
	return nil
}

// insert adds a row, and then reads all.
func (t *table) insert(ctx context.Context, tx object.Tx, sum int64) error {
	if _, err := tx.Exec(ctx, "CREATE TABLE IF NOT EXISTS book (sum INTEGER)"); err != nil {
		return err
	}
	if n, err := tx.Exec(ctx, "INSERT INTO book VALUES (?)", sum); n != 1 || err != nil {
		return errors.Join(errors.New("not inserted"), err)
	}
	if err := odd(sum); err != nil {
		return err
	}
	t.reset()
	return tx.Query(ctx, func(row []any) error { t.note(row[0].(int64)); return nil }, "SELECT sum FROM book ORDER BY sum")
}

type (
	Tried  struct{ Tally }
	Slow   struct{ Tally }
	Strict struct{ Tally }
)

// book is a table of the program's own.
var book table

type table struct {
	mu   sync.Mutex
	sums []int64
}

func (t *table) reset() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.sums = nil
}

func (t *table) note(sum int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.sums = append(t.sums, sum)
}

func TestModes(t *testing.T) {
	cluster := goversetest.Cluster{Types: []goversetest.Type{
		goversetest.Of((*Tried)(nil), goverseapi.Transactional()),
		goversetest.Of((*Slow)(nil), goverseapi.WithDurability(goverseapi.Periodic(time.Hour))),
		goversetest.Of((*Strict)(nil)),
	}}
	one := wrapperspb.Int64(1)
	goversetest.Run(t, cluster, func(w *goversetest.World) {
		ctx := w.Context()
		if _, err := goverseapi.CallObject(ctx, "Tried", "x", "Even", one); !errors.Is(err, goverseapi.ErrFailed) {
			w.T.Error(err)
		}
		w.Want("Tried/x", "Even", wrapperspb.Int64(2), wrapperspb.Int64(2)) // the 1 was undone
		w.Want("Slow/x", "Flushed", one, one)
		for _, c := range []struct {
			typ, method string
			unsaved     bool
		}{{"Slow", "Flushed", false}, {"Slow", "Even", true}, {"Slow", "Flushed", false}, {"Strict", "Even", false}} {
			said := !c.unsaved
			if _, err := goverseapi.Call(ctx, c.typ, "z", c.method, wrapperspb.Int64(2), goverseapi.WithUnsaved(&said)); err != nil || said != c.unsaved {
				w.T.Errorf("%s.%s: unsaved is %v, %v", c.typ, c.method, said, err)
			}
		}
		for typ, want := range map[string]string{"Tried": `"2"`, "Slow": `"1"`} {
			if state, err := goverseapi.StoredState(ctx, typ, "x"); err != nil || !strings.Contains(string(state), want) {
				w.T.Errorf("%s: %s %v, want %s", typ, state, err, want)
			}
		}
		if _, err := goverseapi.StoredState(ctx, "Slow", "y"); !errors.Is(err, goverseapi.ErrNotFound) {
			w.T.Error(err)
		}
		if goverseapi.Flush(ctx) == nil || goverseapi.OnCommit(ctx, func(context.Context, object.Tx) error { return nil }) == nil {
			w.T.Error("outside of a method")
		}
		list, err := goverseapi.ListObjects(ctx, "Tried", "", 10)
		if err != nil || len(list) != 1 || list[0].Ref.ID != "x" || list[0].Version != 1 {
			w.T.Error(list, err)
		}
		book.reset()
		w.Want("Strict/x", "Logged", one, one)
		if _, err := goverseapi.CallObject(ctx, "Strict", "x", "Logged", wrapperspb.Int64(100)); !errors.Is(err, errOdd) {
			w.T.Error(err)
		}
		w.Want("Strict/x", "Logged", one, wrapperspb.Int64(2))
		if len(book.sums) != 2 || book.sums[1] != 2 {
			w.T.Error(book.sums)
		}
	})
}
