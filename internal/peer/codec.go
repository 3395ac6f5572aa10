package peer

import (
	"context"
	"math"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/xiaonanln/goverse/internal/callctx"
	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/object"
	goverse_pb "github.com/xiaonanln/goverse/proto"
)

// MaxPayload is the size of the largest message that crosses between processes, in
// any form. A bigger one is TooLarge. A push in JSON may have three times that,
// because the same message is longer there.
const MaxPayload = 4 << 20

// What may surround a payload: ids, the caller, the chain, a push's addressees.
const maxEnvelope = 1 << 20

const (
	maxMessage = MaxPayload + maxEnvelope
	maxFrame   = MaxPayload + 3*MaxPayload + maxEnvelope
)

// encodeRequest is a call as it leaves this process. What cannot be sent was not
// executed.
func encodeRequest(ctx context.Context, req *Request) ([]byte, error) {
	payload, err := encodePayload(req.Payload)
	if err != nil {
		return nil, err.With(fault.NotExecuted)
	}
	info := callctx.From(ctx)
	m := &goverse_pb.CallRequest{
		Op: goverse_pb.Op(req.Op) + goverse_pb.Op_OP_CALL, Type: req.Ref.Type, Id: req.Ref.ID, Method: req.Method,
		CallId: req.ID, Payload: payload, ReadOnly: req.ReadOnly,
		Caller: EncodeCaller(&info.Caller), Chain: encodeChain(&info.Chain),
		Shard: uint32(req.Shard), Epoch: req.Epoch, Hops: uint32(req.Hops), Relay: req.Relay, CallIdIfKept: req.IDIfKept, Trace: EncodeTrace(info.Trace),
	}
	if deadline, ok := ctx.Deadline(); ok {
		remaining := time.Until(deadline)
		if remaining <= 0 {
			return nil, fault.WaitedFor(context.DeadlineExceeded, "before the call left")
		}
		m.TimeoutMicros = max(1, remaining.Microseconds())
	}
	frame, failed := proto.Marshal(m)
	switch {
	case failed != nil:
		return nil, fault.New(fault.Invalid, "the call cannot be sent: %w", failed)
	case len(frame) > maxMessage:
		return nil, fault.New(fault.TooLarge, "what surrounds the payload (caller, chain of %d turns, ids) has %d bytes, at most %d are carried",
			len(info.Chain.Path), len(frame)-payloadSize(payload), maxMessage-payloadSize(payload))
	}
	return frame, nil
}

// encodePayload refuses what is too large or cannot be marshalled; whether the call
// ran is for its caller to say.
func encodePayload(p object.Payload) (*goverse_pb.Payload, *fault.Error) {
	out := new(goverse_pb.Payload)
	switch p.Form {
	case object.FormJSON:
		out.Form = &goverse_pb.Payload_Json{Json: p.JSON}
	case object.FormBinary:
		if p.Binary == nil {
			return nil, nil
		}
		out.Form = &goverse_pb.Payload_Binary{Binary: p.Binary}
	default:
		if p.Message == nil {
			return nil, nil
		}
		binary, err := anypb.New(p.Message)
		if err != nil {
			return nil, fault.New(fault.Invalid, "a %s cannot be marshalled: %w", p.Message.ProtoReflect().Descriptor().FullName(), err)
		}
		out.Form = &goverse_pb.Payload_Binary{Binary: binary}
	}
	if size := payloadSize(out); size > MaxPayload {
		return nil, fault.New(fault.TooLarge, "the message has %d bytes, at most %d are carried", size, MaxPayload)
	}
	return out, nil
}

func payloadSize(p *goverse_pb.Payload) int {
	return len(p.GetBinary().GetValue()) + len(p.GetJson())
}

// EncodeCaller is who asked, on the wire and in a store.
func EncodeCaller(c *callctx.Caller) *goverse_pb.Caller {
	if c.ClientID == "" && c.UserID == "" && len(c.Roles) == 0 && !c.Client {
		return nil
	}
	return &goverse_pb.Caller{ClientId: c.ClientID, UserId: c.UserID, Roles: c.Roles, Client: c.Client}
}

// DecodeCaller is what EncodeCaller was given.
func DecodeCaller(m *goverse_pb.Caller) callctx.Caller {
	return callctx.Caller{ClientID: m.GetClientId(), UserID: m.GetUserId(), Roles: m.GetRoles(), Client: m.GetClient()}
}

