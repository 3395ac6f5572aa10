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
	"github.com/xiaonanln/goverse/internal/event"
	"github.com/xiaonanln/goverse/object"
)

// events is the push stream as Server-Sent Events: register, then messages, and a
// heartbeat in silence. A last "closed" event says why the gate ends the stream.
func (d *httpDoor) events(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet {
		writeFailure(w, notAllowed("GET"), object.OpCall)
		return
	}
	back := comebackOf(r)
	s, err := d.calls.session(r.Context(), event.AtEvents, back)
	if err != nil {
		writeFailure(w, err, object.OpCall)
		return
	}
	defer s.Disconnect(nil)
	e := &eventStream{calls: d.calls, w: w, control: http.NewResponseController(w), patient: d.patient, beat: d.heartbeat,
		json: r.URL.Query().Get("json") == "1"}
	if s.Resumed() {
		e.last = back.last
	}
	if err := e.run(r.Context(), s); errors.Is(err, os.ErrDeadlineExceeded) {
		s.Disconnect(errStalled)
	}
}

// eventStream writes events; its one goroutine is the request's.
type eventStream struct {
	calls   *calls
	w       http.ResponseWriter
	control *http.ResponseController
	patient time.Duration
	beat    time.Duration
	token   string // of a session that may be resumed; each event then has an id
	last    uint64 // the last message that was sent there
	json    bool   // the client asked for messages as JSON, where the node had any
}

// run ends with the session, or with why nothing can be sent any more.
func (e *eventStream) run(ctx context.Context, s *gate.Session) error {
	h := e.w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no") // or a proxy may keep events to itself
	e.token = s.Token()
	if err := e.send("register", welcomeOf(s)); err != nil {
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
			return e.send("closed", e.calls.partingOf(s))
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
	if r := m.Reset; r != nil {
		e.last = max(e.last, r.To)
		return e.send("reset", wordsOf(r))
	}
	e.last = m.Seq
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
	id := ""
	if e.token != "" {
		id = fmt.Sprintf("id: %s/%d\n", e.token, e.last)
	}
	if _, err := fmt.Fprintf(e.w, "%sevent: %s\ndata: %s\n\n", id, event, b); err != nil {
		return err
	}
	return e.control.Flush()
}
