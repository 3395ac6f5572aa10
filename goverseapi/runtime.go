package goverseapi

import (
	"context"

	"github.com/xiaonanln/goverse/object"
)

// Runtime makes the calls of typed references as CallObject does: inside an object's
// method on the runtime that hosts the object, if the call is given the method's context,
// else on the process's default server.
//
//	chat_pb.NewChatRoomRef(goverseapi.Runtime(), "general").Join(ctx, req)
//
// A reference that is made so may be kept for as long as the process runs.
func Runtime() Caller { return runtime{} }

type runtime struct{}

// Do implements Caller.
func (runtime) Do(ctx context.Context, call object.Call) (object.Payload, error) {
	return do(ctx, call)
}