func encodeChain(c *callctx.Chain) *goverse_pb.Chain {
	if c.ID == (callctx.ChainID{}) {
		return nil
	}
	out := &goverse_pb.Chain{Id: c.ID[:], Path: make([]*goverse_pb.Turn, len(c.Path))}
	for i, t := range c.Path {
		out.Path[i] = &goverse_pb.Turn{Type: t.Type, Id: t.ID, Method: t.Method, Shard: uint32(t.Shard), Epoch: t.Epoch, Shared: t.Shared}
	}
	return out
}

// serve answers a call that came in. ctx ends when its caller is gone; it carries
// nothing of the caller's but what m says.
func serve(ctx context.Context, svc Service, m *goverse_pb.CallRequest) *goverse_pb.CallReply {
	req, info, err := decodeRequest(m)
	if err != nil {
		return &goverse_pb.CallReply{Fault: fault.ToWire(err)}
	}
	if _, set := ctx.Deadline(); m.TimeoutMicros > 0 && !set {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, micros(m.TimeoutMicros))
		defer cancel()
	}
	return encodeReply(svc.ServeCall(callctx.With(ctx, info), req))
}

func micros(n int64) time.Duration {
	return time.Duration(min(n, math.MaxInt64/int64(time.Microsecond))) * time.Microsecond
}

func decodeRequest(m *goverse_pb.CallRequest) (*Request, *callctx.Info, error) {
	if m.Op < goverse_pb.Op_OP_CALL || m.Op > goverse_pb.Op_OP_SETTLE {
		return nil, nil, fault.New(fault.Invalid, "operation %d is unknown here: is the sender of a newer version?", m.Op)
	}
	chain, err := decodeChain(m.Chain)
	if err != nil {
		return nil, nil, err
	}
	info := &callctx.Info{CallID: m.CallId, Chain: chain, Caller: DecodeCaller(m.Caller), Trace: DecodeTrace(m.Trace)}
	return &Request{
		Call: object.Call{
			Op: object.Op(m.Op - goverse_pb.Op_OP_CALL), Ref: object.Ref{Type: m.Type, ID: m.Id}, Method: m.Method,
			ID: m.CallId, IDIfKept: m.CallIdIfKept, Payload: decodePayload(m.Payload), ReadOnly: m.ReadOnly,
		},
		Shard: int(m.Shard), Epoch: m.Epoch, Hops: int(m.Hops), Relay: m.Relay,
	}, info, nil
}

func decodeChain(m *goverse_pb.Chain) (callctx.Chain, error) {
	var c callctx.Chain
	if m == nil {
		return c, nil
	}
	if len(m.Id) != len(c.ID) {
		return c, fault.New(fault.Invalid, "a chain's id has %d bytes, not %d", len(m.Id), len(c.ID))
	}
	copy(c.ID[:], m.Id)
	if len(m.Path) > 0 {
		c.Path = make([]callctx.Turn, len(m.Path))
	}
	for i, t := range m.Path {
		c.Path[i] = callctx.Turn{Type: t.Type, ID: t.Id, Method: t.Method, Shard: int(t.Shard), Epoch: t.Epoch, Shared: t.Shared}
	}
	return c, nil
}

func decodePayload(m *goverse_pb.Payload) object.Payload {
	switch form := m.GetForm().(type) {
	case *goverse_pb.Payload_Json:
		return object.OfJSON(form.Json)
	case *goverse_pb.Payload_Binary:
		return object.OfBinary(form.Binary)
	default:
		return object.Payload{}
	}
}

// encodeReply makes a reply that surely fits and marshals.
func encodeReply(p object.Payload, err error) *goverse_pb.CallReply {
	if err != nil {
		return &goverse_pb.CallReply{Fault: encodeFault(err), Replayed: p.Replayed, Unsaved: p.Unsaved}
	}
	payload, failed := encodePayload(p)
	if failed != nil {
		return &goverse_pb.CallReply{Fault: encodeFault(failed.On("reply", "").With(fault.Executed)), Replayed: p.Replayed, Unsaved: p.Unsaved}
	}
	return &goverse_pb.CallReply{Payload: payload, Replayed: p.Replayed, Unsaved: p.Unsaved}
}

// maxFault bounds an error: a text that long is for nobody.
const maxFault = 64 << 10

// encodeFault is err on the wire: its kind and outcome arrive, whatever a user's
// code put into its texts.
func encodeFault(err error) *goverse_pb.Fault {
	f := fault.ToWire(err)
	for _, text := range []*string{&f.Op, &f.Subject, &f.Message, &f.Holder} {
		*text = bounded(*text)
	}
	if proto.Size(f) > 4*maxFault { // a status with huge details, a path without end
		f.Status = nil
		f.Path = f.Path[:min(len(f.Path), 64)]
	}
	path := make([]string, len(f.Path))
	for i, step := range f.Path {
		path[i] = bounded(step)
	}
	f.Path = path
	return f
}

