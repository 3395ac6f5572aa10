package gateserver

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/xiaonanln/goverse/gate"
	gate_pb "github.com/xiaonanln/goverse/gate/proto"
	"github.com/xiaonanln/goverse/internal/access"
	"github.com/xiaonanln/goverse/internal/callctx"
	"github.com/xiaonanln/goverse/internal/event"
	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/object"
)

// doorman knows ann and bob by their names, and lets the nameless in if it is told so.
type doorman struct {
	nameless bool
	lasts    time.Duration // how long identities do; 0: for ever
	left     chan string
}

func (d *doorman) OnClientAuthorise(_ context.Context, headers map[string][]string) (*gate.CallerIdentity, error) {
	switch token := strings.Join(headers["authorization"], ","); token {
	case "ann", "bob":
		who := &gate.CallerIdentity{UserID: token, Roles: []string{"role of " + token}}
		if d.lasts > 0 {
			who.Expires = time.Now().Add(d.lasts)
		}
		return who, nil
	case "":
		if d.nameless {
			return nil, nil
		}
		return nil, errors.New("who are you?")
	case "banned":
		return nil, status.Error(codes.PermissionDenied, "you are banned")
	case "mad":
		panic("mad")
	default:
		return nil, fmt.Errorf("nobody is called that")
	}
}

func (d *doorman) OnClientDisconnect(_ context.Context, clientID string, who *gate.CallerIdentity) {
	if d.left != nil {
		d.left <- clientID + " " + userOf(who)
	}
}

// visitors notes whom the nodes saw.
type visitors struct {
	mu   sync.Mutex
	seen []callctx.Caller
}

func (v *visitors) answer(ctx context.Context, call object.Call) (object.Payload, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.seen = append(v.seen, callctx.From(ctx).Caller)
	return call.Payload, nil
}

func (v *visitors) take() []callctx.Caller {
	v.mu.Lock()
	defer v.mu.Unlock()
	seen := v.seen
	v.seen = nil
	return seen
}

// audits is what a gate told of.
type audits struct {
	mu        sync.Mutex
	denied    []event.AccessDenied
	sensitive []event.SensitiveOperation
}

func (a *audits) listener() event.Listener {
	return event.Listener{
		AccessDenied: func(e event.AccessDenied) { a.mu.Lock(); defer a.mu.Unlock(); a.denied = append(a.denied, e) },
		SensitiveOperation: func(e event.SensitiveOperation) {
			a.mu.Lock()
			defer a.mu.Unlock()
			a.sensitive = append(a.sensitive, e)
		},
	}
}

func (a *audits) take() (denied []event.AccessDenied, sensitive []event.SensitiveOperation) {
	a.mu.Lock()
	defer a.mu.Unlock()
	denied, sensitive = a.denied, a.sensitive
	a.denied, a.sensitive = nil, nil
	return denied, sensitive
}

// way is one way of asking a gate for something, with an Authorization if it is not empty.
// What it returns is an HTTP status, or the one that a gRPC code comes to.
type way struct {
	name    string
	session bool // it opens one, and asks over it
	op      object.Op
	ask     func(t *testing.T, s *GateServer, as, typ string) int
}

var httpOf = map[codes.Code]int{
	codes.OK: 200, codes.Unauthenticated: 401, codes.PermissionDenied: 403, codes.InvalidArgument: 400, codes.Unavailable: 503,
}

func ofGRPC(t *testing.T, err error) int {
	t.Helper()
	if code, ok := httpOf[status.Code(err)]; ok {
		return code
	}
	t.Fatalf("an answer of its own: %v", err)
	return 0
}

func grpcAs(t *testing.T, as string) context.Context {
	if as == "" {
		return t.Context()
	}
	return metadata.AppendToOutgoingContext(t.Context(), "authorization", as)
}

func unaryWay(name string, op object.Op, ask func(ctx context.Context, c gate_pb.GateServiceClient, typ string) error) way {
	return way{name: "gRPC " + name, op: op, ask: func(t *testing.T, s *GateServer, as, typ string) int {
		return ofGRPC(t, ask(grpcAs(t, as), dial(t, s), typ))
	}}
}

