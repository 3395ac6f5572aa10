package peer

import (
	"context"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/object"
	goverse_pb "github.com/xiaonanln/goverse/proto"
)

// A page of a store's objects, and the record of one, as they are asked for and answered.

func encodeList(objType, after string, limit int) ([]byte, error) {
	if limit != int(int32(limit)) {
		limit = -1 // it is refused, as this one is
	}
	return encodeQuery(&goverse_pb.ListObjectsRequest{Type: objType, After: after, Limit: int32(limit)})
}

func encodeStateOf(ref object.Ref) ([]byte, error) {
	return encodeQuery(&goverse_pb.StoredStateRequest{Type: ref.Type, Id: ref.ID})
}

func encodeQuery(m proto.Message) ([]byte, error) {
	frame, err := proto.Marshal(m)
	if err != nil {
		return nil, fault.New(fault.Invalid, "the question cannot be sent: %w", err)
	}
	return frame, nil
}

// serveList answers a question for a page that came in.
func serveList(ctx context.Context, svc Service, m *goverse_pb.ListObjectsRequest) *goverse_pb.ListObjectsReply {
	list, err := svc.ListObjects(ctx, m.Type, m.After, int(m.Limit))
	if err != nil {
		return &goverse_pb.ListObjectsReply{Fault: encodeFault(err)}
	}
	reply := &goverse_pb.ListObjectsReply{Objects: make([]*goverse_pb.ListedObject, len(list))}
	for i, o := range list {
		reply.Objects[i] = &goverse_pb.ListedObject{
			Id: o.Ref.ID, Version: o.Version, CreatedUnixNanos: nanos(o.Created), UpdatedUnixNanos: nanos(o.Updated),
		}
	}
	if err := carried(reply, "what the store has"); err != nil {
		return &goverse_pb.ListObjectsReply{Fault: encodeFault(err)}
	}
	return reply
}

func decodeList(objType string, m *goverse_pb.ListObjectsReply) ([]object.Listed, error) {
	if m.Fault != nil {
		return nil, fault.FromWire(m.Fault)
	}
	list := make([]object.Listed, len(m.Objects))
	for i, o := range m.Objects {
		list[i] = object.Listed{
			Ref: object.Ref{Type: objType, ID: o.GetId()}, Version: o.GetVersion(), Created: moment(o.GetCreatedUnixNanos()), Updated: moment(o.GetUpdatedUnixNanos()),
		}
	}
	return list, nil
}

// serveStateOf answers a question for a record that came in.
func serveStateOf(ctx context.Context, svc Service, m *goverse_pb.StoredStateRequest) *goverse_pb.StoredStateReply {
	r, err := svc.StoredState(ctx, object.Ref{Type: m.Type, ID: m.Id})
	if err != nil {
		return &goverse_pb.StoredStateReply{Fault: encodeFault(err)}
	}
	reply := &goverse_pb.StoredStateReply{Data: r.Data, Version: r.Version, CreatedUnixNanos: nanos(r.Created)}
	if err := carried(reply, "what the store has"); err != nil {
		return &goverse_pb.StoredStateReply{Fault: encodeFault(err)}
	}
	return reply
}

func decodeStateOf(m *goverse_pb.StoredStateReply) (object.Record, error) {
	if m.Fault != nil {
		return object.Record{}, fault.FromWire(m.Fault)
	}
	return object.Record{Data: m.Data, Version: m.Version, Created: moment(m.CreatedUnixNanos)}, nil
}

// carried refuses an answer that does not fit, which only a store of somebody's own has,
// or cannot be marshalled.
func carried(m proto.Message, what string) error {
	b, err := proto.Marshal(m)
	switch {
	case err != nil:
		return fault.New(fault.StoreFailed, "%s cannot be sent: %w", what, err).With(fault.NotExecuted)
	case len(b) > maxMessage:
		return fault.New(fault.TooLarge, "%s takes %d bytes, at most %d are carried", what, len(b), maxMessage).With(fault.NotExecuted)
	}
	return nil
}

// nanos and moment keep the time that is none.
func nanos(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}

func moment(nanos int64) time.Time {
	if nanos == 0 {
		return time.Time{}
	}
	return time.Unix(0, nanos)
}
