package peer

import (
	"context"

	"google.golang.org/protobuf/proto"

	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/object"
	goverse_pb "github.com/xiaonanln/goverse/proto"
)

// MaxCircle bounds how far a probe is followed.
const MaxCircle = 32

func encodeProbe(p *Probe) ([]byte, error) {
	frame, err := proto.Marshal(&goverse_pb.ProbeRequest{
		Origin: p.Origin[:], Chase: p.Chase[:], Type: p.At.Type, Id: p.At.ID, Path: p.Path,
	})
	if err != nil {
		return nil, fault.New(fault.Invalid, "the probe cannot be sent: %w", err)
	}
	return frame, nil
}

func decodeProbe(m *goverse_pb.ProbeRequest) (*Probe, error) {
	p := &Probe{At: object.Ref{Type: m.Type, ID: m.Id}, Path: m.Path}
	if len(m.Origin) != len(p.Origin) || len(m.Chase) != len(p.Chase) || len(m.Path) > MaxCircle {
		return nil, fault.New(fault.Invalid, "a probe with chains of %d and %d bytes and a path of %d calls", len(m.Origin), len(m.Chase), len(m.Path))
	}
	copy(p.Origin[:], m.Origin)
	copy(p.Chase[:], m.Chase)
	return p, nil
}

// serveProbe answers a probe that came in.
func serveProbe(ctx context.Context, svc Service, m *goverse_pb.ProbeRequest) *goverse_pb.ProbeReply {
	p, err := decodeProbe(m)
	if err != nil {
		return &goverse_pb.ProbeReply{Fault: encodeFault(err)}
	}
	circle, err := svc.ServeProbe(ctx, p)
	if err != nil {
		return &goverse_pb.ProbeReply{Fault: encodeFault(err)}
	}
	return &goverse_pb.ProbeReply{Path: circle}
}
