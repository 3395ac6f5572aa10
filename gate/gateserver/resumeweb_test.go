package gateserver

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/coder/websocket"
)

// webFrame is a frame or an event of a client that may come back.
type webFrame struct {
	Op, ClientID, Token, Reason, Code string
	Resumed                           *bool
	ResumeMillis                      int64
	Seq, From, To                     uint64
	Message                           string
	Gates                             []string
}

func (f webFrame) String() string {
	switch f.Op {
	case "message":
		return fmt.Sprintf("%d:%s", f.Seq, f.Message)
	case "reset":
		return fmt.Sprintf("[%d-%d]", f.From, f.To)
	}
	return f.Op
}

func (p *page) hears(want ...string) {
	p.t.Helper()
	for _, w := range want {
		if got := p.web().String(); got != w {
			p.t.Fatalf("heard %q, want %q", got, w)
		}
	}
}

func (p *page) web() (f webFrame) {
	p.t.Helper()
	_, b, err := p.conn.Read(p.t.Context())
	if err == nil {
		err = json.Unmarshal(b, &f)
	}
	if err != nil {
		p.t.Fatal(err)
	}
	return f
}

// openPage opens a socket with a first frame.
func openPage(t *testing.T, s *GateServer, hello string) *page {
	t.Helper()
	conn, _, err := websocket.Dial(t.Context(), "ws://"+s.HTTPAddr()+socketPath+"?hello=1", &websocket.DialOptions{HTTPClient: &http.Client{Transport: transport(t)}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.CloseNow() })
	p := &page{t: t, conn: conn}
	p.say(hello)
	return p
}

func helloPage(t *testing.T, s *GateServer, hello string) (*page, webFrame) {
	t.Helper()
	p := openPage(t, s, hello)
	w := p.web()
	if w.Op != "register" || w.Token == "" || w.Resumed == nil || w.ResumeMillis != 60_000 {
		t.Fatalf("first frame %+v", w)
	}
	return p, w
}

func TestASocketIsResumed(t *testing.T) {
	cl := newCluster(echo)
	d := new(diary)
	s := start(t, cl, func(c *GateServerConfig) { c.Listener = d.listener() })
	p, w := helloPage(t, s, `{"op":"hello"}`)
	if *w.Resumed {
		t.Errorf("a new session is resumed: %+v", w)
	}
	cl.pushText(t, w.ClientID, "a", "b", "c")
	p.hears("1:a", "2:b", "3:c")
	p.say(`{"last":2,"op":"ack"}`)
	p.say(`{"op":"call","seq":1,"type":"T","id":"i","method":"M","request":"ack"}`) // its reply is behind the ack
	p.hears("reply")
	p.conn.CloseNow()
	cl.pushText(t, w.ClientID, "d")
	p2, w2 := helloPage(t, s, fmt.Sprintf(`{"op":"hello","token":%q,"last":1}`, w.Token))
	if !*w2.Resumed || w2.ClientID != w.ClientID || w2.Token == w.Token {
		t.Fatalf("resumed as %+v, was %+v", w2, w)
	}
	p2.hears("[2-2]", "3:c", "4:d")
	p3, w3 := helloPage(t, s, fmt.Sprintf(`{"op":"hello","token":%q,"last":4}`, w.Token))
	if *w3.Resumed {
		t.Error("a token was good twice")
	}
	p3.hears("[5-0]")
	p4, w4 := helloPage(t, s, fmt.Sprintf(`{"op":"hello","token":%q,"last":4}`, w2.Token))
	if g := p2.web(); g.Op != "goodbye" || g.Code == "" {
		t.Errorf("the old socket hears %+v", g)
	}
	if e := p2.closed(); e.Code != statusElsewhere {
		t.Errorf("the old socket closes with %v", e)
	}
	if err := p4.conn.Close(websocket.StatusNormalClosure, ""); err != nil {
		t.Error(err)
	}
	d.wait(t, w.ClientID) // it has left for good
	p5, _ := helloPage(t, s, fmt.Sprintf(`{"op":"hello","token":%q,"last":4}`, w4.Token))
	p5.hears("[5-0]")
}

func TestSocketsWithBadHellosAndAcks(t *testing.T) {
	cl := newCluster(echo)
	s := start(t, cl)
	for _, hello := range []string{``, `{}`, `hello`, `{"op":"call"}`, `{"op":"hello","last":-1}`, `{"op":"hello","nonsense":1}`, `{"op":"hello"}{}`, "{\"op\":\"hello\",\"token\":\"\xff\"}"} {
		if e := openPage(t, s, hello).closed(); e.Code != websocket.StatusPolicyViolation {
			t.Errorf("%q closes with %v", hello, e)
		}
	}
	if e := openPage(t, s, `{"op":"hello","token":"`+strings.Repeat("x", maxHello)+`"}`).closed(); e.Code != websocket.StatusMessageTooBig {
		t.Errorf("a long hello closes with %v", e)
	}
	for _, ack := range []string{`{"op":"ack","last":2}`, `{"op":"ack"          }`, `{"op":"ack","last":"1"}`, `{"op":"ack","last":1,"x":2}`} {
		p, w := helloPage(t, s, `{"op":"hello"}`)
		cl.pushText(t, w.ClientID, "a")
		p.hears("1:a")
		p.say(ack)
		if e := p.closed(); e.Code != websocket.StatusPolicyViolation {
			t.Errorf("%s closes with %v", ack, e)
		}
	}
}

