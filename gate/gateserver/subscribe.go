package gateserver

import (
	"bytes"
	"context"
	"encoding/json"
	"strconv"

	"github.com/xiaonanln/goverse/gate"
	gate_pb "github.com/xiaonanln/goverse/gate/proto"
	"github.com/xiaonanln/goverse/internal/callctx"
	"github.com/xiaonanln/goverse/object"
)

// ask lets the gate's feeds ask: for a client as for any call of its, or for themselves.
func (c *calls) ask(ctx context.Context, clientID string, call object.Call) (object.Payload, error) {
	if clientID != "" {
		return c.do(ctx, clientID, call)
	}
	return c.router.Call(callctx.With(ctx, new(callctx.Info)), call)
}

// The frames of a subscription on a WebSocket. From the client:
//
//	{"op":"subscribe", "seq":1, "type":"ChatRoom", "id":"general"}
//	{"op":"unsubscribe", "seq":2, "subscription":1}
//
// A client that has followed the object before says how far it has come: of its last
// snapshot and of the last that came,
//
//	{"op":"subscribe", "seq":1, "type":"ChatRoom", "id":"general", "incarnation":"42", "version":"8"}
//
// From the gate: the reply to the first is {"subscription":1}, to the second {}; in between
//
//	{"op":"published", "subscription":1, "version":"7", "type":"...", "incarnation":"42", "snapshot":{...}}
//	{"op":"published", "subscription":1, "version":"8", "type":"...", "change":{...}}
//	{"op":"published", "subscription":1, "version":"2", "type":"...", "reset":true, "reason":"...", "incarnation":"43", "snapshot":{...}}
//	{"op":"unsubscribed", "subscription":1, "error":"...", "code":"...", "outcome":"..."}
//
// The last ends the subscription. What the node could not write as JSON comes as
// "payload", the base64 of its Any.
type subscriptionFrame struct {
	Op           string  `json:"op"`
	Seq          *int64  `json:"seq"`
	Type         string  `json:"type"`
	ID           string  `json:"id"`
	Subscription *uint64 `json:"subscription"`
	Incarnation  uint64  `json:"incarnation,string"`
	Version      uint64  `json:"version,string"`
}

// maxSubscriptionFrame is longer than any such frame, however its id is escaped.
const maxSubscriptionFrame = 16 << 10

// readSubscription recognises such a frame; others are for decodeFrame to read, or to
// refuse.
func readSubscription(data []byte) (f subscriptionFrame, ok bool) {
	if len(data) > maxSubscriptionFrame || !bytes.Contains(data, []byte(`subscribe"`)) {
		return f, false
	}
	if json.Unmarshal(data, &f) != nil || f.Seq == nil || *f.Seq < 0 {
		return f, false
	}
	return f, f.Op == "subscribe" || f.Op == "unsubscribe"
}

// check refuses a frame that says too much or too little.
func (f *subscriptionFrame) check(data []byte) error {
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(new(subscriptionFrame)); err != nil {
		return badFrame("%v", err)
	}
	switch {
	case f.Op == "subscribe" && f.Subscription != nil:
		return badFrame("subscribe has a type and an id, and no subscription: the reply says its number")
	case f.Op == "unsubscribe" && (f.Subscription == nil || f.Type != "" || f.ID != "" || f.Incarnation|f.Version != 0):
		return badFrame("unsubscribe has a subscription, and nothing else")
	}
	return nil
}

// takeSubscription takes a frame that begins or ends a subscription; false: it is no such.
func (s *socket) takeSubscription(ctx context.Context, data []byte) bool {
	f, ok := readSubscription(data)
	if !ok {
		return false
	}
	err := s.session.Err()
	if err == nil {
		err = f.check(data)
	}
	if err == nil {
		err = s.admit(len(data))
	}
	if err != nil {
		s.answer(ctx, answer{frame: errorFrame(*f.Seq, told{}, err, object.OpCall)})
		return true
	}
	s.calls.Go(func() { s.subscribe(ctx, &f, int64(len(data))) })
	return true
}

// subscribe answers the frame, and then lets come what is published.
func (s *socket) subscribe(ctx context.Context, f *subscriptionFrame, asked int64) {
	var begun *gate.Subscription
	var err error
	response := []byte("{}")
	if f.Op == "unsubscribe" {
		err = s.subs.Unsubscribe(*f.Subscription)
	} else if begun, err = s.subs.SubscribeFrom(ctx, object.Ref{Type: f.Type, ID: f.ID}, gate.Point{Incarnation: f.Incarnation, Version: f.Version}); err == nil {
		response = strconv.AppendUint([]byte(`{"subscription":`), begun.Number(), 10)
		response = append(response, '}')
	}
	a := answer{call: true, frame: replyFrame(*f.Seq, told{}, response)}
	if err != nil {
		a.frame = errorFrame(*f.Seq, told{}, err, object.OpCall)
	}
	a.holds = asked + int64(len(a.frame))
	s.held.Add(int64(len(a.frame)))
	s.answer(ctx, a)
	if begun != nil {
		begun.Start()
	}
}

