package gateserver

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/xiaonanln/goverse/internal/callctx"
	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/internal/peer"
	"github.com/xiaonanln/goverse/object"
)

func closeError(t *testing.T, err error) websocket.CloseError {
	t.Helper()
	var ce websocket.CloseError
	if !errors.As(err, &ce) {
		t.Fatalf("the connection did not close properly: %v", err)
	}
	return ce
}

func TestSocketCallsCreatesAndDeletes(t *testing.T) {
	type routed struct {
		call   object.Call
		caller callctx.Caller
	}
	seen := make(chan routed, 1)
	p := socketTo(t, start(t, newCluster(func(ctx context.Context, call object.Call) (object.Payload, error) {
		seen <- routed{call, callctx.From(ctx).Caller}
		return call.Payload, nil
	})))
	p.say(`{"op":"call","seq":7,"type":"ChatRoom","id":"general","method":"Join","request":{"userName":"guest"}}`)
	if f := p.next(); f.Op != "reply" || f.Seq != 7 || string(f.Response) != `{"userName":"guest"}` || f.Error != "" {
		t.Errorf("%+v", f)
	}
	if r := <-seen; r.caller.ClientID != p.id || !r.caller.Client || r.call.Ref.String() != "ChatRoom/general" || r.call.Method != "Join" {
		t.Errorf("routed %+v", r)
	}
	p.say(`{"op":"call","seq":8,"type":"T","id":"i","method":"M","request":null}`)
	if f := p.next(); f.Seq != 8 || string(f.Response) != "{}" {
		t.Errorf("%+v", f)
	}
	if r := <-seen; len(r.call.Payload.JSON) != 0 {
		t.Errorf("routed %+v", r)
	}
	p.say(`{"op":"create","seq":9,"type":"T"}`)
	f := p.next()
	if r := <-seen; r.call.Op != object.OpCreate || string(f.Response) != `{"id":"`+r.call.Ref.ID+`"}` {
		t.Errorf("%+v for %+v", f, r)
	}
	p.say(`{"op":"delete","seq":10,"type":"T","id":"x"}`)
	if f := p.next(); f.Seq != 10 || string(f.Response) != "{}" {
		t.Errorf("%+v", f)
	}
	if r := <-seen; r.call.Op != object.OpDelete {
		t.Errorf("routed %+v", r)
	}
}

func TestSocketRepliesOutOfOrderAndErrors(t *testing.T) {
	release := make(chan struct{})
	p := socketTo(t, start(t, newCluster(func(_ context.Context, call object.Call) (object.Payload, error) {
		if call.Method == "Slow" {
			<-release
			return object.OfJSON([]byte(`"late"`)), nil
		}
		return object.Payload{}, fault.New(fault.UnknownMethod, "there is no %s", call.Method)
	})))
	p.say(`{"op":"call","seq":1,"type":"T","id":"i","method":"Slow"}`)
	p.say(`{"op":"call","seq":2,"type":"T","id":"i","method":"Wrong"}`)
	if f := p.next(); f.Seq != 2 || f.Code != "OBJECT_NOT_FOUND" || f.Outcome != "NotExecuted" || !strings.Contains(f.Error, "there is no Wrong") {
		t.Errorf("%+v", f)
	}
	close(release)
	if f := p.next(); f.Seq != 1 || string(f.Response) != `"late"` {
		t.Errorf("%+v", f)
	}
}

func TestSocketPushes(t *testing.T) {
	router := newCluster(echo)
	s := start(t, router)
	a, b := socketTo(t, s), socketTo(t, s)
	for i := range 100 {
		router.push(peer.PushFrame{ClientIDs: []string{a.id}, Message: text(t, fmt.Sprint(i)), JSON: fmt.Appendf(nil, "%d", i)})
	}
	router.push(peer.PushFrame{Broadcast: true, Message: text(t, "all")})
	for i := range 100 {
		if f := a.next(); f.Op != "message" || f.Type != "type.googleapis.com/google.protobuf.StringValue" || string(f.Message) != fmt.Sprint(i) {
			t.Fatalf("push %d: %+v", i, f)
		}
	}
	for _, p := range []*page{a, b} {
		if f := p.next(); f.Op != "message" || f.Payload == "" {
			t.Errorf("a push without JSON: %+v", f)
		}
	}
}

