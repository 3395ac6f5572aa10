package gateserver

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/xiaonanln/goverse/gate"
	"github.com/xiaonanln/goverse/object"
)

// events is the push stream as Server-Sent Events: register, then messages, and a
// heartbeat in silence. A last "closed" event says why the gate ends the stream.
func (d *httpDoor) events(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet {
		writeFailure(w, notAllowed("GET"), object.OpCall)
		return
	}
	s, err := d.calls.session(r.Context())
	if err != nil {
		writeFailure(w, err, object.OpCall)
		return
	}
	defer s.Close(nil)
	e := &eventStream{w: w, control: http.NewResponseController(w), patient: d.patient, beat: d.heartbeat}
	e.run(r.Context(), s)
}

// eventStream writes events; its one goroutine is the request's.
type eventStream struct {
	w       http.ResponseWriter
	control *http.ResponseController
	patient time.Duration
	beat    time.Duration
}

func (e *eventStream) run(ctx context.Context, s *gate.Session) {
	h := e.w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no") // or a proxy may keep events to itself
	if e.send("register", map[string]string{"clientId": s.ID()}) != nil {
		return
	}
	silence := time.NewTicker(e.beat)
	defer silence.Stop()
	for ended := false; ; {
		for m, ok := s.Next(); ok; m, ok = s.Next() {
			silence.Reset(e.beat)
			if e.message(m) != nil {
				return
			}
		}
		if ended {
			_, f := describe(s.Err(), object.OpCall)
			_ = e.send("closed", f) // the stream ends, heard or not
			return
		}
		select {
		case <-s.Ready():
		case <-s.Done():
			ended = true
		case <-silence.C:
			if e.send("heartbeat", struct{}{}) != nil {
				return
			}
		case <-ctx.Done():
			return
		}
	}
}

func (e *eventStream) message(m gate.Message) error {
	payload, err := base64Any(m.Any)
	if err != nil {
		return err
	}
	return e.send("message", struct {
		Type    string `json:"type"`
		Payload string `json:"payload"`
	}{m.Any.GetTypeUrl(), payload})
}

func (e *eventStream) send(event string, data any) error {
	b, err := json.Marshal(data)
	if err != nil {
		return err
	}
	if err := e.control.SetWriteDeadline(time.Now().Add(e.patient)); err != nil {
		return err
	}
	if _, err := fmt.Fprintf(e.w, "event: %s\ndata: %s\n\n", event, b); err != nil {
		return err
	}
	return e.control.Flush()
}
