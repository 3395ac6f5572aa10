package peer

import (
	"context"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/object"
	goverse_pb "github.com/xiaonanln/goverse/proto"
)

// What a node knows of itself, as it is asked for and answered.

// questions asks over a road: it is the Census of every Conn that has one.
type questions struct {
	road interface {
		// ask sends a question and waits for the reply to it. A network in memory lets
		// serve answer it.
		ask(ctx context.Context, method string, serve answering, question, reply proto.Message) error
	}
}

// Survey implements Census.
func (q questions) Survey(ctx context.Context) (*Survey, error) {
	reply := new(goverse_pb.SurveyReply)
	if err := q.road.ask(ctx, goverse_pb.PeerService_Survey_FullMethodName, serveSurveyFrame, &goverse_pb.SurveyRequest{}, reply); err != nil {
		return nil, err
	}
	return decodeSurvey(reply)
}

// LiveObjects implements Census.
func (q questions) LiveObjects(ctx context.Context, query LiveQuery) ([]LiveObject, error) {
	reply := new(goverse_pb.LiveObjectsReply)
	if err := q.road.ask(ctx, goverse_pb.PeerService_LiveObjects_FullMethodName, serveLiveFrame, &goverse_pb.LiveObjectsRequest{
		Type: query.Type, Prefix: query.Prefix, AfterType: query.After.Type, AfterId: query.After.ID, Limit: int32(min(query.Limit, MaxLive+1)),
	}, reply); err != nil {
		return nil, err
	}
	return decodeLive(reply)
}

// Look implements Census.
func (q questions) Look(ctx context.Context, ref object.Ref, state bool) (*Sight, error) {
	reply := new(goverse_pb.LookReply)
	if err := q.road.ask(ctx, goverse_pb.PeerService_Look_FullMethodName, serveLookFrame, &goverse_pb.LookRequest{Type: ref.Type, Id: ref.ID, State: state}, reply); err != nil {
		return nil, err
	}
	return decodeSight(reply)
}

// Deactivate implements Census.
func (q questions) Deactivate(ctx context.Context, ref object.Ref, force bool) (bool, error) {
	reply := new(goverse_pb.DeactivateReply)
	if err := q.road.ask(ctx, goverse_pb.PeerService_Deactivate_FullMethodName, serveDeactivateFrame, &goverse_pb.DeactivateRequest{Type: ref.Type, Id: ref.ID, Force: force}, reply); err != nil {
		return false, err
	}
	return reply.WasLive, faultOf(reply.Fault)
}

// Report implements Census.
func (q questions) Report(ctx context.Context, g GateSurvey) (bool, error) {
	reply := new(goverse_pb.ReportReply)
	if err := q.road.ask(ctx, goverse_pb.PeerService_Report_FullMethodName, serveReportFrame, encodeGate(&g), reply); err != nil {
		return false, err
	}
	return reply.Watched, faultOf(reply.Fault)
}

// ask implements questions' road.
func (c *grpcConn) ask(ctx context.Context, method string, _ answering, question, reply proto.Message) error {
	frame, err := encodeQuery(question)
	if err != nil {
		return err
	}
	return c.invoke(ctx, method, frame, reply)
}

// ask implements questions' road.
func (c *memConn) ask(ctx context.Context, _ string, serve answering, question, reply proto.Message) error {
	frame, err := encodeQuery(question)
	if err != nil {
		return err
	}
	return c.exchange(ctx, frame, serve, reply)
}

func (s *grpcService) Survey(ctx context.Context, _ *goverse_pb.SurveyRequest) (*goverse_pb.SurveyReply, error) {
	return serveSurvey(ctx, s.svc), nil
}

func (s *grpcService) LiveObjects(ctx context.Context, m *goverse_pb.LiveObjectsRequest) (*goverse_pb.LiveObjectsReply, error) {
	return serveLive(ctx, s.svc, m), nil
}

func (s *grpcService) Look(ctx context.Context, m *goverse_pb.LookRequest) (*goverse_pb.LookReply, error) {
	return serveLook(ctx, s.svc, m), nil
}