func TestSocketHeartbeats(t *testing.T) {
	s := start(t, newCluster(echo), func(c *GateServerConfig) { c.HeartbeatInterval = 10 * time.Millisecond })
	p := socketTo(t, s)
	for range 3 {
		if f := p.next(); f.Op != "heartbeat" {
			t.Errorf("%+v", f)
		}
	}
}

func TestSocketBadFramesWithASeqAreAnswered(t *testing.T) {
	p := socketTo(t, start(t, newCluster(func(_ context.Context, call object.Call) (object.Payload, error) {
		t.Errorf("a bad call was routed: %+v", call)
		return call.Payload, nil
	})))
	for i, frame := range []string{
		`{"op":"call","seq":0,"type":"","id":"i","method":"M"}`,
		`{"op":"call","seq":1,"type":"T","id":"","method":"M"}`,
		`{"op":"call","seq":2,"type":"T","id":"i","method":""}`,
		`{"op":"call","seq":3,"type":"T","id":"a\u0000b","method":"M"}`,
		`{"op":"call","seq":4,"type":"T","id":"` + strings.Repeat("x", 513) + `","method":"M"}`,
		`{"op":"fly","seq":5}`,
		`{"seq":6}`,
		`{"op":"call","seq":7,"type":5,"id":"i","method":"M"}`,
		`{"op":"call","seq":8,"type":"T","id":"i","method":"M","reqest":{}}`,
		`{"op":"delete","seq":9,"type":"T","id":"i","request":{}}`,
		`{"op":"call","seq":10,"type":"T","id":"i","method":"M"} {}`,
	} {
		p.say(frame)
		if f := p.next(); f.Op != "reply" || f.Seq != int64(i) || f.Error == "" || f.Outcome != "NotExecuted" || f.Code != "INVALID_JSON" && f.Code != "INVALID_BODY" {
			t.Errorf("%s: %+v", frame, f)
		}
	}
}

func TestSocketBadFramesWithoutASeqCloseIt(t *testing.T) {
	s := start(t, newCluster(echo))
	for _, frame := range []string{
		``, `hello`, `{`, `[]`, `{"op":"call"}`, `{"op":"call","seq":"x"}`, `{"op":"call","seq":-1}`,
		"{\"op\":\"call\",\"seq\":1,\"id\":\"\xff\"}",
	} {
		p := socketTo(t, s)
		p.say(frame)
		if ce := p.closed(); ce.Code != websocket.StatusPolicyViolation || !strings.Contains(ce.Reason, "the frame cannot be read") {
			t.Errorf("%q: %+v", frame, ce)
		}
	}
	p := socketTo(t, s)
	if err := p.conn.Write(t.Context(), websocket.MessageBinary, []byte("{}")); err != nil {
		t.Fatal(err)
	}
	if ce := p.closed(); ce.Code != websocket.StatusUnsupportedData {
		t.Errorf("binary: %+v", ce)
	}
}

func TestSocketMessageOver4MiB(t *testing.T) {
	s := start(t, newCluster(echo))
	p := socketTo(t, s)
	p.say(`{"op":"call","seq":1,"type":"T","id":"i","method":"M","request":"` + strings.Repeat("x", 2*maxMessage) + `"}`)
	if ce := p.closed(); ce.Code != websocket.StatusMessageTooBig || !strings.Contains(ce.Reason, "4 MiB") {
		t.Errorf("%+v", ce)
	}
}

func TestSocketAtMost256CallsUnderWay(t *testing.T) {
	release := make(chan struct{})
	p := socketTo(t, start(t, newCluster(func(_ context.Context, call object.Call) (object.Payload, error) {
		<-release
		return call.Payload, nil
	})))
	for i := range maxSocketCalls + 1 {
		p.say(fmt.Sprintf(`{"op":"call","seq":%d,"type":"T","id":"i","method":"M"}`, i))
	}
	if f := p.next(); f.Seq != maxSocketCalls || f.Code != "OVERLOADED" || f.Outcome != "NotExecuted" {
		t.Errorf("%+v", f)
	}
	close(release)
	seen := map[int64]bool{}
	for range maxSocketCalls {
		f := p.next()
		if f.Error != "" {
			t.Errorf("%+v", f)
		}
		seen[f.Seq] = true
	}
	if len(seen) != maxSocketCalls {
		t.Errorf("%d replies", len(seen))
	}
	p.say(`{"op":"call","seq":1000,"type":"T","id":"i","method":"M"}`)
	if f := p.next(); f.Seq != 1000 || f.Error != "" {
		t.Errorf("%+v", f)
	}
}

