package inspector

import (
	"context"
	"net/http"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc"
	grpcpeer "google.golang.org/grpc/peer"

	"github.com/xiaonanln/goverse/cluster/consensusmanager"
	"github.com/xiaonanln/goverse/cluster/diagnosis"
	"github.com/xiaonanln/goverse/cluster/sharding"
	inspector_pb "github.com/xiaonanln/goverse/inspector/proto"
	"github.com/xiaonanln/goverse/internal/event"
	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/internal/peer"
	"github.com/xiaonanln/goverse/object"
)

// service is the inspector for other tools: what the page has, over gRPC on the same port.
// Who is let in to it was decided for the HTTP request that carries the call.
type service struct {
	inspector_pb.UnimplementedInspectorServiceServer
	i *Inspector
}

// newService is a gRPC server that answers requests of an HTTP server.
func newService(i *Inspector) *grpc.Server {
	s := grpc.NewServer()
	inspector_pb.RegisterInspectorServiceServer(s, &service{i: i})
	return s
}

// isCall says whether a request is a gRPC call.
func isCall(r *http.Request) bool {
	return r.ProtoMajor == 2 && strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc")
}

// control is how the deadline of a call's answers is set.
type control struct{}

func withControl(r *http.Request, w http.ResponseWriter) *http.Request {
	return r.WithContext(context.WithValue(r.Context(), control{}, http.NewResponseController(w)))
}

// Watch implements inspector_pb.InspectorServiceServer.
func (s *service) Watch(m *inspector_pb.WatchRequest, stream grpc.ServerStreamingServer[inspector_pb.Frame]) error {
	deadline, _ := stream.Context().Value(control{}).(*http.ResponseController)
	return s.i.serve(stream.Context(), ParsePlace(m.After), func(frame []byte) error {
		if deadline != nil {
			if err := deadline.SetWriteDeadline(time.Now().Add(patience)); err != nil {
				return err
			}
		}
		return stream.Send(&inspector_pb.Frame{Json: string(frame)})
	})
}

// Nodes implements inspector_pb.InspectorServiceServer.
func (s *service) Nodes(context.Context, *inspector_pb.NodesRequest) (*inspector_pb.NodesReply, error) {
	p := s.i.picture()
	if p == nil {
		return nil, statusErr(errNothingSeen)
	}
	health := healthOf(p)
	reply := &inspector_pb.NodesReply{Health: string(health.Level), Reasons: health.Reasons}
	for _, n := range p.NodeRows() {
		reply.Nodes = append(reply.Nodes, &inspector_pb.Node{Address: n.Address, State: n.State, Leader: n.Leader, Shards: int32(n.Held), Version: n.Version, Types: n.Types})
	}
	return reply, nil
}

// Objects implements inspector_pb.InspectorServiceServer.
func (s *service) Objects(ctx context.Context, m *inspector_pb.ObjectsRequest) (*inspector_pb.ObjectsReply, error) {
	after, err := parseAfter(m.After)
	if err != nil {
		return nil, statusErr(fault.New(fault.Invalid, "after is what the page before gave as next: %w", err))
	}
	limit := int(m.Limit)
	if limit == 0 {
		limit = defaultPage
	}
	page, err := s.i.pageOf(ctx, m.Node, peer.LiveQuery{Type: m.Type, Prefix: m.Prefix, After: after, Limit: limit})
	if err != nil {
		return nil, statusErr(err)
	}
	reply := &inspector_pb.ObjectsReply{Next: page.Next}
	for _, o := range page.Objects {
		reply.Objects = append(reply.Objects, &inspector_pb.LiveObject{Type: o.Type, Id: o.ID, Node: o.Node, Shard: int32(o.Shard), LastUsedUnixMillis: o.LastUsed, Queued: int32(o.Queued)})
	}
	for _, n := range page.Silent {
		reply.Silent = append(reply.Silent, n.Address+": "+n.Error)
	}
	return reply, nil
}

// Object implements inspector_pb.InspectorServiceServer.
func (s *service) Object(ctx context.Context, m *inspector_pb.ObjectRequest) (*inspector_pb.ObjectReply, error) {
	ref := object.Ref{Type: m.Type, ID: m.Id}
	sight, err := s.i.sight(ctx, ref, m.State)
	if err != nil {
		return nil, statusErr(err)
	}
	if m.State {
		s.i.heardOf(event.OperatorReads, ref, from(ctx))
	}
	return &inspector_pb.ObjectReply{Json: string(encode(sight))}, nil
}

// Explain implements inspector_pb.InspectorServiceServer.
func (s *service) Explain(_ context.Context, m *inspector_pb.ExplainRequest) (*inspector_pb.ExplainReply, error) {
	p := s.i.picture()
	if p == nil {
		return nil, statusErr(errNothingSeen)
	}
	e, err := explained(p, m)
	if err != nil {
		return nil, statusErr(err)
	}
	return &inspector_pb.ExplainReply{Summary: e.Summary, Acts: e.Acts, How: e.How, WaitsFor: e.Waits, Notes: e.Notes, Facts: e.Facts}, nil
}

