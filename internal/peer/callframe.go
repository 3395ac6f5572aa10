package peer

import (
	"context"
	"encoding/binary"
	"errors"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/xiaonanln/goverse/internal/callctx"
	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/object"
)

// The flags of a call's head. See docs/format/wire.md.
const (
	flagReadOnly = 1 << iota
	flagIDIfKept
	flagCaller
	flagChain
	flagRelay
	flagTrace
	flagsKnown = 1<<iota - 1
)

// The flags of a caller and of a turn.
const (
	callerIsClient = 1
	turnIsShared   = 1
)

// headLength is the width of a head's length, which stands before it.
const headLength = 4

// appendCall appends a call's body: a head, and the payload's bytes. What cannot be
// sent was not executed.
func appendCall(ctx context.Context, b []byte, req *Request) ([]byte, error) {
	info := callctx.From(ctx)
	start := len(b)
	w := headWriter{b: append(b, 0, 0, 0, 0)}
	w.bytes(byte(req.Op), flagsOf(req, info), byte(wireForm(req.Payload)))
	if deadline, ok := ctx.Deadline(); ok {
		remaining := time.Until(deadline)
		if remaining <= 0 {
			return b, fault.WaitedFor(context.DeadlineExceeded, "before the call left")
		}
		w.number(uint64(max(1, remaining.Microseconds())))
	} else {
		w.number(0)
	}
	w.number(uint64(req.Shard))
	w.number(req.Epoch)
	w.number(uint64(req.Hops))
	w.texts(req.Ref.Type, req.Ref.ID, req.Method, req.ID)
	if req.Relay != "" {
		w.texts(req.Relay)
	}
	w.caller(&info.Caller)
	w.chain(&info.Chain)
	w.trace(info.Trace)
	w.typeURL(req.Payload)
	if w.notUTF8 {
		return b, fault.New(fault.Invalid, "the call cannot be sent: its ids, names or caller are not valid UTF-8")
	}
	head := len(w.b) - start - headLength
	binary.LittleEndian.PutUint32(w.b[start:], uint32(head))
	out, err := appendValue(w.b, req.Payload)
	if err != nil {
		return b, err.With(fault.NotExecuted)
	}
	if len(out)-start > maxMessage {
		return b, fault.New(fault.TooLarge, "what surrounds the payload (caller, chain of %d turns, ids) has %d bytes, at most %d are carried",
			len(info.Chain.Path), head, maxMessage-(len(out)-start-head))
	}
	return out, nil
}

func flagsOf(req *Request, info *callctx.Info) (flags byte) {
	set := func(flag byte, on bool) {
		if on {
			flags |= flag
		}
	}
	set(flagReadOnly, req.ReadOnly)
	set(flagIDIfKept, req.IDIfKept)
	set(flagCaller, !anonymous(&info.Caller))
	set(flagChain, info.Chain.ID != callctx.ChainID{})
	set(flagRelay, req.Relay != "")
	set(flagTrace, info.Trace.Valid())
	return flags
}

func anonymous(c *callctx.Caller) bool {
	return c.ClientID == "" && c.UserID == "" && len(c.Roles) == 0 && !c.Client
}

// The forms of a payload on the wire.
const (
	wireNone byte = iota
	wireBinary
	wireJSON
)

func wireForm(p object.Payload) byte {
	switch {
	case p.Form == object.FormJSON:
		return wireJSON
	case p.Form == object.FormBinary && p.Binary == nil, p.Form == object.FormMessage && p.Message == nil:
		return wireNone
	default:
		return wireBinary
	}
}

// headWriter appends the fields of a head.
type headWriter struct {
	b       []byte
	notUTF8 bool // a text that no reader would take
}

func (w *headWriter) bytes(b ...byte) { w.b = append(w.b, b...) }
func (w *headWriter) number(v uint64) { w.b = binary.AppendUvarint(w.b, v) }

func (w *headWriter) texts(all ...string) {
	for _, s := range all {
		w.notUTF8 = w.notUTF8 || !utf8.ValidString(s)
		w.number(uint64(len(s)))
		w.b = append(w.b, s...)
	}
}

func (w *headWriter) caller(c *callctx.Caller) {
	if anonymous(c) {
		return
	}
	flags := byte(0)
	if c.Client {
		flags = callerIsClient
	}
	w.bytes(flags)
	w.texts(c.ClientID, c.UserID)
	w.number(uint64(len(c.Roles)))
	w.texts(c.Roles...)
}

func (w *headWriter) chain(c *callctx.Chain) {
	if c.ID == (callctx.ChainID{}) {
		return
	}
	w.b = append(w.b, c.ID[:]...)
	w.number(uint64(len(c.Path)))
	for i := range c.Path {
		t := &c.Path[i]
		flags := byte(0)
		if t.Shared {
			flags = turnIsShared
		}
		w.bytes(flags)
		w.texts(t.Type, t.ID, t.Method)
		w.number(uint64(t.Shard))
		w.number(t.Epoch)
	}
}

const typeURLPrefix = "type.googleapis.com/"

func (w *headWriter) typeURL(p object.Payload) {
	switch {
	case wireForm(p) != wireBinary:
	case p.Form == object.FormBinary:
		w.texts(p.Binary.GetTypeUrl())
	default:
		name := p.Message.ProtoReflect().Descriptor().FullName()
		w.number(uint64(len(typeURLPrefix) + len(name)))
		w.b = append(append(w.b, typeURLPrefix...), name...)
	}
}

