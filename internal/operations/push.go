package operations

import (
	"encoding/json"
	"io"
	"net/http"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/xiaonanln/goverse/internal/event"
	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/object"
)

// PushOrder is what POST of /api/v1/push takes: to one client, or to all.
type PushOrder struct {
	Client   string          `json:"client,omitempty"`
	All      bool            `json:"all,omitempty"`
	Message  json.RawMessage `json:"message"`            // of the type that it names in "@type"
	Operator string          `json:"operator,omitempty"` // who orders it, as he says
}

// maxOrder bounds an order to push, in bytes.
const maxOrder = 1 << 20

// push carries out an operator's order. It answers once the message is on its way to the
// gates: whether its clients are there is theirs to know.
func (p *Port) push(w http.ResponseWriter, r *http.Request) {
	o, push, err := readOrder(http.MaxBytesReader(w, r.Body, maxOrder))
	if err == nil {
		if on := p.Listener.SensitiveOperation; on != nil { // before: none is untold
			on(event.SensitiveOperation{Where: event.AtOperations, What: event.OperatorPushes, From: r.RemoteAddr, User: o.Operator, Client: o.Client})
		}
		err = p.Push(r.Context(), o, push)
	}
	if err != nil {
		fail(w, err)
		return
	}
	write(w, http.StatusOK, []byte(`{"pushed":true}`))
}

// readOrder is the order and what it pushes.
func readOrder(body io.Reader) (o PushOrder, push object.Push, err error) {
	d := json.NewDecoder(body)
	d.DisallowUnknownFields()
	if err := d.Decode(&o); err != nil {
		return o, push, fault.New(fault.Invalid, `give the order as in {"client":"gate1:49000/id","message":{"@type":"chat.ChatMessage"}}: %w`, err)
	}
	if (o.Client == "") != o.All {
		return o, push, fault.New(fault.Invalid, "name one client, or say all")
	}
	var a anypb.Any
	if err := protojson.Unmarshal(o.Message, &a); err != nil {
		return o, push, fault.New(fault.Invalid, `the message is none that this node's program has; name its type as in {"@type":"type.googleapis.com/chat.ChatMessage"}: %w`, err)
	}
	push = object.Push{Broadcast: o.All}
	if o.Client != "" {
		push.ClientIDs = []string{o.Client}
	}
	if push.Message, err = a.UnmarshalNew(); err != nil {
		return o, push, fault.New(fault.Invalid, "the message: %w", err)
	}
	return o, push, nil
}
