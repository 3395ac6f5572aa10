package gateserver

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	gate_pb "github.com/xiaonanln/goverse/gate/proto"
	"github.com/xiaonanln/goverse/internal/event"
	"github.com/xiaonanln/goverse/internal/peer"
	"github.com/xiaonanln/goverse/object"
	"github.com/xiaonanln/goverse/util/logger"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// cluster is a Router in memory. answer plays all the nodes.
type cluster struct {
	answer func(ctx context.Context, call object.Call) (object.Payload, error)
	ready  chan struct{}
	types  *object.Types
	object.Records

	mu       sync.Mutex
	problems []string
	deliver  func(peer.PushFrame) error
	followed chan struct{} // closed when deliver is set
}

// echo answers in the form of the request.
func echo(_ context.Context, call object.Call) (object.Payload, error) { return call.Payload, nil }

func newCluster(answer func(context.Context, object.Call) (object.Payload, error)) *cluster {
	c := &cluster{answer: answer, types: object.NewTypes(), ready: make(chan struct{}), followed: make(chan struct{})}
	close(c.ready)
	return c
}

func (c *cluster) Call(ctx context.Context, call object.Call) (object.Payload, error) {
	return c.answer(ctx, call)
}

func (c *cluster) FollowPushes(ctx context.Context, _ string, deliver func(peer.PushFrame) error) error {
	c.mu.Lock()
	c.deliver = deliver
	c.mu.Unlock()
	close(c.followed)
	<-ctx.Done()
	return nil
}

func (c *cluster) Ready() <-chan struct{} { return c.ready }

func (c *cluster) PushesReady() <-chan struct{} { return c.followed }

func (c *cluster) PushesUp() bool { return true }

func (c *cluster) Problems() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.problems
}

// Catalogs is that of one node whose types the test has set.
func (c *cluster) Catalogs(ctx context.Context) ([]object.Catalog, int, error) {
	catalog, err := c.types.Catalog()
	return []object.Catalog{catalog}, 0, err
}

func (c *cluster) push(f peer.PushFrame) {
	<-c.followed
	_ = c.deliver(f) // a gate takes every frame
}

// diary is what a gate said of its sessions.
type diary struct {
	mu     sync.Mutex
	closed map[string]string
	change chan struct{}
}

func (d *diary) listener() event.Listener {
	d.closed, d.change = map[string]string{}, make(chan struct{}, 1<<16)
	return event.Listener{SessionClosed: func(e event.SessionClosed) {
		d.mu.Lock()
		d.closed[e.ClientID] = e.Reason
		d.mu.Unlock()
		d.change <- struct{}{}
	}}
}

// wait returns why the session of id ended.
func (d *diary) wait(t *testing.T, id string) string {
	t.Helper()
	for limit := time.After(20 * time.Second); ; {
		d.mu.Lock()
		why, ok := d.closed[id]
		d.mu.Unlock()
		if ok {
			return why
		}
		select {
		case <-d.change:
		case <-limit:
			t.Fatalf("the session %s did not end", id)
		}
	}
}

func quiet() *logger.Logger { return logger.New(slog.New(slog.DiscardHandler)) }

// start runs a gate on free ports, and stops it at the test's end.
func start(t *testing.T, router Router, change ...func(*GateServerConfig)) *GateServer {
	t.Helper()
	cfg := &GateServerConfig{
		ListenAddress: "127.0.0.1:0", HTTPListenAddress: "127.0.0.1:0", OpsListenAddress: "127.0.0.1:0",
		Router: router, Logger: quiet(),
	}
	for _, c := range change {
		c(cfg)
	}
	s, err := NewGateServer(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Stop(); err != nil {
			t.Errorf("Stop: %v", err)
		}
	})
	return s
}

func dial(t *testing.T, s *GateServer) gate_pb.GateServiceClient {
	t.Helper()
	return gate_pb.NewGateServiceClient(dialConn(t, s))
}

func dialConn(t *testing.T, s *GateServer) *grpc.ClientConn {
	t.Helper()
	cc, err := grpc.NewClient("passthrough:///"+s.GRPCAddr(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cc.Close() })
	return cc
}

func register(t *testing.T, ctx context.Context, c gate_pb.GateServiceClient) (string, grpc.ServerStreamingClient[anypb.Any]) {
	t.Helper()
	stream, err := c.Register(ctx, &emptypb.Empty{})
	if err != nil {
		t.Fatal(err)
	}
	first, err := stream.Recv()
	if err != nil {
		t.Fatal(err)
	}
	r := new(gate_pb.RegisterResponse)
	if err := first.UnmarshalTo(r); err != nil {
		t.Fatal(err)
	}
	return r.ClientId, stream
}

