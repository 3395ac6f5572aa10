package peer

import (
	"github.com/xiaonanln/goverse/object"
	goverse_pb "github.com/xiaonanln/goverse/proto"
)

func encodeChange(c *Change) *goverse_pb.Change {
	if c == nil {
		return nil
	}
	return &goverse_pb.Change{Type: c.Ref.Type, Id: c.Ref.ID, Incarnation: c.Incarnation, Version: c.Version, Ended: c.Ended}
}

func decodeChange(m *goverse_pb.Change) *Change {
	if m == nil {
		return nil
	}
	return &Change{Ref: object.Ref{Type: m.Type, ID: m.Id}, Incarnation: m.Incarnation, Version: m.Version, Ended: m.Ended}
}
