package gateserver

import (
	"net/http"
	"strconv"
	"strings"

	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/object"
	goverse_pb "github.com/xiaonanln/goverse/proto"
)

// The headers of a call that has an id: it runs once, however often it is made.
const (
	callIDHeader   = "X-Goverse-Call-ID"     // asks: the id
	keyHeader      = "Idempotency-Key"       // asks: the same by the name that clients and proxies at large know
	statusHeader   = "X-Goverse-Call-Status" // answers: the name of a goverse.ReliableCallStatus
	replayedHeader = "X-Goverse-Replayed"    // answers: "true" where an earlier attempt began the run that is answered
)

// callIDOf reads the id of a call from the headers of its request; "" is none. An
// empty one is refused: whoever sends it believes that the call has an id.
func callIDOf(h http.Header) (string, error) {
	own, ours, err := oneValue(h, callIDHeader)
	if err != nil {
		return "", err
	}
	key, theirs, err := oneValue(h, keyHeader)
	if err != nil {
		return "", err
	}
	if strings.HasPrefix(key, `"`) {
		bare, ok := unquoted(key)
		if !ok {
			return "", fault.New(fault.Invalid, "the header %s is no string in quotes; give the id as it is, or in quotes", keyHeader)
		}
		key = bare
	}
	switch {
	case !ours && !theirs:
		return "", nil
	case ours && theirs && own != key:
		return "", fault.New(fault.Invalid, "the headers %s and %s name two calls; give one of them", callIDHeader, keyHeader)
	}
	id, name := own, callIDHeader
	if !ours {
		id, name = key, keyHeader
	}
	if err := object.ValidCallID(id); err != nil {
		return "", fault.New(fault.Invalid, "the header %s: %w", name, err)
	}
	return id, nil
}

// oneValue is a header that may come once at the most.
func oneValue(h http.Header, name string) (value string, has bool, err error) {
	switch list := h.Values(name); len(list) {
	case 0:
		return "", false, nil
	case 1:
		return list[0], true, nil
	default:
		return "", true, fault.New(fault.Invalid, "the header %s comes %d times; give it once", name, len(list))
	}
}

// unquoted reads a string as structured headers write it (RFC 9651, section 3.3.3).
func unquoted(s string) (string, bool) {
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"':
			return b.String(), i == len(s)-1
		case c == '\\':
			if i++; i == len(s) || s[i] != '"' && s[i] != '\\' {
				return "", false
			}
			b.WriteByte(s[i])
		case c < 0x20 || c > 0x7e:
			return "", false
		default:
			b.WriteByte(c)
		}
	}
	return "", false // it does not end
}

// checkCallID refuses an id where it would mean nothing, and its absence where it is all.
func checkCallID(call *object.Call) error {
	switch {
	case call.Op == object.OpSettle && call.ID == "":
		return fault.New(fault.Invalid, "the call to settle is named by its id in the header %s", callIDHeader)
	case call.ID == "" || call.Op == object.OpSettle || call.Op == object.OpCall && !call.ReadOnly:
		return nil
	case call.Op == object.OpCall:
		return fault.New(fault.Invalid, "a GET changes nothing, so there is nothing to do once: leave the call id out, or POST")
	}
	return fault.New(fault.Invalid, "only calls of methods have ids: leave the call id out. To create or to delete twice does no harm")
}

// isSettled tells whether what Settle returned ends the doubt: the call has run to its
// end, or never will.
func isSettled(err error) bool {
	switch fault.StatusOf(err) {
	case goverse_pb.ReliableCallStatus_SUCCESS, goverse_pb.ReliableCallStatus_FAILED, goverse_pb.ReliableCallStatus_SKIPPED:
		return true
	}
	return false
}

// tell answers what became of a call that has an id.
func tell(h http.Header, reply object.Payload, err error) {
	h.Set(statusHeader, fault.StatusOf(err).String())
	h.Set(replayedHeader, strconv.FormatBool(reply.Replayed))
}
