package sqlite

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"

	"github.com/xiaonanln/goverse/object"
	"github.com/xiaonanln/goverse/object/objecttest"
)

func TestMain(m *testing.M) {
	if spec := os.Getenv(childVar); spec != "" {
		if err := child(spec); err != nil {
			fmt.Fprintln(os.Stderr, "child:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// openDB opens a file with tables and closes it with the test.
func openDB(t testing.TB, path string) *DB {
	t.Helper()
	db, err := Open(t.Context(), Config{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := db.InitSchema(t.Context()); err != nil {
		t.Fatal(err)
	}
	return db
}

func tempPath(t testing.TB) string { return filepath.Join(t.TempDir(), "goverse.db") }

func TestContract(t *testing.T) {
	objecttest.Run(t, func(t testing.TB) object.PersistenceProvider {
		return NewSQLitePersistenceProvider(openDB(t, tempPath(t)))
	})
}

// pair is one file opened twice, as by two nodes on one host: each call takes one
// of the two at random.
type pair struct{ a, b *Provider }

func (p pair) any() *Provider {
	if rand.IntN(2) == 0 {
		return p.a
	}
	return p.b
}

func (p pair) SaveObject(ctx context.Context, typ, id string, data []byte) error {
	return p.any().SaveObject(ctx, typ, id, data)
}

func (p pair) LoadObject(ctx context.Context, typ, id string) ([]byte, error) {
	return p.any().LoadObject(ctx, typ, id)
}

func (p pair) DeleteObject(ctx context.Context, typ, id string) error {
	return p.any().DeleteObject(ctx, typ, id)
}

func (p pair) StoreID(ctx context.Context) (string, error) { return p.any().StoreID(ctx) }

func (p pair) Stamp(ctx context.Context, owner string, fences []object.Fence) ([]object.Fence, error) {
	return p.any().Stamp(ctx, owner, fences)
}

func (p pair) Load(ctx context.Context, ref object.Ref) (object.Record, error) {
	return p.any().Load(ctx, ref)
}

func (p pair) Commit(ctx context.Context, owner string, saves []object.Save) ([]object.Verdict, error) {
	return p.any().Commit(ctx, owner, saves)
}

func (p pair) Lanes() int { return p.any().Lanes() }

func (p pair) FindCall(ctx context.Context, ref object.Ref, id string) (object.CallRecord, error) {
	return p.any().FindCall(ctx, ref, id)
}

func (p pair) RecentCalls(ctx context.Context, ref object.Ref, limit int) ([]string, bool, error) {
	return p.any().RecentCalls(ctx, ref, limit)
}

func (p pair) PendingEffects(ctx context.Context, shard int, after object.EffectKey, limit int) ([]object.PendingEffect, error) {
	return p.any().PendingEffects(ctx, shard, after, limit)
}

func (p pair) EndEffects(ctx context.Context, f object.Fence, keys []object.EffectKey) (bool, error) {
	return p.any().EndEffects(ctx, f, keys)
}

func (p pair) CollectCalls(ctx context.Context, f object.Fence) (int, error) {
	return p.any().CollectCalls(ctx, f)
}

func (p pair) CommitWith(ctx context.Context, owner string, s object.Save, hook func(context.Context, object.Tx) error) (object.Verdict, error) {
	return p.any().CommitWith(ctx, owner, s, hook)
}

func (p pair) List(ctx context.Context, typ, after string, limit int) ([]object.Listed, error) {
	return p.any().List(ctx, typ, after, limit)
}

func (p pair) Confirm(ctx context.Context, owner string, fences []object.Fence) ([]object.Fence, error) {
	return p.any().Confirm(ctx, owner, fences)
}

func (p pair) BindCluster(ctx context.Context, cluster string) (string, error) {
	return p.any().BindCluster(ctx, cluster)
}

func TestContractOfTwo(t *testing.T) {
	objecttest.Run(t, func(t testing.TB) object.PersistenceProvider {
		path := tempPath(t)
		return pair{NewSQLitePersistenceProvider(openDB(t, path)), NewSQLitePersistenceProvider(openDB(t, path))}
	})
}
