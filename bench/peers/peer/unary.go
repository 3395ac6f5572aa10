package peer

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/xiaonanln/goverse/bench/load/plain"
)

// unaryPeer is a unary method of grpc-go: no objects, only the call.
var unaryPeer = Peer{
	Name: "grpc-unary", Version: "grpc-go " + grpc.Version,
	Serve: plain.Serve,
	Dial: func(_ context.Context, address string) (Far, error) {
		c, err := plain.Dial(address)
		return unaryFar{c}, err
	},
}

type unaryFar struct{ client *plain.Client }

func (u unaryFar) Say(ctx context.Context, _ int, m *wrapperspb.BytesValue) (*wrapperspb.BytesValue, error) {
	return u.client.Say(ctx, m)
}

func (u unaryFar) Close() error { return u.client.Close() }
