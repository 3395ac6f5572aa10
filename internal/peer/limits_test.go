package peer

import (
	"slices"
	"testing"

	"google.golang.org/protobuf/types/known/anypb"

	"github.com/xiaonanln/goverse/internal/event"
	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/object"
)

// A request that no road carries is told of, before any lane is opened for it.
func TestATooLargeRequestIsToldOf(t *testing.T) {
	var told []event.LimitReached
	s := newLanes("a:1", nil, nil, event.Listener{LimitReached: func(e event.LimitReached) { told = append(told, e) }})
	defer s.cancel()
	ref := object.Ref{Type: "T", ID: "x"}
	large := object.OfBinary(&anypb.Any{TypeUrl: "type.googleapis.com/T", Value: make([]byte, MaxPayload+1)})
	_, err := s.call(t.Context(), &Request{Call: object.Call{Ref: ref, Method: "M", Payload: large}})
	if fault.KindOf(err) != fault.TooLarge || fault.OutcomeOf(err) != fault.NotExecuted {
		t.Error(err)
	}
	if want := (event.LimitReached{Limit: event.MessageBytes, Type: "T", ID: "x"}); !slices.Equal(told, []event.LimitReached{want}) {
		t.Errorf("it told of %v", told)
	}
}