func (s *grpcService) Deactivate(ctx context.Context, m *goverse_pb.DeactivateRequest) (*goverse_pb.DeactivateReply, error) {
	return serveDeactivate(ctx, s.svc, m), nil
}

func (s *grpcService) Report(ctx context.Context, m *goverse_pb.GateSurvey) (*goverse_pb.ReportReply, error) {
	return serveReport(ctx, s.svc, m), nil
}

func serveSurveyFrame(ctx context.Context, svc Service, frame []byte) proto.Message {
	arrived(frame, new(goverse_pb.SurveyRequest))
	return serveSurvey(ctx, svc)
}

func serveLiveFrame(ctx context.Context, svc Service, frame []byte) proto.Message {
	return serveLive(ctx, svc, arrived(frame, new(goverse_pb.LiveObjectsRequest)))
}

func serveLookFrame(ctx context.Context, svc Service, frame []byte) proto.Message {
	return serveLook(ctx, svc, arrived(frame, new(goverse_pb.LookRequest)))
}

func serveDeactivateFrame(ctx context.Context, svc Service, frame []byte) proto.Message {
	return serveDeactivate(ctx, svc, arrived(frame, new(goverse_pb.DeactivateRequest)))
}

func serveReportFrame(ctx context.Context, svc Service, frame []byte) proto.Message {
	return serveReport(ctx, svc, arrived(frame, new(goverse_pb.GateSurvey)))
}

// serveSurvey answers a question that came in.
func serveSurvey(ctx context.Context, svc Service) *goverse_pb.SurveyReply {
	s, err := svc.Survey(ctx)
	if err != nil {
		return &goverse_pb.SurveyReply{Fault: encodeFault(err)}
	}
	reply := &goverse_pb.SurveyReply{Since: s.Since, AgeNanos: int64(s.Age), Objects: s.Objects, Executions: s.Executions, Commits: s.Commits, UnixNanos: nanos(s.Now)}
	for i := range s.Types {
		reply.Types = append(reply.Types, encodeType(&s.Types[i]))
	}
	for _, e := range s.Edges {
		reply.Edges = append(reply.Edges, &goverse_pb.EdgeSurvey{From: e.From, To: e.To, Calls: e.Calls})
	}
	for _, o := range s.Top {
		reply.Top = append(reply.Top, &goverse_pb.ObjectSurvey{Type: o.Ref.Type, Id: o.Ref.ID, Calls: o.Calls, Excess: o.Excess})
	}
	for i := range s.Gates {
		reply.Gates = append(reply.Gates, encodeGate(&s.Gates[i]))
	}
	if err := carried(reply, "the answer"); err != nil {
		return &goverse_pb.SurveyReply{Fault: encodeFault(err)}
	}
	return reply
}

func encodeType(t *TypeSurvey) *goverse_pb.TypeSurvey {
	m := &goverse_pb.TypeSurvey{Type: t.Type, Objects: t.Objects, Queued: t.Queued, Activations: t.Activations, Calls: t.Calls, Errors: t.Errors}
	for _, b := range t.Latency {
		m.LatencyNanos, m.LatencyCalls = append(m.LatencyNanos, int64(b.UpTo)), append(m.LatencyCalls, b.Calls)
	}
	return m
}

func encodeGate(g *GateSurvey) *goverse_pb.GateSurvey {
	return &goverse_pb.GateSurvey{Address: g.Address, Since: g.Since, AgeNanos: int64(g.Age), Clients: g.Clients, Calls: g.Calls, Pushes: g.Pushes, AgoNanos: int64(g.Ago), UnixNanos: nanos(g.Now)}
}

func decodeGate(m *goverse_pb.GateSurvey) GateSurvey {
	return GateSurvey{Address: m.GetAddress(), Since: m.GetSince(), Age: time.Duration(m.GetAgeNanos()), Clients: m.GetClients(), Calls: m.GetCalls(), Pushes: m.GetPushes(), Ago: time.Duration(m.GetAgoNanos()), Now: moment(m.GetUnixNanos())}
}