func TestASocketThatVanishesCancelsItsCalls(t *testing.T) {
	entered, ended := make(chan struct{}), make(chan error, 1)
	var d diary
	s := start(t, newCluster(func(ctx context.Context, _ object.Call) (object.Payload, error) {
		close(entered)
		<-ctx.Done()
		ended <- ctx.Err()
		return object.Payload{}, ctx.Err()
	}), func(c *GateServerConfig) { c.Listener = d.listener() })
	p := socketTo(t, s)
	p.say(`{"op":"call","seq":1,"type":"T","id":"i","method":"M"}`)
	<-entered
	p.conn.CloseNow()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("the call ended with %v", err)
	}
	d.wait(t, p.id)
}

// A client that is connected but answers no ping and reads nothing.
func TestAHalfOpenSocketIsNoticed(t *testing.T) {
	var d diary
	s := start(t, newCluster(echo), func(c *GateServerConfig) {
		c.Listener, c.HeartbeatInterval, c.WriteTimeout = d.listener(), 20*time.Millisecond, 50*time.Millisecond
	})
	p := socketTo(t, s) // it answers pings only while it reads
	if why := d.wait(t, p.id); !strings.Contains(why, "does not") {
		t.Errorf("the session ended with %q", why)
	}
}

// One page stalls; the others get everything.
func TestASocketThatStalls(t *testing.T) {
	var d diary
	router := newCluster(echo)
	s := start(t, router, func(c *GateServerConfig) {
		c.Listener, c.WriteTimeout = d.listener(), 200*time.Millisecond
	})
	stalled, fine := socketTo(t, s), socketTo(t, s)
	news := `"` + strings.Repeat("x", 100<<10) + `"`
	for range 200 { // 20 MB: more than any buffer between
		router.push(peer.PushFrame{ClientIDs: []string{stalled.id, fine.id}, Message: text(t, ""), JSON: []byte(news)})
		if f := fine.next(); string(f.Message) != news {
			t.Fatal("a push is damaged")
		}
	}
	if why := d.wait(t, stalled.id); !strings.Contains(why, "does not read") {
		t.Errorf("the session ended with %q", why)
	}
	fine.say(`{"op":"call","seq":1,"type":"T","id":"i","method":"M"}`)
	if f := fine.next(); f.Seq != 1 {
		t.Errorf("%+v", f)
	}
}

func TestAPlainGETOfTheSocketIsToldWhatItIs(t *testing.T) {
	if got := request(t, start(t, newCluster(echo)), "GET", socketPath, ""); got.status != http.StatusUpgradeRequired {
		t.Errorf("%+v", got)
	}
}

func TestAFullGateTellsSockets(t *testing.T) {
	s := start(t, newCluster(echo), func(c *GateServerConfig) { c.MaxSessions = 1 })
	socketTo(t, s)
	conn, _, err := websocket.Dial(t.Context(), "ws://"+s.HTTPAddr()+socketPath, &websocket.DialOptions{HTTPClient: &http.Client{Transport: transport(t)}})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.CloseNow()
	_, _, err = conn.Read(t.Context())
	if ce := closeError(t, err); ce.Code != websocket.StatusTryAgainLater {
		t.Errorf("%+v", ce)
	}
}

func TestCloseReasonsFit(t *testing.T) {
	for _, text := range []string{"short", strings.Repeat("é", 100), "x" + strings.Repeat("é", 100)} {
		got := closeReason(errors.New(text))
		if len(got) > 123 || !strings.HasPrefix(text, got) || len(text) <= 123 && got != text {
			t.Errorf("%q", got)
		}
	}
}
