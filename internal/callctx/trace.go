package callctx

import (
	"context"
	"encoding/hex"
	"strings"
)

// Trace is a call's place in a trace, as W3C Trace Context has it: the span that whatever
// the call comes to is below. Only who is in a trace that is kept (sampled) has one. Values
// are never changed.
type Trace struct {
	ID    [16]byte
	Span  [8]byte
	State string // what tracing systems add, a tracestate; at most MaxTraceState bytes
}

// MaxTraceState bounds a Trace's State, in bytes.
const MaxTraceState = 512

// Untraced is the place of a call of which somebody has decided that no trace of it is
// kept: nobody decides anew.
var Untraced = new(Trace) // never written

// Given says that t is a place in a trace.
func (t *Trace) Given() bool { return t != nil && t.ID != [16]byte{} && t.Span != [8]byte{} }

// Valid says that t can be carried.
func (t *Trace) Valid() bool { return t.Given() && validState(t.State) }

// String is t as a traceparent; "" where it is no place in a trace.
func (t *Trace) String() string {
	if !t.Given() {
		return ""
	}
	return "00-" + hex.EncodeToString(t.ID[:]) + "-" + hex.EncodeToString(t.Span[:]) + "-01"
}

// ParseTrace reads the two headers of W3C Trace Context; Untraced where they say that no
// trace is kept. nil: there is no traceparent, or none that anybody has to heed. A state
// that is none is left out.
func ParseTrace(parent, state string) *Trace {
	const length = len("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	if len(parent) < length || len(parent) > length && (parent[:2] == "00" || parent[length] != '-') || len(parent) > MaxTraceState {
		return nil
	}
	t := new(Trace)
	var version, flags [1]byte
	if !lowerHex(version[:], parent[:2]) || version[0] == 0xff || parent[2] != '-' ||
		!lowerHex(t.ID[:], parent[3:35]) || parent[35] != '-' ||
		!lowerHex(t.Span[:], parent[36:52]) || parent[52] != '-' ||
		!lowerHex(flags[:], parent[53:55]) || !t.Given() {
		return nil
	}
	if flags[0]&1 == 0 {
		return Untraced
	}
	if validState(state) {
		t.State = state
	}
	return t
}

// lowerHex decodes what has no capitals.
func lowerHex(to []byte, from string) bool {
	if strings.ContainsAny(from, "ABCDEF") {
		return false
	}
	_, err := hex.Decode(to, []byte(from))
	return err == nil
}

func validState(s string) bool {
	if len(s) > MaxTraceState {
		return false
	}
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// Tracer begins spans of traces. It is no listener of events, because who works within a
// span, the program's own code too, has to know it before it ends. Whoever has none asks
// none, and tracing costs nothing. All methods may be called concurrently.
type Tracer interface {
	// Begin begins a span, below that of ctx, and returns the context of the work in it:
	// From finds the span's Trace there. nil, and ctx as it was: nothing of this is traced.
	Begin(ctx context.Context, s Stretch) (context.Context, Span)
}

// Span is a stretch of work that has begun.
type Span interface {
	// End ends it, once.
	End(err error)
}

// Stretch says what a span is of.
type Stretch struct {
	Kind             StretchKind
	Root             bool   // a trace may begin here
	Op               string // what is done, as object.Op prints it
	Type, ID, Method string
}

// StretchKind is a kind of work.
type StretchKind uint8

// The kinds.
const (
	Asked   StretchKind = iota // a gate answers its client
	Calling                    // somebody waits for a call
	Serving                    // a node answers
	Waiting                    // the call stands in its object's queue
	Loading                    // the object is read from the store
	Saving                     // what the call left waits until it is stored

	NumStretches = iota
)

var stretchNames = [NumStretches]string{"gate", "call", "serve", "turn", "load", "commit"}

// String is the kind's name, in lower case.
func (k StretchKind) String() string { return stretchNames[k] }
