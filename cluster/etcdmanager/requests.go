package etcdmanager

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
)

// pageSize is how many keys one read asks for: all shards fit in one page.
const pageSize = 10000

// Range reads page by page at the revision of the first page.
func (c *Client) Range(ctx context.Context, prefix string) (Page, error) {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.RequestTimeout)
	defer cancel()
	for {
		page, err := c.rangeOnce(ctx, prefix)
		if errors.Is(err, rpctypes.ErrCompacted) {
			continue // the revision was compacted between two pages
		}
		return page, err
	}
}

func (c *Client) rangeOnce(ctx context.Context, prefix string) (Page, error) {
	var page Page
	from, end := span(prefix)
	for {
		var resp *clientv3.GetResponse
		err := c.again(ctx, "range", func() (err error) {
			resp, err = c.v3.Get(ctx, from, clientv3.WithRange(end), clientv3.WithLimit(pageSize), clientv3.WithRev(page.Revision))
			return err
		})
		if err != nil {
			return Page{}, err
		}
		if page.Revision == 0 {
			page.Revision = resp.Header.Revision
			page.Items = make([]Item, 0, len(resp.Kvs))
		}
		for _, kv := range resp.Kvs {
			page.Items = append(page.Items, item(kv))
		}
		if !resp.More {
			return page, nil
		}
		from = page.Items[len(page.Items)-1].Key + "\x00"
	}
}

// span is the range of keys that begin with prefix.
func span(prefix string) (from, end string) {
	if prefix == "" {
		return "\x00", "\x00"
	}
	return prefix, PrefixEnd(prefix)
}

func item(kv *mvccpb.KeyValue) Item {
	return Item{
		Key: string(kv.Key), Value: kv.Value, Lease: LeaseID(kv.Lease),
		CreateRevision: kv.CreateRevision, ModRevision: kv.ModRevision,
	}
}

// Commit sends the transaction once, and never again.
func (c *Client) Commit(ctx context.Context, txn Txn) (Result, error) {
	if err := txn.Validate(); err != nil {
		return Result{}, err
	}
	return c.commit(ctx, txn)
}

func (c *Client) commit(ctx context.Context, txn Txn) (Result, error) {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.RequestTimeout)
	defer cancel()
	ctx, sent := withSent(ctx)
	resp, err := pb.NewKVClient(c.v3.ActiveConnection()).Txn(ctx, request(txn), grpc.WaitForReady(true), unlimited)
	if err != nil {
		return Result{}, c.commitError(ctx, err, sent.Load())
	}
	return result(txn, resp), nil
}

// unlimited lets answers be as large as etcd makes them, as the stock client does.
var unlimited = grpc.MaxCallRecvMsgSize(math.MaxInt32)

// request is the transaction on the wire. It is made here because the stock client
// copies every compare twice, and a plan has thousands.
func request(txn Txn) *pb.TxnRequest {
	r := &pb.TxnRequest{Compare: make([]*pb.Compare, len(txn.If)), Success: operations(txn.Then), Failure: operations(txn.Else)}
	compares := make([]pb.Compare, len(txn.If))
	for i, g := range txn.If {
		fill(&compares[i], g)
		r.Compare[i] = &compares[i]
	}
	if len(r.Success)+len(r.Failure) == 0 {
		// etcd evaluates a transaction without operations on whatever the member it
		// asks happens to know. A read makes it linearizable.
		r.Failure = []*pb.RequestOp{{Request: &pb.RequestOp_RequestRange{RequestRange: &pb.RangeRequest{Key: []byte{0}, KeysOnly: true}}}}
	}
	return r
}

func fill(c *pb.Compare, g Guard) {
	c.Key, c.Result = []byte(g.Key), pb.Compare_EQUAL
	if g.Kind == GuardValueIs {
		c.Target, c.TargetUnion = pb.Compare_VALUE, &pb.Compare_Value{Value: g.Value}
		return
	}
	c.Target, c.TargetUnion = pb.Compare_CREATE, &pb.Compare_CreateRevision{CreateRevision: g.Revision} // 0: it does not exist
	switch g.Kind {
	case GuardAlive:
		c.Result = pb.Compare_GREATER
	case GuardRangeEmpty:
		c.RangeEnd = []byte(g.End)
	}
}

func operations(ops []Op) []*pb.RequestOp {
	out := make([]*pb.RequestOp, len(ops))
	for i, op := range ops {
		out[i] = operation(op)
	}
	return out
}