func bounded(text string) string {
	if len(text) > maxFault {
		text = text[:maxFault] + "…"
	}
	return strings.ToValidUTF8(text, "\uFFFD")
}

// decodeReply is a reply in the form that the caller asked in: one that gave a live
// message gets a live message.
func decodeReply(asked object.Form, m *goverse_pb.CallReply) (object.Payload, error) {
	if m.Fault != nil {
		return object.Payload{Replayed: m.Replayed, Unsaved: m.Unsaved}, fault.FromWire(m.Fault)
	}
	p := decodePayload(m.Payload)
	p.Replayed, p.Unsaved = m.Replayed, m.Unsaved
	if asked != object.FormMessage || p.Form != object.FormBinary {
		return p, nil
	}
	message, err := p.Binary.UnmarshalNew()
	if err != nil {
		return object.Payload{}, fault.New(fault.Failed,
			"the reply is a %s, which this program cannot read (does it import that message's package?): %w", p.Binary.GetTypeUrl(), err)
	}
	return object.Payload{Message: message, Replayed: m.Replayed, Unsaved: m.Unsaved}, nil
}

// encodePush is a push in frames that fit: one, unless it has very many addressees. One
// with a number has been split by SplitPush.
func encodePush(f PushFrame) ([]*goverse_pb.PushFrame, error) {
	if size := len(f.Message.GetValue()); size > MaxPayload || len(f.JSON) > 3*MaxPayload {
		return nil, fault.New(fault.TooLarge, "the push has %d bytes and %d in JSON, at most %d and %d are carried",
			size, len(f.JSON), MaxPayload, 3*MaxPayload)
	}
	frame := func(ids []string) *goverse_pb.PushFrame {
		return &goverse_pb.PushFrame{ClientIds: ids, Broadcast: f.Broadcast, Message: f.Message, Json: f.JSON,
			Seq: f.Seq, Slow: uint32(f.Slow), Key: f.Key, Gap: f.Gap, Change: encodeChange(f.Change)}
	}
	if f.Broadcast || f.Change != nil || f.Gap && len(f.ClientIDs) == 0 {
		return []*goverse_pb.PushFrame{frame(nil)}, nil
	}
	var frames []*goverse_pb.PushFrame
	for _, ids := range splitIDs(f.ClientIDs) {
		frames = append(frames, frame(ids))
	}
	return frames, nil
}

// SplitPush is a push as pushes that take one frame each. A push that is too large for any
// is an error.
func SplitPush(f PushFrame) ([]PushFrame, error) {
	if _, err := encodePush(PushFrame{Broadcast: true, Message: f.Message, JSON: f.JSON}); err != nil {
		return nil, err
	}
	if f.Broadcast {
		return []PushFrame{f}, nil
	}
	var frames []PushFrame
	for _, ids := range splitIDs(f.ClientIDs) {
		one := f
		one.ClientIDs = ids
		frames = append(frames, one)
	}
	return frames, nil
}

// splitIDs leaves out what no session is called.
func splitIDs(all []string) (parts [][]string) {
	var ids []string
	size := 0
	for _, id := range all {
		if len(id) > maxFault || strings.ToValidUTF8(id, "") != id {
			continue
		}
		if size += len(id) + 8; size > maxEnvelope/2 {
			parts, ids, size = append(parts, ids), nil, len(id)+8
		}
		ids = append(ids, id)
	}
	if len(ids) > 0 {
		parts = append(parts, ids)
	}
	return parts
}

func decodePush(m *goverse_pb.PushFrame) PushFrame {
	return PushFrame{ClientIDs: m.ClientIds, Broadcast: m.Broadcast, Message: m.Message, JSON: m.Json,
		Seq: m.Seq, Slow: Slow(min(m.Slow, math.MaxUint8)), Key: m.Key, Gap: m.Gap, Change: decodeChange(m.Change)}
}

func encodeOpening(o Opening) *goverse_pb.PushFrame {
	return &goverse_pb.PushFrame{Queue: o.Queue, Seq: o.Last, Gap: o.Lost}
}

func decodeOpening(m *goverse_pb.PushFrame) Opening {
	return Opening{Queue: m.Queue, Last: m.Seq, Lost: m.Gap}
}

// isReady recognises the first frame of a stream of pushes.
func isReady(m *goverse_pb.PushFrame) bool {
	return len(m.ClientIds) == 0 && !m.Broadcast && m.Message == nil && len(m.Json) == 0 && m.Change == nil
}