func httpWay(name string, op object.Op, method, path, body string, header ...string) way {
	return way{name: "HTTP " + name, op: op, ask: func(t *testing.T, s *GateServer, as, typ string) int {
		h := slices.Clone(header)
		switch {
		case as != "" && name == "with X-Goverse-Auth":
			h = append(h, authHeader, `{"Authorization":"`+as+`"}`)
		case as != "":
			h = append(h, "Authorization", as)
		}
		got := request(t, s, method, strings.ReplaceAll(path, "TYPE", typ), strings.ReplaceAll(body, "TYPE", typ), h...)
		if got.status == 401 && got.header.Get("WWW-Authenticate") == "" {
			t.Error("401 without WWW-Authenticate")
		}
		if got.status == 201 {
			return 200
		}
		return got.status
	}}
}

var ways = []way{
	unaryWay("call", object.OpCall, func(ctx context.Context, c gate_pb.GateServiceClient, typ string) error {
		_, err := c.CallObject(ctx, &gate_pb.CallObjectRequest{Type: typ, Id: "1", Method: "M"})
		return err
	}),
	unaryWay("reliable call", object.OpCall, func(ctx context.Context, c gate_pb.GateServiceClient, typ string) error {
		_, err := c.ReliableCallObject(ctx, &gate_pb.ReliableCallObjectRequest{CallId: "c1", Type: typ, Id: "1", Method: "M"})
		return err
	}),
	unaryWay("create", object.OpCreate, func(ctx context.Context, c gate_pb.GateServiceClient, typ string) error {
		_, err := c.CreateObject(ctx, &gate_pb.CreateObjectRequest{Type: typ, Id: "1"})
		return err
	}),
	unaryWay("delete", object.OpDelete, func(ctx context.Context, c gate_pb.GateServiceClient, typ string) error {
		_, err := c.DeleteObject(ctx, &gate_pb.DeleteObjectRequest{Type: typ, Id: "1"})
		return err
	}),
	httpWay("call", object.OpCall, "POST", "/api/v1/objects/TYPE/1/M", `{}`),
	httpWay("with X-Goverse-Auth", object.OpCall, "POST", "/api/v1/objects/TYPE/1/M", `{}`),
	httpWay("GET", object.OpCall, "GET", "/api/v1/objects/TYPE/1/M", ``),
	httpWay("create", object.OpCreate, "PUT", "/api/v1/objects/TYPE/1", ``),
	httpWay("delete", object.OpDelete, "DELETE", "/api/v1/objects/TYPE/1", ``),
	httpWay("envelope", object.OpCall, "POST", "/api/v1/objects/call/TYPE/1/M", `{}`),
	httpWay("envelope create", object.OpCreate, "POST", "/api/v1/objects/create/TYPE/1", ``),
	httpWay("envelope delete", object.OpDelete, "POST", "/api/v1/objects/delete/TYPE/1", ``),
	httpWay("Connect", object.OpCall, "POST", "/gate.GateService/CallObject", `{"type":"TYPE","id":"1","method":"M"}`, "Content-Type", "application/json"),
	httpWay("Connect create", object.OpCreate, "POST", "/gate.GateService/CreateObject", `{"type":"TYPE","id":"1"}`, "Content-Type", "application/json"),
	{name: "Register", session: true, op: object.OpCall, ask: askRegistered},
	{name: "Converse", session: true, op: object.OpCall, ask: askConversing},
	{name: "events", session: true, op: object.OpCall, ask: askFollowing},
	{name: "WebSocket", session: true, op: object.OpCall, ask: askBySocket},
}

// askRegistered calls with the id of a session that Register opened.
func askRegistered(t *testing.T, s *GateServer, as, typ string) int {
	ctx, cancel := context.WithCancel(grpcAs(t, as))
	defer cancel()
	c := dial(t, s)
	stream, err := c.Register(ctx, &emptypb.Empty{})
	if err != nil {
		t.Fatal(err)
	}
	first, err := stream.Recv()
	if err != nil {
		return ofGRPC(t, err)
	}
	r := new(gate_pb.RegisterResponse)
	if err := first.UnmarshalTo(r); err != nil {
		t.Fatal(err)
	}
	_, err = c.CallObject(ctx, &gate_pb.CallObjectRequest{ClientId: r.ClientId, Type: typ, Id: "1", Method: "M"})
	return ofGRPC(t, err)
}