func decodeSurvey(m *goverse_pb.SurveyReply) (*Survey, error) {
	if m.Fault != nil {
		return nil, fault.FromWire(m.Fault)
	}
	s := &Survey{Since: m.Since, Age: time.Duration(m.AgeNanos), Objects: m.Objects, Executions: m.Executions, Commits: m.Commits, Now: moment(m.UnixNanos)}
	for _, t := range m.Types {
		one := TypeSurvey{Type: t.GetType(), Objects: t.GetObjects(), Queued: t.GetQueued(), Activations: t.GetActivations(), Calls: t.GetCalls(), Errors: t.GetErrors()}
		for i, calls := range t.GetLatencyCalls() {
			if i < len(t.LatencyNanos) {
				one.Latency = append(one.Latency, Bucket{time.Duration(t.LatencyNanos[i]), calls})
			}
		}
		s.Types = append(s.Types, one)
	}
	for _, e := range m.Edges {
		s.Edges = append(s.Edges, EdgeSurvey{From: e.GetFrom(), To: e.GetTo(), Calls: e.GetCalls()})
	}
	for _, o := range m.Top {
		s.Top = append(s.Top, ObjectSurvey{Ref: object.Ref{Type: o.GetType(), ID: o.GetId()}, Calls: o.GetCalls(), Excess: o.GetExcess()})
	}
	for _, g := range m.Gates {
		s.Gates = append(s.Gates, decodeGate(g))
	}
	return s, nil
}

// serveLive answers a question for a page that came in.
func serveLive(ctx context.Context, svc Service, m *goverse_pb.LiveObjectsRequest) *goverse_pb.LiveObjectsReply {
	list, err := svc.LiveObjects(ctx, LiveQuery{Type: m.Type, Prefix: m.Prefix, After: object.Ref{Type: m.AfterType, ID: m.AfterId}, Limit: int(m.Limit)})
	if err != nil {
		return &goverse_pb.LiveObjectsReply{Fault: encodeFault(err)}
	}
	reply := &goverse_pb.LiveObjectsReply{Objects: make([]*goverse_pb.LiveObject, len(list))}
	for i, o := range list {
		reply.Objects[i] = &goverse_pb.LiveObject{Type: o.Ref.Type, Id: o.Ref.ID, Shard: uint32(o.Shard), LastUsedUnixNanos: nanos(o.LastUsed), Queued: int64(o.Queued)}
	}
	if err := carried(reply, "the answer"); err != nil {
		return &goverse_pb.LiveObjectsReply{Fault: encodeFault(err)}
	}
	return reply
}

func decodeLive(m *goverse_pb.LiveObjectsReply) ([]LiveObject, error) {
	if m.Fault != nil {
		return nil, fault.FromWire(m.Fault)
	}
	list := make([]LiveObject, len(m.Objects))
	for i, o := range m.Objects {
		list[i] = LiveObject{Ref: object.Ref{Type: o.GetType(), ID: o.GetId()}, Shard: int(o.GetShard()), LastUsed: moment(o.GetLastUsedUnixNanos()), Queued: int(o.GetQueued())}
	}
	return list, nil
}

// serveLook answers a question for an object that came in.
func serveLook(ctx context.Context, svc Service, m *goverse_pb.LookRequest) *goverse_pb.LookReply {
	s, err := svc.Look(ctx, object.Ref{Type: m.Type, ID: m.Id}, m.State)
	if err != nil {
		return &goverse_pb.LookReply{Fault: encodeFault(err)}
	}
	reply := &goverse_pb.LookReply{
		Live: s.Live, Phase: s.Phase, Shard: uint32(s.Shard), Pinned: s.Pinned, Epoch: s.Epoch, Version: s.Version, Unsaved: s.Unsaved,
		Mode: s.Mode, Durability: s.Durability, CreatedUnixNanos: nanos(s.Created), LastUsedUnixNanos: nanos(s.LastUsed),
		Running: encodeLooked(s.Running), Queue: encodeLooked(s.Queue), Queued: int64(s.Queued), Recent: encodeLooked(s.Recent),
		State: s.State, Hidden: s.Hidden, NoState: s.NoState,
	}
	if err := carried(reply, "the answer"); err != nil {
		return &goverse_pb.LookReply{Fault: encodeFault(err)}
	}
	return reply
}

