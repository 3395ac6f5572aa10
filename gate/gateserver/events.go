package gateserver

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
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
	s, err := d.calls.session(r.Context(), nil)
	if err != nil {
		writeFailure(w, err, object.OpCall)
		return
	}
	defer s.Close(nil)
	e := &eventStream{w: w, control: http.NewResponseController(w), patient: d.patient, beat: d.heartbeat,
		json: r.URL.Query().Get("json") == "1"}
	if err := e.run(r.Context(), s); errors.Is(err, os.ErrDeadlineExceeded) {
		s.Close(errStalled)
	}
}

// eventStream writes events; its one goroutine is the request's.
type eventStream struct {
	w       http.ResponseWriter
	control *http.ResponseController
	patient time.Duration
	beat    time.Duration
	json    bool // the client asked for messages as JSON, where the node had any
}

// run ends with the session, or with why nothing can be sent any more.
func (e *eventStream) run(ctx context.Context, s *gate.Session) error {
	h := e.w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no") // or a proxy may keep events to itself
	if err := e.send("register", welcomeOf(s.ID())); err != nil {
		return err
	}
	silence := time.NewTicker(e.beat)
	defer silence.Stop()
	for ended := false; ; {
		for m, ok := s.Next(); ok; m, ok = s.Next() {
			silence.Reset(e.beat)
			if err := e.message(m); err != nil {
				return err
			}
		}
		if ended {
			_, f := describe(s.Err(), object.OpCall)
			return e.send("closed", f)
		}
		select {
		case <-s.Ready():
		case <-s.Done():
			ended = true // nothing is added any more: once more round
		case <-silence.C:
			if err := e.send("heartbeat", struct{}{}); err != nil {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (e *eventStream) message(m gate.Message) error {
	if e.json && len(m.JSON) > 0 {
		return e.send("message", struct {
			Type    string          `json:"type"`
			Message json.RawMessage `json:"message"`
		}{m.Any.GetTypeUrl(), m.JSON})
	}
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
