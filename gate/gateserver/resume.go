package gateserver

import (
	"context"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/coder/websocket"

	"github.com/xiaonanln/goverse/gate"
	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/object"
)

// comeback is what a client says that wants a session which outlives its connection: the
// token of the one to go on with, if there is one, and the last message that came there.
type comeback struct {
	token string
	last  uint64
}

// helloFrame is the first frame of a WebSocket that was opened with ?hello=1.
type helloFrame struct {
	Op    string `json:"op"`
	Token string `json:"token"`
	Last  uint64 `json:"last"`

	Headers json.RawMessage `json:"headers"` // of whoever could set none: as authHeader
}

// maxHello bounds it, in bytes.
const maxHello = 64 << 10

// hello waits for the first frame of a client that announced one.
func (d *socketDoor) hello(life context.Context, conn *websocket.Conn) (*comeback, error) {
	ctx, cancel := context.WithTimeout(life, hush)
	defer cancel()
	conn.SetReadLimit(maxHello)
	kind, data, err := conn.Read(ctx)
	conn.SetReadLimit(-1) // socket.receive bounds messages and can still say why
	switch {
	case ctx.Err() != nil:
		return nil, &farewell{websocket.StatusPolicyViolation, "no hello"}
	case err != nil:
		return nil, err
	case kind != websocket.MessageText:
		return nil, &farewell{websocket.StatusUnsupportedData, "a binary message; send JSON as text"}
	}
	var f helloFrame
	if err := strictJSON(data, &f); err != nil || f.Op != "hello" {
		return nil, &farewell{websocket.StatusPolicyViolation, `a first frame that is no {"op":"hello"}`}
	}
	if v := visitorOf(life); v != nil && f.Headers != nil {
		v.addText(f.Headers)
	}
	return &comeback{token: f.Token, last: f.Last}, nil
}

// strictJSON reads one JSON object that has no other fields than v.
func strictJSON(data []byte, v any) error {
	if !utf8.Valid(data) {
		return badFrame("it is not valid UTF-8")
	}
	d := json.NewDecoder(strings.NewReader(string(data)))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return err
	}
	if d.More() {
		return badFrame("something follows its JSON object")
	}
	return nil
}

// acknowledged reads an {"op":"ack","last":18}; false: it is another frame.
func acknowledged(data []byte) (last uint64, is bool, err error) {
	const shortest, longest = len(`{"op":"ack","last":1}`), 256
	if len(data) < shortest || len(data) > longest || !strings.Contains(string(data), `"ack"`) {
		return 0, false, nil
	}
	var op struct{ Op string }
	if json.Unmarshal(data, &op) != nil || op.Op != "ack" {
		return 0, false, nil
	}
	var f struct {
		Op   string  `json:"op"`
		Last *uint64 `json:"last"`
	}
	if err := strictJSON(data, &f); err != nil || f.Last == nil {
		return 0, true, badFrame(`an ack is {"op":"ack","last":18}`)
	}
	return *f.Last, true, nil
}

// acknowledge takes an ack. One that is not true ends the session.
func (s *socket) acknowledge(data []byte) (taken bool) {
	if s.session.Token() == "" {
		return false
	}
	last, is, err := acknowledged(data)
	if is && err == nil {
		err = s.session.Ack(last)
	}
	if err != nil {
		s.session.Close(&farewell{websocket.StatusPolicyViolation, err.Error()})
	}
	return is
}

// resetWords are the fields of a reset in JSON.
type resetWords struct {
	From   uint64 `json:"from"`
	To     uint64 `json:"to"`
	Reason string `json:"reason"`
}

func wordsOf(r *gate.Reset) resetWords { return resetWords{r.From, r.To, r.Reason} }

func resetFrame(r *gate.Reset) []byte {
	b, _ := json.Marshal(struct { // a string and numbers: it cannot fail
		Op string `json:"op"`
		resetWords
	}{"reset", wordsOf(r)})
	return b
}

// parting is what a client that may come back is told last.
type parting struct {
	failure
	Gates []string `json:"gates,omitempty"` // others of the cluster, for the client of one that leaves
}

// partingOf says why a session's connection ends, and where else to go.
func (c *calls) partingOf(s *gate.Session) parting {
	_, f := describe(s.Err(), object.OpCall)
	p := parting{failure: f}
	if s.Token() != "" && fault.KindOf(s.Err()) == fault.NotReady {
		p.Gates = c.otherGates(true)
	}
	return p
}

func (c *calls) goodbyeFrame(s *gate.Session) []byte {
	b, _ := json.Marshal(struct { // strings: it cannot fail
		Op string `json:"op"`
		parting
	}{"goodbye", c.partingOf(s)})
	return b
}

// refusalFrame is a goodbye to who is not let in with its hello.
func refusalFrame(err error) []byte {
	_, f := describe(err, object.OpCall)
	b, _ := json.Marshal(struct { // strings: it cannot fail
		Op string `json:"op"`
		failure
	}{"goodbye", f})
	return b
}

// neighbours is a Router that knows the cluster's gates.
type neighbours interface {
	// OtherGates is where clients of this gate may go: the addresses for gRPC, or the
	// roots of those for HTTP.
	OtherGates(http bool) []string
}

func (c *calls) otherGates(http bool) []string {
	if n, ok := c.router.(neighbours); ok {
		return n.OtherGates(http)
	}
	return nil
}

// lastEventID is the header with which a browser resumes a stream of events.
const lastEventID = "Last-Event-ID"

// comebackOf is what a request for a stream of events says that is to be resumable; nil: it
// is not.
func comebackOf(r *http.Request) *comeback {
	if r.URL.Query().Get("resumable") != "1" {
		return nil
	}
	id := r.Header.Get(lastEventID)
	i := strings.LastIndexByte(id, '/')
	if i < 0 {
		return &comeback{token: id}
	}
	last, _ := strconv.ParseUint(id[i+1:], 10, 64) // of no token that is ours, if it fails
	return &comeback{token: id[:i], last: last}
}

// welcome is the first that a client hears: its id, and the gate's time, by which it
// mints call ids; and if it may come back, how.
type welcome struct {
	ClientID     string `json:"clientId"`
	UnixMillis   int64  `json:"unixMillis"`
	Token        string `json:"token,omitempty"`
	Resumed      *bool  `json:"resumed,omitempty"`
	ResumeMillis int64  `json:"resumeMillis,omitempty"`
}

func welcomeOf(s *gate.Session) welcome {
	w := welcome{ClientID: s.ID(), UnixMillis: time.Now().UnixMilli(), Token: s.Token(), ResumeMillis: s.Window().Milliseconds()}
	if w.Token != "" {
		resumed := s.Resumed()
		w.Resumed = &resumed
	}
	return w
}