func askConversing(t *testing.T, s *GateServer, as, typ string) int {
	ctx, cancel := context.WithCancel(grpcAs(t, as))
	defer cancel()
	stream, err := dial(t, s).Converse(ctx)
	if err != nil {
		t.Fatal(err)
	}
	say := func(f *gate_pb.ClientFrame) {
		_ = stream.Send(&gate_pb.ClientBatch{Frames: []*gate_pb.ClientFrame{f}}) // what is wrong Recv says
	}
	say(&gate_pb.ClientFrame{Kind: &gate_pb.ClientFrame_Hello{Hello: &gate_pb.Hello{}}})
	say(&gate_pb.ClientFrame{Call: 1, Kind: &gate_pb.ClientFrame_CallObject{CallObject: &gate_pb.CallObjectRequest{ClientId: "ignored", Type: typ, Id: "1", Method: "M"}}})
	for {
		b, err := stream.Recv()
		if err != nil {
			return ofGRPC(t, err)
		}
		for _, f := range b.Frames {
			switch k := f.Kind.(type) {
			case *gate_pb.GateFrame_CallObject:
				return 200
			case *gate_pb.GateFrame_Failure:
				st := new(spb.Status)
				if err := proto.Unmarshal(k.Failure, st); err != nil {
					t.Fatal(err)
				}
				return ofGRPC(t, status.FromProto(st).Err())
			}
		}
	}
}

func askFollowing(t *testing.T, s *GateServer, as, typ string) int {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r, _ := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.HTTPAddr()+eventsPath, nil)
	if as != "" {
		r.Header.Set("Authorization", as)
	}
	resp, err := transport(t).RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != 200 {
		return resp.StatusCode
	}
	var reg struct{ ClientID string }
	line := make([]byte, 512)
	n, err := resp.Body.Read(line)
	if err != nil {
		t.Fatal(err)
	}
	_, data, _ := strings.Cut(string(line[:n]), "data: ")
	if err := json.Unmarshal([]byte(data), &reg); err != nil {
		t.Fatalf("%q: %v", data, err)
	}
	header := []string{clientIDHeader, reg.ClientID}
	if as != "" {
		header = append(header, "Authorization", as)
	}
	return request(t, s, "POST", "/api/v1/objects/"+typ+"/1/M", `{}`, header...).status
}

func askBySocket(t *testing.T, s *GateServer, as, typ string) int {
	o := &websocket.DialOptions{HTTPClient: &http.Client{Transport: transport(t)}, HTTPHeader: http.Header{}}
	if as != "" {
		o.HTTPHeader.Set("Authorization", as)
	}
	conn, resp, err := websocket.Dial(t.Context(), "ws://"+s.HTTPAddr()+socketPath, o)
	if err != nil {
		return resp.StatusCode
	}
	defer conn.CloseNow()
	p := &page{t: t, conn: conn}
	p.next()
	p.say(`{"op":"call","seq":1,"type":"` + typ + `","id":"1","method":"M"}`)
	f := p.next()
	if f.Error == "" {
		return 200
	}
	return map[string]int{"ACCESS_DENIED": 403, "UNAUTHENTICATED": 401}[f.Code]
}

// Every door asks who comes, once, and says so to the node; nobody is let in who has not
// said it, and rules hold behind each.
func TestEveryDoorAsksWhoComes(t *testing.T) {
	var seen visitors
	var told audits
	s := start(t, newCluster(seen.answer), func(c *GateServerConfig) {
		c.EventHandler, c.Listener = &doorman{}, told.listener()
		c.ObjectAccessRules = []access.Rule{{Type: "Secret", Access: access.Internal}}
		c.ObjectLifecycleRules = []access.LifecycleRule{{Type: "Secret", Access: access.Reject}}
	})
	for _, w := range ways {
		for _, c := range []struct {
			as, typ string
			want    int
			why     event.Denial
		}{
			{"", "Room", 401, event.ByHandler}, {"carl", "Room", 401, event.ByHandler}, {"banned", "Room", 403, event.ByHandler},
			{"mad", "Room", 401, event.HandlerFail}, {"ann", "Room", 200, 0}, {"ann", "Secret", 403, event.ByRule},
		} {
			got := w.ask(t, s, c.as, c.typ)
			who, name := seen.take(), w.name+" as "+c.as+" to "+c.typ
			denied, sensitive := told.take()
			if got != c.want {
				t.Errorf("%s: %d, want %d", name, got, c.want)
			}
			if c.want != 200 {
				why := c.why
				if why == event.ByRule && w.op != object.OpCall {
					why = event.ByLifecycle
				}
				if len(who) > 0 || len(denied) != 1 || denied[0].Why != why || denied[0].From == "" || denied[0].Where == event.AtGate {
					t.Errorf("%s: reached the node as %v, told as %+v", name, who, denied)
				}
				continue
			}
			if len(who) != 1 || who[0].UserID != "ann" || !slices.Equal(who[0].Roles, []string{"role of ann"}) || !who[0].Client || (who[0].ClientID != "") != w.session {
				t.Errorf("%s: the node saw %+v", name, who)
			}
			if len(denied) > 0 || (len(sensitive) == 1) != (w.op != object.OpCall) {
				t.Errorf("%s: told %v and %v", name, denied, sensitive)
			}
		}
	}
}