func decodeSight(m *goverse_pb.LookReply) (*Sight, error) {
	if m.Fault != nil {
		return nil, fault.FromWire(m.Fault)
	}
	return &Sight{
		Live: m.Live, Phase: m.Phase, Shard: int(m.Shard), Pinned: m.Pinned, Epoch: m.Epoch, Version: m.Version, Unsaved: m.Unsaved,
		Mode: m.Mode, Durability: m.Durability, Created: moment(m.CreatedUnixNanos), LastUsed: moment(m.LastUsedUnixNanos),
		Running: decodeLooked(m.Running), Queue: decodeLooked(m.Queue), Queued: int(m.Queued), Recent: decodeLooked(m.Recent),
		State: m.State, Hidden: m.Hidden, NoState: m.NoState,
	}, nil
}

func encodeLooked(list []LookedCall) (ms []*goverse_pb.LookedCall) {
	for _, c := range list {
		ms = append(ms, &goverse_pb.LookedCall{Method: c.Method, Caller: c.Caller, AtUnixNanos: nanos(c.At), TookNanos: int64(c.Took), Outcome: c.Outcome})
	}
	return ms
}

func decodeLooked(ms []*goverse_pb.LookedCall) (list []LookedCall) {
	for _, m := range ms {
		list = append(list, LookedCall{Method: m.GetMethod(), Caller: m.GetCaller(), At: moment(m.GetAtUnixNanos()), Took: time.Duration(m.GetTookNanos()), Outcome: m.GetOutcome()})
	}
	return list
}

// serveDeactivate carries out an order that came in.
func serveDeactivate(ctx context.Context, svc Service, m *goverse_pb.DeactivateRequest) *goverse_pb.DeactivateReply {
	was, err := svc.Deactivate(ctx, object.Ref{Type: m.Type, ID: m.Id}, m.Force)
	if err != nil {
		return &goverse_pb.DeactivateReply{Fault: encodeFault(err)}
	}
	return &goverse_pb.DeactivateReply{WasLive: was}
}

// serveReport takes in a gate's report.
func serveReport(ctx context.Context, svc Service, m *goverse_pb.GateSurvey) *goverse_pb.ReportReply {
	watched, err := svc.Report(ctx, decodeGate(m))
	if err != nil {
		return &goverse_pb.ReportReply{Fault: encodeFault(err)}
	}
	return &goverse_pb.ReportReply{Watched: watched}
}

// Survey implements Census.
func (l *loopback) Survey(ctx context.Context) (*Survey, error) {
	if l.ctx.Err() != nil {
		return nil, closed()
	}
	return l.svc.Survey(ctx)
}

// LiveObjects implements Census.
func (l *loopback) LiveObjects(ctx context.Context, q LiveQuery) ([]LiveObject, error) {
	if l.ctx.Err() != nil {
		return nil, closed()
	}
	return l.svc.LiveObjects(ctx, q)
}

// Look implements Census.
func (l *loopback) Look(ctx context.Context, ref object.Ref, state bool) (*Sight, error) {
	if l.ctx.Err() != nil {
		return nil, closed()
	}
	return l.svc.Look(ctx, ref, state)
}

// Deactivate implements Census.
func (l *loopback) Deactivate(ctx context.Context, ref object.Ref, force bool) (bool, error) {
	if l.ctx.Err() != nil {
		return false, closed()
	}
	return l.svc.Deactivate(ctx, ref, force)
}

// Report implements Census.
func (l *loopback) Report(ctx context.Context, g GateSurvey) (bool, error) {
	if l.ctx.Err() != nil {
		return false, closed()
	}
	return l.svc.Report(ctx, g)
}
