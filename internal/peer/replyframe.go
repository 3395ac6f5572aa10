package peer

import (
	"encoding/binary"
	"errors"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/object"
	goverse_pb "github.com/xiaonanln/goverse/proto"
)

// The first byte of a reply is a payload's form, or that the call failed, and whether
// an earlier attempt began the run that is answered, and whether not all of what the
// answer tells is stored yet: this with featureUnsaved.
const (
	replyFault    = 3
	replyUnsaved  = 0x40
	replyReplayed = 0x80
)

// appendReply appends a reply's body, which surely fits and marshals.
func appendReply(b []byte, p object.Payload, err error) []byte {
	first := byte(0)
	if p.Replayed {
		first = replyReplayed
	}
	if p.Unsaved {
		first |= replyUnsaved
	}
	if err != nil {
		return appendFault(b, first, err)
	}
	w := headWriter{b: append(b, first|wireForm(p))}
	w.typeURL(p)
	if w.notUTF8 {
		return appendFault(b, first, fault.New(fault.Invalid, "the type URL is not valid UTF-8").On("reply", "").With(fault.Executed))
	}
	out, failed := appendValue(w.b, p)
	if failed != nil {
		return appendFault(b, first, failed.On("reply", "").With(fault.Executed))
	}
	return out
}

func appendFault(b []byte, first byte, err error) []byte {
	out, failed := (proto.MarshalOptions{}).MarshalAppend(append(b, first|replyFault), encodeFault(err))
	if failed != nil {
		panic("peer: a fault that cannot be marshalled: " + failed.Error())
	}
	return out
}

// errReply is what a reply's body that nobody can read is.
var errReply = errors.New("a reply that cannot be read")

// parseReply reads a reply's body into the form that the caller asked in: one that
// gave a live message gets a live message. Nothing of it is a view of body. broken is
// the peer's mistake, err the call's failure.
func parseReply(asked object.Form, body []byte) (p object.Payload, err, broken error) {
	if len(body) == 0 {
		return p, nil, errReply
	}
	form := body[0] &^ (replyReplayed | replyUnsaved)
	switch form {
	case replyFault:
		err, broken = parseFault(body[1:])
	case wireBinary:
		p, err, broken = parseMessage(asked, body[1:])
	default:
		r := headReader{}
		if p = r.payload(form, body[1:]); r.err != nil {
			broken = errReply
		}
	}
	p.Replayed, p.Unsaved = body[0]&replyReplayed != 0, body[0]&replyUnsaved != 0
	return p, err, broken
}

func parseFault(b []byte) (err, broken error) {
	f := new(goverse_pb.Fault)
	if proto.Unmarshal(b, f) != nil {
		return nil, errReply
	}
	return fault.FromWire(f), nil
}

func parseMessage(asked object.Form, b []byte) (p object.Payload, err, broken error) {
	length, n := binary.Uvarint(b)
	if n <= 0 || length > uint64(len(b)-n) {
		return p, nil, errReply
	}
	url, value := b[n:n+int(length)], b[n+int(length):]
	switch {
	case !utf8.Valid(url):
		return p, nil, errReply
	case asked != object.FormMessage:
		return object.OfBinary(&anypb.Any{TypeUrl: string(url), Value: append([]byte(nil), value...)}), nil, nil
	}
	message, err := unmarshal(url, value)
	if err != nil {
		return p, err, nil
	}
	return object.OfMessage(message), nil, nil
}

// unmarshal makes a live message of a reply's value.
func unmarshal(url []byte, value []byte) (proto.Message, error) {
	typ, err := protoregistry.GlobalTypes.FindMessageByURL(string(url))
	if err == nil {
		message := typ.New().Interface()
		if err = proto.Unmarshal(value, message); err == nil {
			return message, nil
		}
	}
	return nil, fault.New(fault.Failed,
		"the reply is a %s, which this program cannot read (does it import that message's package?): %w", url, err)
}
