package peer

import (
	"encoding/binary"
	"fmt"
)

// kind says what a frame is. The numbers are on the wire: docs/format/wire.md.
type kind byte

const (
	kindVoid    kind = iota // taken back before it left
	kindHello               // what the sender speaks; the first frame of each direction
	kindCall                // a call, or the last part of one
	kindReply               // the one answer to a call, or the last part of it
	kindCancel              // the caller waits no longer
	kindPart                // of a call or reply that is too long for one frame
	kindGoodbye             // the sender takes no new calls
	kinds
)

// frame is one message between the two ends of a lane. body is a view of the batch.
type frame struct {
	kind kind
	id   uint64 // of the call
	body []byte
}

// Limits of what crosses a lane in one piece.
const (
	maxBody  = 64 << 10     // of a frame; what is longer goes in parts
	maxPiece = maxBody + 16 // a frame after its length
	maxFill  = 1 << 20      // a batch that long takes no more frames
	maxExtra = 512 << 10    // but cancellations, and these not beyond that
	maxBatch = 2 << 20      // all that, and a part of several long bodies
)

// appendFrame appends a frame: its length, kind and call, and the body. at is where
// the kind stands.
func appendFrame(b []byte, k kind, id uint64, body []byte) (out []byte, at int) {
	b = binary.AppendUvarint(b, uint64(1+uvarintLen(id)+len(body)))
	at = len(b)
	b = binary.AppendUvarint(append(b, byte(k)), id)
	return append(b, body...), at
}

func uvarintLen(v uint64) int {
	n := 1
	for ; v >= 0x80; v >>= 7 {
		n++
	}
	return n
}

// cutFrame takes the first frame off a batch.
func cutFrame(b []byte) (f frame, rest []byte, err error) {
	length, n := binary.Uvarint(b)
	switch {
	case n <= 0:
		return f, nil, fmt.Errorf("a frame's length is cut off")
	case length > maxPiece:
		return f, nil, fmt.Errorf("a frame of %d bytes, at most %d are allowed", length, maxPiece)
	case length > uint64(len(b)-n):
		return f, nil, fmt.Errorf("a frame of %d bytes is cut off after %d", length, len(b)-n)
	case length < 2:
		return f, nil, fmt.Errorf("a frame of %d bytes has no kind and call", length)
	}
	piece, rest := b[n:n+int(length)], b[n+int(length):]
	f.kind = kind(piece[0])
	if f.kind >= kinds {
		return f, nil, fmt.Errorf("a frame of the unknown kind %d", f.kind)
	}
	id, n := binary.Uvarint(piece[1:])
	if n <= 0 {
		return f, nil, fmt.Errorf("a frame's call is cut off")
	}
	f.id, f.body = id, piece[1+n:]
	return f, rest, nil
}

// hello is what one end of a lane speaks.
type hello struct {
	lowest, highest uint64 // versions of the frames
	features        uint64 // a set of bits; both ends use those that both have
}

// featureUnsaved: replies say what of a periodic object is not stored yet.
const featureUnsaved = 1

// featureTrace: calls say where in a trace they belong.
const featureTrace = 2

// featureOwn: lanes may have connections to themselves. Whoever says so takes them.
const featureOwn = 4

// speaks is what this program speaks; featureOwn comes on top of it where this process can
// prove to be a member.
var speaks = hello{lowest: 1, highest: 1, features: featureUnsaved | featureTrace}

func (h hello) append(b []byte) []byte {
	body := binary.AppendUvarint(nil, h.lowest)
	body = binary.AppendUvarint(body, h.highest)
	body = binary.AppendUvarint(body, h.features)
	b, _ = appendFrame(b, kindHello, 0, body)
	return b
}

// parseHello reads a hello. What follows it is of a newer version and left alone.
func parseHello(f frame) (h hello, err error) {
	if f.kind != kindHello {
		return h, fmt.Errorf("the first frame is of kind %d and not a hello", f.kind)
	}
	for _, field := range []*uint64{&h.lowest, &h.highest, &h.features} {
		v, n := binary.Uvarint(f.body)
		if n <= 0 {
			return h, fmt.Errorf("a hello is cut off")
		}
		*field, f.body = v, f.body[n:]
	}
	if h.lowest == 0 || h.lowest > h.highest {
		return h, fmt.Errorf("a hello speaks the versions %d to %d", h.lowest, h.highest)
	}
	return h, nil
}

// agree is what two ends have in common: the highest version, and the features.
func (h hello) agree(other hello) (hello, error) {
	version := min(h.highest, other.highest)
	if version < h.lowest || version < other.lowest {
		return hello{}, fmt.Errorf("it speaks the versions %d to %d of the road and this program %d to %d: upgrade by way of a release that speaks both",
			other.lowest, other.highest, h.lowest, h.highest)
	}
	return hello{lowest: version, highest: version, features: h.features & other.features}, nil
}
