package etcdmanager

import (
	"context"
	"time"

	"github.com/xiaonanln/goverse/internal/event"
)

// Told is kv, each request to which is told of when it is over. Watches are not: they do
// not end. Where nobody hears of it, it is kv.
func Told(kv KV, on event.Listener) KV {
	if on.EtcdDone == nil {
		return kv
	}
	return told{kv, on.EtcdDone}
}

type told struct {
	KV
	heard func(event.EtcdDone)
}

func (t told) done(operation event.EtcdOperation, began time.Time, refused bool, err error) {
	t.heard(event.EtcdDone{Operation: operation, Took: time.Since(began), Refused: refused, Err: err})
}

// Range implements KV.
func (t told) Range(ctx context.Context, prefix string) (Page, error) {
	began := time.Now()
	page, err := t.KV.Range(ctx, prefix)
	t.done(event.EtcdRange, began, false, err)
	return page, err
}

// Commit implements KV.
func (t told) Commit(ctx context.Context, txn Txn) (Result, error) {
	began := time.Now()
	result, err := t.KV.Commit(ctx, txn)
	t.done(event.EtcdCommit, began, err == nil && !result.Held, err)
	return result, err
}

// Grant implements KV.
func (t told) Grant(ctx context.Context, ttl time.Duration) (LeaseID, time.Duration, error) {
	began := time.Now()
	id, granted, err := t.KV.Grant(ctx, ttl)
	t.done(event.EtcdGrant, began, false, err)
	return id, granted, err
}

// KeepAlive implements KV.
func (t told) KeepAlive(ctx context.Context, id LeaseID) (time.Duration, error) {
	began := time.Now()
	ttl, err := t.KV.KeepAlive(ctx, id)
	t.done(event.EtcdKeepAlive, began, false, err)
	return ttl, err
}

// Revoke implements KV.
func (t told) Revoke(ctx context.Context, id LeaseID) error {
	began := time.Now()
	err := t.KV.Revoke(ctx, id)
	t.done(event.EtcdRevoke, began, false, err)
	return err
}

// Version implements KV.
func (t told) Version(ctx context.Context) (string, error) {
	began := time.Now()
	version, err := t.KV.Version(ctx)
	t.done(event.EtcdVersion, began, false, err)
	return version, err
}
