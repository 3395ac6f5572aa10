package etcdmanager

import (
	"fmt"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"
)

// Every guard and operation as etcd reads it. (That etcd means by it what is said of
// them in kv.go is kvtest's to show.)
func TestRequest(t *testing.T) {
	got := request(Txn{
		If:   []Guard{ValueIs("a", []byte("1")), Alive("b"), Absent("c"), CreatedAt("d", 7), RangeEmpty("e", "f")},
		Then: []Op{Put("a", []byte("2"), 9), Delete("b")},
		Else: []Op{Get("c")},
	})
	want := &pb.TxnRequest{
		Compare: []*pb.Compare{
			{Key: []byte("a"), Target: pb.Compare_VALUE, TargetUnion: &pb.Compare_Value{Value: []byte("1")}},
			{Key: []byte("b"), Target: pb.Compare_CREATE, Result: pb.Compare_GREATER, TargetUnion: &pb.Compare_CreateRevision{}},
			{Key: []byte("c"), Target: pb.Compare_CREATE, TargetUnion: &pb.Compare_CreateRevision{}},
			{Key: []byte("d"), Target: pb.Compare_CREATE, TargetUnion: &pb.Compare_CreateRevision{CreateRevision: 7}},
			{Key: []byte("e"), RangeEnd: []byte("f"), Target: pb.Compare_CREATE, TargetUnion: &pb.Compare_CreateRevision{}},
		},
		Success: []*pb.RequestOp{
			{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: []byte("a"), Value: []byte("2"), Lease: 9}}},
			{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: &pb.DeleteRangeRequest{Key: []byte("b")}}},
		},
		Failure: []*pb.RequestOp{{Request: &pb.RequestOp_RequestRange{RequestRange: &pb.RangeRequest{Key: []byte("c")}}}},
	}
	if !proto.Equal(got, want) {
		t.Errorf("got %v\nwant %v", got, want)
	}
}

// A plan for all shards: 69 transactions.
func BenchmarkRequest(b *testing.B) {
	txn := planLike()
	b.ReportAllocs()
	for b.Loop() {
		for range 69 {
			request(txn)
		}
	}
}

func planLike() Txn {
	var txn Txn
	value := []byte(`{"e":12,"c":"10.0.0.1:47000","ci":"0123456789abcdef0123456789abcdef","t":"10.0.0.2:47000","h":"","n":"01234567"}`)
	for i := range 120 {
		key := fmt.Sprintf("/goverse/shards/%04d", i)
		txn.If = append(txn.If, ValueIs(key, value))
		txn.Then = append(txn.Then, Put(key, value, 0))
	}
	return txn
}