func explained(p *diagnosis.Picture, m *inspector_pb.ExplainRequest) (*diagnosis.Explanation, error) {
	switch what := m.What.(type) {
	case *inspector_pb.ExplainRequest_Shard:
		if what.Shard < 0 || int(what.Shard) >= p.Table.Len() {
			return nil, fault.New(fault.NotFound, "there is no shard %d: the cluster has 0 to %d", what.Shard, p.Table.Len()-1)
		}
		return diagnosis.Shard(p, int(what.Shard)), nil
	case *inspector_pb.ExplainRequest_Node:
		if e, known := diagnosis.Node(p, what.Node); known {
			return e, nil
		}
		return diagnosis.NoNode(p, what.Node), nil
	case *inspector_pb.ExplainRequest_Object:
		ref := object.Ref{Type: what.Object.GetType(), ID: what.Object.GetId()}
		if err := validRef(ref); err != nil {
			return nil, err
		}
		return diagnosis.Object(p, ref), nil
	}
	return nil, fault.New(fault.Invalid, "say what is to be explained: a shard, a node or an object")
}

// Drain implements inspector_pb.InspectorServiceServer.
func (s *service) Drain(ctx context.Context, m *inspector_pb.DrainRequest) (*inspector_pb.DrainReply, error) {
	mark, err := s.i.order(ctx, m.Node, m.Undo, m.Force, from(ctx))
	if err != nil {
		return nil, statusErr(fault.New(kindOf(statusOf(err)), "%s", wordsOf(err, m.Node)))
	}
	return &inspector_pb.DrainReply{Changed: mark.Changed}, nil
}

// Move implements inspector_pb.InspectorServiceServer.
func (s *service) Move(ctx context.Context, m *inspector_pb.MoveRequest) (*inspector_pb.OrderReply, error) {
	return s.place(ctx, moveOrder{Node: m.Node, Seconds: int(m.Seconds)}, m.Shards)
}

// Pin implements inspector_pb.InspectorServiceServer.
func (s *service) Pin(ctx context.Context, m *inspector_pb.PinRequest) (*inspector_pb.OrderReply, error) {
	return s.place(ctx, moveOrder{Node: m.Node, Pin: true}, m.Shards)
}

// Unpin implements inspector_pb.InspectorServiceServer.
func (s *service) Unpin(ctx context.Context, m *inspector_pb.UnpinRequest) (*inspector_pb.OrderReply, error) {
	return s.place(ctx, moveOrder{Unpin: true}, m.Shards)
}

func (s *service) place(ctx context.Context, order moveOrder, numbers []int32) (*inspector_pb.OrderReply, error) {
	shards, list, err := shardsOf(numbers)
	if err != nil {
		return nil, statusErr(fault.New(fault.Invalid, "name 1 to %d shards, each once: %w", consensusmanager.MaxOrdered, err))
	}
	if err := order.check(); err != nil {
		return nil, statusErr(fault.New(fault.Invalid, "%w", err))
	}
	mark, err := s.i.place(ctx, order, shards, list, from(ctx))
	if err != nil {
		return nil, statusErr(fault.New(kindOf(orderStatus(err)), "%s", wordsOf(err, order.Node)))
	}
	holder, _ := mark.Before.Holder(shards[0])
	return &inspector_pb.OrderReply{Changed: mark.Changed, Holder: holder}, nil
}

// shardsOf is the shards of a call, as parseShards has them of an address.
func shardsOf(numbers []int32) (shards []sharding.ID, list string, err error) {
	names := make([]string, len(numbers))
	for n, number := range numbers {
		names[n] = strconv.Itoa(int(number))
	}
	list = strings.Join(names, ",")
	shards, err = parseShards(list)
	return shards, list, err
}

// kindOf is an HTTP status of an order for gRPC.
func kindOf(status int) fault.Kind {
	switch status {
	case http.StatusNotFound:
		return fault.NotFound
	case http.StatusConflict:
		return fault.Exists
	case http.StatusBadGateway:
		return fault.Indeterminate
	}
	return fault.NotReady
}

// Deactivate implements inspector_pb.InspectorServiceServer.
func (s *service) Deactivate(ctx context.Context, m *inspector_pb.DeactivateRequest) (*inspector_pb.DeactivateReply, error) {
	was, err := s.i.end(ctx, object.Ref{Type: m.Type, ID: m.Id}, m.Force, from(ctx))
	if err != nil {
		return nil, statusErr(err)
	}
	return &inspector_pb.DeactivateReply{WasLive: was}, nil
}

// from is who calls.
func from(ctx context.Context) string {
	if p, ok := grpcpeer.FromContext(ctx); ok {
		return p.Addr.String()
	}
	return "an unknown address"
}

func statusErr(err error) error { return fault.Of(err).GRPCStatus().Err() }
