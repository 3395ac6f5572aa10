package node

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/object"
	"github.com/xiaonanln/goverse/object/memstore"
)

func TestWhatIsStored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, kept, object.WithIdleTimeout(time.Second))
		for i := range 5 {
			w.want(bg, fmt.Sprintf("o%d.Change", i), 1)
		}
		w.must(w.delete(bg, "o2"))
		time.Sleep(10 * time.Second)
		ids := func(after string, limit int) string {
			list, err := w.ListObjects(bg, "Kept", after, limit)
			w.must(err)
			all := ""
			for _, o := range list {
				all += o.Ref.ID + " "
			}
			return all
		}
		if ids("", 0) != "o0 o1 o3 o4 " || ids("o1", 1) != "o3 " || ids("o4", 1000) != "" {
			t.Error(ids("", 0), ids("o1", 1), ids("o4", 1000))
		}
		r, err := w.StoredState(bg, object.Ref{Type: "Kept", ID: "o1"})
		if err != nil || r.Version != 1 || !strings.Contains(string(r.Data), `"value":"1"`) {
			t.Error(r, err)
		}
		if n := w.NumObjects(); n != 0 {
			t.Errorf("%d objects came to life", n)
		}
		_, err = w.call(bg, "o0.Read", func(ctx context.Context, o *Thing) error { // inside a method, also of itself
			rt, _ := object.RuntimeFrom(ctx)
			records := rt.(object.Records)
			_, err := records.StoredState(ctx, object.Ref{Type: "Kept", ID: "o0"})
			w.must(err)
			list, err := records.ListObjects(ctx, "Kept", "", 2)
			if len(list) != 2 {
				t.Error(list)
			}
			return err
		})
		w.must(err)
		for _, id := range []string{"o2", "never"} {
			_, err := w.StoredState(bg, object.Ref{Type: "Kept", ID: id})
			isFault(t, err, fault.NotFound, fault.NotExecuted)
		}
		for _, c := range []struct {
			typ   string
			limit int
		}{{"", 1}, {"Kept", -1}, {"Kept", 1001}} {
			_, err := w.ListObjects(bg, c.typ, "", c.limit)
			isFault(t, err, fault.Invalid, fault.NotExecuted)
		}
		_, err = w.StoredState(bg, object.Ref{Type: "Kept", ID: "\x00"})
		isFault(t, err, fault.Invalid, fault.NotExecuted)
		w.store.Fail(func(memstore.Op) memstore.Fault { return memstore.Fault{Err: errors.New("down")} })
		_, err = w.ListObjects(bg, "Kept", "", 1)
		isFault(t, err, fault.StoreFailed, fault.NotExecuted)
		_, err = w.StoredState(bg, object.Ref{Type: "Kept", ID: "o1"})
		isFault(t, err, fault.StoreFailed, fault.NotExecuted)
		w.store.Fail(nil)
		ended, cancel := context.WithCancel(bg)
		cancel()
		_, err = w.StoredState(ended, object.Ref{Type: "Kept", ID: "o1"})
		isFault(t, err, fault.Canceled, fault.NotExecuted)
	})
}

func TestWhatIsStoredElsewhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t)
		_, err := w.ListObjects(bg, "Kept", "", 1)
		isFault(t, err, fault.NotReady, fault.NotExecuted)
		_, err = w.StoredState(bg, object.Ref{Type: "Kept", ID: "x"})
		isFault(t, err, fault.NotReady, fault.NotExecuted)
	})
	synctest.Test(t, func(t *testing.T) {
		w := start(t, setup(func(w *world, _ *Config) { w.provider = basicStore{memstore.New()} }))
		w.want(bg, "Kept/x.Change", 1)
		_, err := w.ListObjects(bg, "Kept", "", 1)
		isFault(t, err, fault.Invalid, fault.NotExecuted)
		r, err := w.StoredState(bg, object.Ref{Type: "Kept", ID: "x"})
		if err != nil || len(r.Data) == 0 {
			t.Error(r, err)
		}
		_, err = w.StoredState(bg, object.Ref{Type: "Kept", ID: "y"})
		isFault(t, err, fault.NotFound, fault.NotExecuted)
	})
}

// fencedStore is what a store had to offer before there was more.
type fencedStore struct{ object.FencedProvider }

// Each type that is kept hears once what its store cannot give it.
func TestLossesAreSaid(t *testing.T) {
	for name, c := range map[string]struct {
		store object.PersistenceProvider
		opts  []any
		says  []string // parts of the one line, or nothing
	}{
		"all":             {memstore.New(), nil, nil},
		"none":            {nil, nil, nil},
		"basic":           {basicStore{memstore.New()}, nil, []string{"Kept", "fences", "exactly once", "OnCommit", "etcd"}},
		"fenced":          {fencedStore{memstore.New()}, nil, []string{"Kept", "exactly once", "OnCommit", "etcd"}},
		"fenced periodic": {fencedStore{memstore.New()}, []any{object.WithDurability(object.Periodic(time.Second))}, nil},
		"basic periodic":  {basicStore{memstore.New()}, []any{object.WithDurability(object.Periodic(time.Second))}, []string{"fences"}},
		"basic volatile":  {basicStore{memstore.New()}, []any{object.WithDurability(object.Volatile)}, nil},
	} {
		bubble(t, name, func(t *testing.T) {
			w := start(t, append(c.opts, setup(func(w *world, _ *Config) { w.provider = c.store }))...)
			for i := range 3 {
				w.want(bg, fmt.Sprintf("Kept/x%d.Change", i), 1)
			}
			said := 0
			for _, line := range strings.Split(w.said(), "; notice") {
				if strings.Contains(line, "cannot give them") {
					said++
					for _, part := range c.says {
						if !strings.Contains(line, part) {
							t.Errorf("%q is not in %s", part, line)
						}
					}
				}
			}
			if said != min(1, len(c.says)) {
				t.Errorf("said %d times: %s", said, w.said())
			}
			if c.store == nil {
				return
			}
			w.forgetEvents() // a type that comes later
			w.must(w.types.Register((*Tried)(nil)))
			w.want(bg, "Tried/x.Change", 1)
			late := strings.Contains(w.said(), "Tried are kept")
			if _, all := c.store.(object.TxProvider); late == all {
				t.Error(w.said())
			}
		})
	}
}