// A client id counts on its connection and for its user.
func TestAClientIDIsItsUsers(t *testing.T) {
	var seen visitors
	var told audits
	s := start(t, newCluster(seen.answer), func(c *GateServerConfig) { c.EventHandler, c.Listener = &doorman{nameless: true}, told.listener() })
	c := dial(t, s)
	annID, _ := register(t, grpcAs(t, "ann"), c)
	noID, _ := register(t, t.Context(), c)
	for _, x := range []struct {
		as, id string
		want   int
		saw    string
	}{
		{"ann", annID, 200, annID}, {"ann", "", 200, ""}, {"ann", s.AdvertiseAddress() + "/unknown", 200, ""},
		{"bob", annID, 403, ""}, {"", annID, 403, ""}, {"bob", noID, 403, ""}, {"", noID, 200, ""},
	} {
		_, err := c.CallObject(grpcAs(t, x.as), &gate_pb.CallObjectRequest{ClientId: x.id, Type: "Room", Id: "1", Method: "M"})
		who := seen.take()
		denied, _ := told.take()
		if got := ofGRPC(t, err); got != x.want || (got == 200) != (len(who) == 1) || len(who) == 1 && (who[0].ClientID != x.saw || who[0].UserID != x.as) {
			t.Errorf("%q with the id %s: %d, seen as %v", x.as, x.id, got, who)
		}
		if (x.want == 403) != (len(denied) == 1 && denied[0].Why == event.ByCaller && denied[0].Client == x.id) {
			t.Errorf("%q with the id %s: told as %v", x.as, x.id, denied)
		}
		if got := request(t, s, "POST", "/api/v1/objects/Room/1/M", "{}", clientIDHeader, x.id, "Authorization", x.as).status; x.as != "" && got != x.want {
			t.Errorf("%q with the id %s over HTTP: %d", x.as, x.id, got)
		}
		seen.take()
		told.take()
	}
}

// A session ends with its user's identity, and the client hears why.
func TestASessionEndsWithItsIdentity(t *testing.T) {
	var said diary
	left := make(chan string, 1)
	s := start(t, newCluster(echo), func(c *GateServerConfig) {
		c.EventHandler, c.Listener = &doorman{lasts: 3 * time.Second, left: left}, said.listener()
	})
	id, stream := register(t, grpcAs(t, "ann"), dial(t, s))
	_, err := stream.Recv()
	if status.Code(err) != codes.Unauthenticated || !strings.Contains(err.Error(), "has expired") {
		t.Error(err)
	}
	if why := said.wait(t, id); !strings.Contains(why, "has expired") {
		t.Error(why)
	}
	if got := <-left; got != id+" ann" {
		t.Error(got)
	}
}

// The handler hears of each session's end once, however slow it is, and the gate does not
// wait for it meanwhile.
func TestTheHandlerHearsOfEverySession(t *testing.T) {
	const many = 3 * maxFarewells
	left := make(chan string) // nobody takes from it yet: the handler hangs
	s := start(t, newCluster(echo), func(c *GateServerConfig) { c.EventHandler = &doorman{nameless: true, left: left} })
	c, want := dial(t, s), map[string]bool{}
	for i := range many {
		ctx, cancel := context.WithCancel(t.Context())
		as := []string{"ann", ""}[i%2]
		if as != "" {
			ctx = metadata.AppendToOutgoingContext(ctx, "authorization", as)
		}
		id, _ := register(t, ctx, c)
		want[id+" "+as] = true
		cancel()
	}
	for range many {
		got := <-left
		if !want[got] {
			t.Errorf("heard of %q, which was not, or twice", got)
		}
		delete(want, got)
	}
}

