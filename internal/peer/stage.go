package peer

import (
	"context"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/object"
	goverse_pb "github.com/xiaonanln/goverse/proto"
)

// MaxStage is how much state one Stage should carry; a single object may be larger,
// up to what an object's state may be.
const MaxStage = 1 << 20

// encodeStage is a stage as it leaves this process.
func encodeStage(s *Stage) ([]byte, error) {
	m := &goverse_pb.StageRequest{
		Shard: uint32(s.Shard), Handover: s.Handover, Holder: s.Holder, Epoch: s.Epoch, Target: s.Target,
		Objects: make([]*goverse_pb.Staged, len(s.Objects)), Hops: uint32(s.Hops), Relay: s.Relay,
	}
	for i, o := range s.Objects {
		m.Objects[i] = &goverse_pb.Staged{
			Type: o.Ref.Type, Id: o.Ref.ID, Seq: o.Seq, CreatedUnixNanos: o.Created.UnixNano(), State: o.State, Gone: o.Gone,
			Incarnation: o.Incarnation, Published: o.Published,
		}
	}
	frame, err := proto.Marshal(m)
	switch {
	case err != nil:
		return nil, fault.New(fault.Invalid, "the stage cannot be sent: %w", err)
	case len(frame) > maxMessage:
		return nil, fault.New(fault.TooLarge, "a stage of %d bytes, at most %d are carried", len(frame), maxMessage)
	}
	return frame, nil
}

func decodeStage(m *goverse_pb.StageRequest) *Stage {
	s := &Stage{
		Shard: int(m.Shard), Handover: m.Handover, Holder: m.Holder, Epoch: m.Epoch, Target: m.Target,
		Objects: make([]Staged, len(m.Objects)), Hops: int(m.Hops), Relay: m.Relay,
	}
	for i, o := range m.Objects {
		s.Objects[i] = Staged{
			Ref: object.Ref{Type: o.Type, ID: o.Id}, Seq: o.Seq, Created: time.Unix(0, o.CreatedUnixNanos), State: o.State, Gone: o.Gone,
			Incarnation: o.Incarnation, Published: o.Published,
		}
	}
	return s
}

// serveStage answers a stage that came in.
func serveStage(ctx context.Context, svc Service, m *goverse_pb.StageRequest) *goverse_pb.StageReply {
	if err := svc.ServeStage(ctx, decodeStage(m)); err != nil {
		return &goverse_pb.StageReply{Fault: encodeFault(err)}
	}
	return new(goverse_pb.StageReply)
}

// faultOf is the error that a reply carries, or nil.
func faultOf(f *goverse_pb.Fault) error {
	if f == nil {
		return nil
	}
	return fault.FromWire(f)
}