func pack(t *testing.T, m proto.Message) *anypb.Any {
	t.Helper()
	a, err := anypb.New(m)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func text(t *testing.T, s string) *anypb.Any { return pack(t, wrapperspb.String(s)) }

func unpack(t *testing.T, a *anypb.Any) string {
	t.Helper()
	v := new(wrapperspb.StringValue)
	if err := a.UnmarshalTo(v); err != nil {
		t.Fatal(err)
	}
	return v.Value
}

// transport's connections end with the test.
func transport(t *testing.T) *http.Transport {
	tr := &http.Transport{}
	t.Cleanup(tr.CloseIdleConnections)
	return tr
}

// result is an HTTP answer.
type result struct {
	status int
	header http.Header
	body   string
}

func (r result) failure(t *testing.T) failure {
	t.Helper()
	var f failure
	if err := json.Unmarshal([]byte(r.body), &f); err != nil {
		t.Fatalf("%q is no error: %v", r.body, err)
	}
	return f
}

func request(t *testing.T, s *GateServer, method, path, body string, header ...string) result {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, "http://"+s.HTTPAddr()+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	return do(t, r, header...)
}

func do(t *testing.T, r *http.Request, header ...string) result {
	t.Helper()
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
		if header[i] == "Host" {
			r.Host = header[i+1]
		}
	}
	resp, err := transport(t).RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return result{resp.StatusCode, resp.Header, string(b)}
}

// sse is one event of a stream.
type sse struct{ name, data string }

type sseReader struct{ lines *bufio.Scanner }

func (r sseReader) next(t *testing.T) sse {
	t.Helper()
	var e sse
	for r.lines.Scan() {
		line := r.lines.Text()
		if name, ok := strings.CutPrefix(line, "event: "); ok {
			e.name = name
		}
		if data, ok := strings.CutPrefix(line, "data: "); ok {
			e.data = data
		}
		if line == "" {
			return e
		}
	}
	t.Fatalf("the event stream ended: %v", r.lines.Err())
	return e
}

func follow(t *testing.T, ctx context.Context, s *GateServer) (string, sseReader) {
	t.Helper()
	id, _, events := followFrom(t, ctx, s)
	return id, events
}

// followFrom also returns the time that the gate told.
func followFrom(t *testing.T, ctx context.Context, s *GateServer) (id string, told int64, _ sseReader) {
	t.Helper()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.HTTPAddr()+eventsPath, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := transport(t).RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	if got := resp.Header.Get("Content-Type"); got != "text/event-stream" {
		t.Fatalf("content type %q", got)
	}
	events := sseReader{bufio.NewScanner(resp.Body)}
	first := events.next(t)
	var reg struct {
		ClientID   string
		UnixMillis int64
	}
	if err := json.Unmarshal([]byte(first.data), &reg); err != nil || first.name != "register" {
		t.Fatalf("first event %+v", first)
	}
	return reg.ClientID, reg.UnixMillis, events
}

// page is a WebSocket client.
type page struct {
	t    *testing.T
	conn *websocket.Conn
	id   string
	told int64 // the gate's time
}

func socketTo(t *testing.T, s *GateServer) *page {
	t.Helper()
	conn, _, err := websocket.Dial(t.Context(), "ws://"+s.HTTPAddr()+socketPath, &websocket.DialOptions{HTTPClient: &http.Client{Transport: transport(t)}})
	if err != nil {
		t.Fatal(err)
	}
	conn.SetReadLimit(-1)
	t.Cleanup(func() { conn.CloseNow() })
	p := &page{t: t, conn: conn}
	first := p.next()
	if first.Op != "register" {
		t.Fatalf("first frame %+v", first)
	}
	p.id, p.told = first.ClientID, first.UnixMillis
	return p
}

// gotFrame is any frame from the gate.
type gotFrame struct {
	Op, ClientID, Type, Error, Code, Outcome, Payload string
	Kind, Status                                      string
	Replayed, Durable                                 *bool
	Seq, UnixMillis                                   int64
	Response, Message                                 json.RawMessage
}

func (p *page) say(frame string) {
	p.t.Helper()
	if err := p.conn.Write(p.t.Context(), websocket.MessageText, []byte(frame)); err != nil {
		p.t.Fatal(err)
	}
}

func (p *page) read() (f gotFrame, err error) {
	_, b, err := p.conn.Read(p.t.Context())
	if err == nil {
		err = json.Unmarshal(b, &f)
	}
	return f, err
}

func (p *page) next() gotFrame {
	p.t.Helper()
	f, err := p.read()
	if err != nil {
		p.t.Fatal(err)
	}
	return f
}

// closed reads on to the end and returns how the gate closed.
func (p *page) closed() websocket.CloseError {
	p.t.Helper()
	for {
		if _, err := p.read(); err != nil {
			return closeError(p.t, err)
		}
	}
}