// A handler that panics or hangs costs its own clients their answer and nobody else.
func TestAHandlerThatFails(t *testing.T) {
	var panics []string
	a := newAuthority(&doorman{}, nil, &event.Listener{MethodPanicked: func(e event.MethodPanicked) { panics = append(panics, e.Method) }})
	if _, why, err := a.authorise(t.Context(), map[string][]string{"authorization": {"mad"}}); fault.KindOf(err) != fault.Unauthenticated || why != event.HandlerFail || strings.Contains(err.Error(), "mad") {
		t.Error(why, err)
	}
	if len(panics) != 1 || panics[0] != "OnClientAuthorise" {
		t.Error(panics)
	}
	ctx, cancel := context.WithCancel(t.Context())
	hang := make(chan struct{})
	a = newAuthority(hanging{hang, cancel}, nil, &event.Listener{})
	if _, why, err := a.authorise(ctx, nil); fault.KindOf(err) != fault.Canceled || why != event.HandlerFail || fault.OutcomeOf(err) != fault.NotExecuted {
		t.Error(why, err)
	}
	if len(a.places) != 1 {
		t.Error("its place is free while it still runs")
	}
	close(hang)
	for range maxAuthorise {
		a.places <- struct{}{} // there is none for the last before the handler has returned
	}
}

// hanging gives up its caller, and goes on.
type hanging struct {
	until  chan struct{}
	cancel func()
}

func (h hanging) OnClientAuthorise(context.Context, map[string][]string) (*gate.CallerIdentity, error) {
	h.cancel()
	<-h.until
	return nil, nil
}

func (hanging) OnClientDisconnect(context.Context, string, *gate.CallerIdentity) {}

// What stands in X-Goverse-Auth is read strictly, and takes the place of no header.
func TestAuthHeader(t *testing.T) {
	for text, want := range map[string]string{
		`{}`: "map[]", `{"A":"b"}`: "map[a:[b]]", `{"A":["b","c"]}`: "map[a:[b c]]", ``: "", `null`: "", `[]`: "", `{"a":1}`: "", `{"a":null}`: "",
		`{"a":"b"}x`: "", `{"a":"b","A":"c"}`: "", `{"":"x"}`: "", `{"x-goverse-auth":"{}"}`: "", `{"a":{}}`: "",
	} {
		got, err := parseAuth([]byte(text))
		if (err == nil) != (want != "") || err == nil && fmt.Sprint(got) != want {
			t.Errorf("%s: %v, %v", text, got, err)
		}
	}
	s := start(t, newCluster(echo), func(c *GateServerConfig) { c.EventHandler = &doorman{} })
	got := request(t, s, "POST", "/api/v1/objects/Room/1/M", "{}", "Authorization", "bob", authHeader, `{"authorization":"ann"}`)
	if got.status != 400 || !strings.Contains(got.body, "authorization") || strings.Contains(got.body, "ann") {
		t.Error(got)
	}
}

// What a proxy sets counts as a header of the request, and in no other way.
func TestRequestHeaders(t *testing.T) {
	s := start(t, newCluster(echo), func(c *GateServerConfig) { c.EventHandler, c.RequestHeaders = &doorman{}, []string{"Authorization"} })
	for _, text := range []string{`{"authorization":"ann"}`, `{"Authorization":["ann"]}`, `{"Host":"x"}`, `{":authority":"x"}`} {
		if got := request(t, s, "POST", "/api/v1/objects/Room/1/M", "{}", authHeader, text); got.status != 400 || !strings.Contains(got.body, "only the request itself") {
			t.Errorf("%s: %v", text, got)
		}
	}
	if got := request(t, s, "POST", "/api/v1/objects/Room/1/M", "{}", "Authorization", "ann"); got.status != 200 {
		t.Error(got)
	}
}

func FuzzAuthHeader(f *testing.F) {
	for _, s := range []string{`{"Authorization":"Bearer x"}`, `{"a":["b"]}`, `{`, `{"a":{"b":[]}}`, `{"\u0000":"x"}`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		headers, err := parseAuth([]byte(text))
		if err != nil {
			return
		}
		for name, values := range headers {
			if name == "" || name != strings.ToLower(name) || values == nil {
				t.Fatalf("%q: %q: %q", text, name, values)
			}
		}
	})
}