// sendPublished sends what is published. Replies do not wait for all of it, and the reply
// that tells a subscription's number goes first.
func (s *socket) sendPublished(ctx context.Context) error {
	for p, ok := s.subs.Next(); ok; p, ok = s.subs.Next() {
		if err := s.sendReady(ctx); err != nil {
			return err
		}
		frame, err := publishedFrame(&p)
		if err != nil {
			return err
		}
		if err := s.send(ctx, frame); err != nil {
			return err
		}
		select {
		case <-s.session.Done():
			return nil
		default:
		}
		if m, ok := s.session.Next(); ok { // busy objects do not hold up what is pushed
			if err := s.sendMessage(ctx, m); err != nil {
				return err
			}
		}
	}
	return nil
}

// sendReady sends the replies that wait.
func (s *socket) sendReady(ctx context.Context) error {
	for {
		select {
		case a := <-s.replies:
			if err := s.sendAnswer(ctx, a); err != nil {
				return err
			}
		default:
			return nil
		}
	}
}

func publishedFrame(p *gate.Published) ([]byte, error) {
	if p.Err != nil {
		_, f := describe(p.Err, object.OpCall)
		return json.Marshal(struct {
			Op           string `json:"op"`
			Subscription uint64 `json:"subscription"`
			failure
		}{"unsubscribed", p.Subscription, f})
	}
	head := struct {
		Op           string          `json:"op"`
		Subscription uint64          `json:"subscription"`
		Version      uint64          `json:"version,string"`
		Type         string          `json:"type"`
		Reset        bool            `json:"reset,omitempty"`
		Reason       string          `json:"reason,omitempty"`
		Incarnation  uint64          `json:"incarnation,string,omitempty"`
		Snapshot     json.RawMessage `json:"snapshot,omitempty"`
		Change       json.RawMessage `json:"change,omitempty"`
		Payload      string          `json:"payload,omitempty"`
	}{Op: "published", Subscription: p.Subscription, Version: p.Version, Type: p.Any.GetTypeUrl(), Reset: p.Reset, Reason: p.Reason, Incarnation: p.Incarnation}
	var err error
	switch {
	case len(p.JSON) == 0:
		head.Payload, err = base64Any(p.Any)
	case p.Snapshot:
		head.Snapshot = p.JSON
	default:
		head.Change = p.JSON
	}
	if err != nil {
		return nil, err
	}
	return json.Marshal(head)
}

// subscribe answers a frame of a stream, and has what is published come behind the answer.
func (c *conversation) subscribe(ctx context.Context, q *question, req *gate_pb.SubscribeRequest) (*gate_pb.SubscribeResponse, error) {
	from := gate.Point{Incarnation: req.GetIncarnation(), Version: req.GetVersion()}
	begun, err := c.subs.SubscribeFrom(ctx, object.Ref{Type: req.GetType(), ID: req.GetId()}, from)
	if err != nil {
		return nil, err
	}
	q.then = begun.Start
	return &gate_pb.SubscribeResponse{Subscription: begun.Number()}, nil
}

// addPublished fills a batch with what is published, behind all answers: one of them may
// tell the number of the subscription.
func (c *conversation) addPublished(b *[]byte, full int) {
	for !c.parted && len(*b) < full {
		if c.taken == nil {
			p, ok := c.subs.Next()
			if !ok {
				return
			}
			c.taken = &p
		}
		if c.hasAnswers() { // looked at behind Next: what it gave may be of a subscription that they begin
			return
		}
		*b = appendFrame(*b, &gate_pb.GateFrame{Kind: &gate_pb.GateFrame_Published{Published: publishedOf(c.taken)}})
		c.taken = nil
	}
}

func (c *conversation) hasAnswers() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.answers) > 0
}

func publishedOf(p *gate.Published) *gate_pb.Published {
	m := &gate_pb.Published{Subscription: p.Subscription, Version: p.Version, Reset_: p.Reset, Reason: p.Reason}
	switch {
	case p.Err != nil:
		return &gate_pb.Published{Subscription: p.Subscription, Failure: statusBytes(p.Err)}
	case p.Snapshot:
		m.Snapshot, m.Incarnation = p.Any, p.Incarnation
	default:
		m.Change = p.Any
	}
	return m
}