// eventsFrom is a stream of events, with the ids that a browser would remember.
func eventsFrom(t *testing.T, ctx context.Context, s *GateServer, lastID string) (*eventsOf, webFrame) {
	t.Helper()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.HTTPAddr()+eventsPath+"?resumable=1", nil)
	if err != nil {
		t.Fatal(err)
	}
	if lastID != "" {
		r.Header.Set(lastEventID, lastID)
	}
	resp, err := transport(t).RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	e := &eventsOf{t: t, lines: bufio.NewScanner(resp.Body)}
	w := e.next()
	if w.Op != "register" || w.Token == "" || w.Resumed == nil {
		t.Fatalf("first event %+v", w)
	}
	return e, w
}

type eventsOf struct {
	t     *testing.T
	lines *bufio.Scanner
	id    string
}

func (e *eventsOf) next() (f webFrame) {
	e.t.Helper()
	name := ""
	for e.lines.Scan() {
		switch key, value, _ := strings.Cut(e.lines.Text(), ": "); key {
		case "id":
			e.id = value
		case "event":
			name = value
		case "data":
			if err := json.Unmarshal([]byte(value), &f); err != nil {
				e.t.Fatal(err)
			}
		case "":
			f.Op = name
			return f
		}
	}
	e.t.Fatalf("the events ended: %v", e.lines.Err())
	return f
}

// hears wants events by name and by the number in their ids.
func (e *eventsOf) hears(want ...string) {
	e.t.Helper()
	for _, w := range want {
		f := e.next()
		if got := f.Op + e.id[strings.LastIndexByte(e.id, '/'):]; got != w {
			e.t.Fatalf("heard %s, want %s", got, w)
		}
	}
}

func TestEventsAreResumed(t *testing.T) {
	cl := newCluster(echo)
	s := start(t, cl)
	ctx, cut := context.WithCancel(t.Context())
	e, w := eventsFrom(t, ctx, s, "")
	first := e.id
	if first != w.Token+"/0" {
		t.Fatalf("the register event has the id %q", first)
	}
	cl.pushText(t, w.ClientID, "a", "b")
	e.hears("message/1", "message/2")
	cut()
	cl.pushText(t, w.ClientID, "c")
	e2, w2 := eventsFrom(t, t.Context(), s, e.id)
	if !*w2.Resumed || w2.ClientID != w.ClientID || e2.id != w2.Token+"/2" {
		t.Fatalf("resumed as %+v, was %+v", w2, w)
	}
	e2.hears("message/3")
	for _, id := range []string{e.id, first, "x", "/", "/9", "x/y"} {
		e3, w3 := eventsFrom(t, t.Context(), s, id)
		if *w3.Resumed {
			t.Errorf("%q resumes a session", id)
		}
		if id == "/" || id == "/9" { // no token is no session to go on with
			continue
		}
		e3.hears("reset/0")
	}
	r := request(t, s, http.MethodGet, eventsPath+"?resumable=1", "", lastEventID, w2.Token+"/99")
	if r.status != http.StatusBadRequest {
		t.Errorf("a client that has what was never sent: %d %s", r.status, r.body)
	}
	cl.pushText(t, w.ClientID, "d")
	e2.hears("message/4")
}

// Who is not let in with its hello is told why in words that a program understands, and a
// socket without one closes as ever.
func TestARefusedHelloIsToldWhy(t *testing.T) {
	s := start(t, newCluster(echo), func(c *GateServerConfig) { c.EventHandler, c.MaxSessions = &doorman{nameless: true}, 1 })
	refused := func(hello, code string, closes websocket.StatusCode) {
		t.Helper()
		p := openPage(t, s, hello)
		if g := p.web(); g.Op != "goodbye" || g.Code != code || len(g.Gates) != 0 {
			t.Errorf("%s hears %+v", hello, g)
		}
		if e := p.closed(); e.Code != closes {
			t.Errorf("%s closes with %v", hello, e)
		}
	}
	refused(`{"op":"hello","headers":{"Authorization":"nobody"}}`, "UNAUTHENTICATED", websocket.StatusPolicyViolation)
	refused(`{"op":"hello","headers":{"Authorization":"banned"}}`, "ACCESS_DENIED", websocket.StatusPolicyViolation)
	refused(`{"op":"hello","headers":7}`, "INVALID_BODY", websocket.StatusPolicyViolation)
	_, w := helloPage(t, s, `{"op":"hello"}`)
	refused(fmt.Sprintf(`{"op":"hello","token":%q,"last":9}`, w.Token), "INVALID_BODY", websocket.StatusPolicyViolation)
	refused(`{"op":"hello"}`, "OVERLOADED", websocket.StatusTryAgainLater)
	if _, again := helloPage(t, s, fmt.Sprintf(`{"op":"hello","token":%q}`, w.Token)); !*again.Resumed {
		t.Error("a refused hello has cost the session")
	}
}