// A browser's WebSocket cannot set headers: its first frame has them.
func TestAHelloSaysWhoComes(t *testing.T) {
	var seen visitors
	s := start(t, newCluster(seen.answer), func(c *GateServerConfig) { c.EventHandler = &doorman{} })
	p, w := helloPage(t, s, `{"op":"hello","headers":{"Authorization":"ann"}}`)
	p.say(`{"op":"call","seq":1,"type":"Room","id":"1","method":"M"}`)
	if f := p.next(); f.Error != "" {
		t.Error(f)
	}
	if who := seen.take(); len(who) != 1 || who[0].UserID != "ann" || who[0].ClientID != w.ClientID {
		t.Error(who)
	}
	for _, hello := range []string{`{"op":"hello"}`, `{"op":"hello","headers":{"Authorization":"carl"}}`, `{"op":"hello","headers":{"Authorization":1}}`} {
		p := openPage(t, s, hello)
		if f := p.web(); f.Op != "goodbye" || f.ClientID != "" {
			t.Errorf("%s hears %+v", hello, f)
		}
		if e := p.closed(); e.Code != websocket.StatusPolicyViolation {
			t.Errorf("%s: %v", hello, e)
		}
	}
}

// Whoever forges is refused, and audited with where he came from.
func TestForgeriesAreAudited(t *testing.T) {
	var told audits
	s := start(t, newCluster(echo), func(c *GateServerConfig) { c.Listener = told.listener() })
	for _, f := range []struct {
		base, path string
		door       event.Door
	}{
		{s.HTTPAddr(), "/api/v1/objects/Room/1/M", event.AtHTTP}, {s.HTTPAddr(), eventsPath, event.AtEvents},
		{s.HTTPAddr(), socketPath, event.AtWebSocket}, {s.OpsAddr(), "/metrics", event.AtOperations},
	} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+f.base+f.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		got := do(t, r, "Origin", "https://evil.example.com", "Sec-Fetch-Site", "cross-site")
		denied, _ := told.take()
		if got.status != http.StatusForbidden || len(denied) != 1 || denied[0].Why != event.ByOrigin || denied[0].Where != f.door || denied[0].From == "" || denied[0].Err == nil {
			t.Errorf("%s: %d, told %+v", f.path, got.status, denied)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for _, token := range []string{"", "forged.token"} {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.HTTPAddr()+eventsPath+"?resumable=1", nil)
		if err != nil {
			t.Fatal(err)
		}
		if token != "" {
			r.Header.Set(lastEventID, token+"/7")
		}
		resp, err := transport(t).RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		sseReader{bufio.NewScanner(resp.Body)}.next(t)
		denied, _ := told.take()
		if (len(denied) == 1) != (token != "") {
			t.Errorf("%q: told %+v", token, denied)
		}
		for _, d := range denied {
			if d.Why != event.ByToken || d.Where != event.AtHTTP || d.From == "" || d.Client == "" {
				t.Errorf("%q: told %+v", token, d)
			}
		}
	}
	talkOn(t, ctx, dial(t, s), &gate_pb.Hello{Resumable: true, Token: "forged.token"})
	if denied, _ := told.take(); len(denied) != 1 || denied[0].Why != event.ByToken || denied[0].Where != event.AtGRPC {
		t.Errorf("over gRPC: told %+v", denied)
	}
}

// A token resumes the session of its own user only: bob gets a new one with ann's.
func TestATokenIsItsUsers(t *testing.T) {
	s := start(t, newCluster(echo), func(c *GateServerConfig) { c.EventHandler = &doorman{nameless: true} })
	type register struct {
		ClientID, Token string
		Resumed         bool
	}
	open := func(as, lastID string) (r register) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		req, _ := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.HTTPAddr()+eventsPath+"?resumable=1", nil)
		if as != "" {
			req.Header.Set("Authorization", as)
		}
		if lastID != "" {
			req.Header.Set("Last-Event-ID", lastID)
		}
		resp, err := transport(t).RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		for e := (sseReader{bufio.NewScanner(resp.Body)}); ; {
			if got := e.next(t); got.name == "register" {
				if err := json.Unmarshal([]byte(got.data), &r); err != nil {
					t.Fatal(err)
				}
				return r
			}
		}
	}
	first := open("ann", "")
	for _, thief := range []string{"bob", ""} {
		if got := open(thief, first.Token+"/0"); got.Resumed || got.ClientID == first.ClientID || got.Token == "" {
			t.Errorf("%q has ann's session: %+v", thief, got)
		}
	}
	if got := open("ann", first.Token+"/0"); !got.Resumed || got.ClientID != first.ClientID {
		t.Errorf("ann has lost her session: %+v", got)
	}
}