// appendValue appends a payload's bytes. Whether the call ran is for its caller to say.
func appendValue(b []byte, p object.Payload) ([]byte, *fault.Error) {
	out := b
	switch p.Form {
	case object.FormJSON:
		out = append(b, p.JSON...)
	case object.FormBinary:
		out = append(b, p.Binary.GetValue()...)
	default:
		if p.Message == nil {
			return b, nil
		}
		var err error
		if out, err = (proto.MarshalOptions{}).MarshalAppend(b, p.Message); err != nil {
			return b, fault.New(fault.Invalid, "a %s cannot be marshalled: %w", p.Message.ProtoReflect().Descriptor().FullName(), err)
		}
	}
	if size := len(out) - len(b); size > MaxPayload {
		return b, fault.New(fault.TooLarge, "the message has %d bytes, at most %d are carried", size, MaxPayload)
	}
	return out, nil
}

// headReader takes the fields of a head off one string, whose parts they become.
type headReader struct {
	rest string
	err  error // of the first field that was not there
}

var errHead = errors.New("a head is cut off, or says something that this version does not know")

func (r *headReader) fail() { r.rest, r.err = "", errHead }

func (r *headReader) byte(known byte) byte {
	if len(r.rest) == 0 || r.rest[0]&^known != 0 {
		r.fail()
		return 0
	}
	b := r.rest[0]
	r.rest = r.rest[1:]
	return b
}

func (r *headReader) number() (v uint64) {
	for shift := 0; shift < 64 && shift/7 < len(r.rest); shift += 7 {
		b := r.rest[shift/7]
		if shift == 63 && b > 1 {
			break
		}
		if v |= uint64(b&0x7f) << shift; b < 0x80 {
			r.rest = r.rest[shift/7+1:]
			return v
		}
	}
	r.fail()
	return 0
}

// small is a number that fits an int of any machine.
func (r *headReader) small() int {
	v := r.number()
	if v > 1<<31-1 {
		r.fail()
		return 0
	}
	return int(v)
}

// count is how many of something follow, each of them at least width bytes long.
func (r *headReader) count(width int) int {
	n := r.small()
	if n > len(r.rest)/width {
		r.fail()
		return 0
	}
	return n
}

func (r *headReader) raw(n int) string {
	if n > len(r.rest) {
		r.fail()
		return ""
	}
	s := r.rest[:n]
	r.rest = r.rest[n:]
	return s
}

func (r *headReader) text() string {
	s := r.raw(r.small())
	if !utf8.ValidString(s) {
		r.fail()
		return ""
	}
	return s
}

// parseCall reads a call's body. Nothing of what it fills in is a view of body.
func parseCall(body []byte, req *Request, info *callctx.Info) (timeout time.Duration, err error) {
	if len(body) < headLength {
		return 0, errHead
	}
	head := binary.LittleEndian.Uint32(body)
	if body = body[headLength:]; uint64(head) > uint64(len(body)) {
		return 0, errHead
	}
	r := headReader{rest: string(body[:head])}
	req.Op = object.Op(r.byte(0xff))
	flags := r.byte(flagsKnown)
	form := r.byte(0xff)
	timeout = micros(int64(min(r.number(), 1<<63-1)))
	req.Shard, req.Epoch, req.Hops = r.small(), r.number(), r.small()
	req.Ref.Type, req.Ref.ID, req.Method, req.ID = r.text(), r.text(), r.text(), r.text()
	req.ReadOnly, req.IDIfKept = flags&flagReadOnly != 0, flags&flagIDIfKept != 0
	if flags&flagRelay != 0 {
		req.Relay = r.text()
	}
	if flags&flagCaller != 0 {
		r.caller(&info.Caller)
	}
	if flags&flagChain != 0 {
		r.chain(&info.Chain)
	}
	if flags&flagTrace != 0 {
		info.Trace = r.trace()
	}
	info.CallID = req.ID
	req.Payload = r.payload(form, body[head:])
	if r.err == nil && (r.rest != "" || req.Op > object.OpSettle) {
		r.fail()
	}
	return timeout, r.err
}

func (r *headReader) caller(c *callctx.Caller) {
	c.Client = r.byte(callerIsClient) != 0
	c.ClientID, c.UserID = r.text(), r.text()
	if n := r.count(1); n > 0 {
		c.Roles = make([]string, n)
	}
	for i := range c.Roles {
		c.Roles[i] = r.text()
	}
}

func (r *headReader) chain(c *callctx.Chain) {
	copy(c.ID[:], r.raw(len(c.ID)))
	if n := r.count(6); n > 0 {
		c.Path = make([]callctx.Turn, n)
	}
	for i := range c.Path {
		t := &c.Path[i]
		t.Shared = r.byte(turnIsShared) != 0
		t.Type, t.ID, t.Method = r.text(), r.text(), r.text()
		t.Shard, t.Epoch = r.small(), r.number()
	}
}

func (r *headReader) payload(form byte, value []byte) object.Payload {
	switch form {
	case wireBinary:
		return object.OfBinary(&anypb.Any{TypeUrl: r.text(), Value: append([]byte(nil), value...)})
	case wireJSON:
		return object.OfJSON(append([]byte(nil), value...))
	case wireNone:
		if len(value) == 0 {
			return object.Payload{}
		}
	}
	r.fail()
	return object.Payload{}
}