func operation(op Op) *pb.RequestOp {
	key := []byte(op.Key)
	switch op.Kind {
	case OpPut:
		return &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: key, Value: op.Value, Lease: int64(op.Lease)}}}
	case OpDelete:
		return &pb.RequestOp{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: &pb.DeleteRangeRequest{Key: key}}}
	default: // OpGet
		return &pb.RequestOp{Request: &pb.RequestOp_RequestRange{RequestRange: &pb.RangeRequest{Key: key}}}
	}
}

func result(txn Txn, resp *pb.TxnResponse) Result {
	r := Result{Held: resp.Succeeded, Revision: resp.Header.Revision}
	branch := txn.Then
	if !r.Held {
		branch = txn.Else
	}
	for i, op := range branch {
		if op.Kind == OpGet {
			r.Gets = append(r.Gets, got(resp.Responses[i].GetResponseRange().Kvs))
		}
	}
	return r
}

func got(kvs []*mvccpb.KeyValue) Got {
	if len(kvs) == 0 {
		return Got{}
	}
	return Got{Item: item(kvs[0]), Exists: true}
}

// Grant rounds ttl up to whole seconds, etcd's unit.
func (c *Client) Grant(ctx context.Context, ttl time.Duration) (LeaseID, time.Duration, error) {
	if ttl <= 0 {
		return 0, 0, fmt.Errorf("grant a lease of %v: want more than nothing", ttl)
	}
	ctx, cancel := context.WithTimeout(ctx, c.cfg.RequestTimeout)
	defer cancel()
	resp, err := c.v3.Grant(ctx, int64((ttl+time.Second-1)/time.Second))
	if err != nil {
		return 0, 0, c.fail(ctx, "grant a lease", err)
	}
	return LeaseID(resp.ID), time.Duration(resp.TTL) * time.Second, nil
}

// KeepAlive makes one attempt on a stream of its own. (The stock KeepAliveOnce
// tries again without a pause for as long as the server says "unavailable".)
func (c *Client) KeepAlive(ctx context.Context, id LeaseID) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.RequestTimeout)
	defer cancel()
	ttl, err := c.keepAlive(ctx, id)
	switch {
	case err != nil:
		return 0, c.fail(ctx, "renew a lease", err)
	case ttl <= 0:
		return 0, c.fail(ctx, "renew a lease", rpctypes.ErrLeaseNotFound)
	}
	return time.Duration(ttl) * time.Second, nil
}

func (c *Client) keepAlive(ctx context.Context, id LeaseID) (seconds int64, err error) {
	stream, err := pb.NewLeaseClient(c.v3.ActiveConnection()).LeaseKeepAlive(ctx, grpc.WaitForReady(true))
	if err != nil {
		return 0, err
	}
	if err := stream.Send(&pb.LeaseKeepAliveRequest{ID: int64(id)}); err != nil {
		return 0, err
	}
	resp, err := stream.Recv()
	if err != nil {
		return 0, err
	}
	return resp.TTL, nil
}

// Revoke ends a lease; one that is gone already is no error.
func (c *Client) Revoke(ctx context.Context, id LeaseID) error {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.RequestTimeout)
	defer cancel()
	_, err := c.v3.Revoke(ctx, clientv3.LeaseID(id))
	if err == nil || hasRefusal(err, rpctypes.ErrLeaseNotFound) {
		return nil
	}
	return c.fail(ctx, "revoke a lease", err)
}

// Version is the version of the member that answers.
func (c *Client) Version(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.RequestTimeout)
	defer cancel()
	var version string
	err := c.again(ctx, "version", func() error {
		resp, err := pb.NewMaintenanceClient(c.v3.ActiveConnection()).Status(ctx, &pb.StatusRequest{}, grpc.WaitForReady(true))
		version = resp.GetVersion()
		return err
	})
	return version, err
}

// again repeats a read while its failure is of the moment.
func (c *Client) again(ctx context.Context, op string, read func() error) error {
	for attempt := 0; ; attempt++ {
		err := read()
		switch {
		case err == nil:
			return nil
		case !passing(err) || c.ctx.Err() != nil || !retry.Wait(ctx, attempt):
			return c.fail(ctx, op, err)
		}
	}
}

// retry paces reads and watches that etcd turned away.
var retry = Backoff{First: 20 * time.Millisecond, Max: time.Second}
