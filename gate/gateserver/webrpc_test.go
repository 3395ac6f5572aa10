package gateserver

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	gate_pb "github.com/xiaonanln/goverse/gate/proto"
	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/internal/peer"
	"github.com/xiaonanln/goverse/object"
)

// protocols are what a browser's generated client may speak.
var protocols = map[string][]connect.ClientOption{
	"Connect": nil, "Connect in JSON": {connect.WithProtoJSON()}, "gRPC-Web": {connect.WithGRPCWeb()}, "gRPC-Web in JSON": {connect.WithGRPCWeb(), connect.WithProtoJSON()},
	"Connect, compressed": {connect.WithSendGzip()},
}

func webClient[Req, Resp any](t *testing.T, s *GateServer, method string, options []connect.ClientOption) *connect.Client[Req, Resp] {
	t.Helper()
	return connect.NewClient[Req, Resp](&http.Client{Transport: transport(t)}, "http://"+s.HTTPAddr()+method, options...)
}

func TestBrowsersClients(t *testing.T) {
	for name, options := range protocols {
		t.Run(name, func(t *testing.T) {
			c := withCounter(t)
			who := make(chan metadata.MD, 1)
			c.answer = func(ctx context.Context, call object.Call) (object.Payload, error) {
				md, _ := metadata.FromIncomingContext(ctx)
				if _, has := ctx.Deadline(); !has {
					t.Error("without a deadline")
				}
				who <- md
				return call.Payload, nil
			}
			s := start(t, c)
			r := connect.NewRequest(&gate_pb.CallObjectRequest{Type: "Room", Id: "a/b", Method: "Say", Request: text(t, "hi")})
			r.Header().Set("Authorization", "Bearer x")
			answer, err := webClient[gate_pb.CallObjectRequest, gate_pb.CallObjectResponse](t, s, gate_pb.GateService_CallObject_FullMethodName, options).CallUnary(t.Context(), r)
			if err != nil || unpack(t, answer.Msg.Response) != "hi" {
				t.Fatal(answer, err)
			}
			if md := <-who; len(md["authorization"]) != 1 || md["authorization"][0] != "Bearer x" {
				t.Errorf("headers %v", md)
			}

			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			stream, err := webClient[emptypb.Empty, anypb.Any](t, s, gate_pb.GateService_Register_FullMethodName, options).CallServerStream(ctx, connect.NewRequest(&emptypb.Empty{}))
			if err != nil || !stream.Receive() {
				t.Fatal(err, stream.Err())
			}
			welcome := new(gate_pb.RegisterResponse)
			if err := stream.Msg().UnmarshalTo(welcome); err != nil || welcome.ClientId == "" {
				t.Fatal(welcome, err)
			}
			c.push(peer.PushFrame{ClientIDs: []string{welcome.ClientId}, Message: text(t, "pushed")})
			if !stream.Receive() || unpack(t, stream.Msg()) != "pushed" {
				t.Fatal(stream.Err())
			}
			cancel()
			_ = stream.Close() // it was cancelled
		})
	}
}

// An error is the one that a gRPC client gets: code, words and details.
func TestBrowsersErrors(t *testing.T) {
	s := start(t, newCluster(func(context.Context, object.Call) (object.Payload, error) {
		return object.Payload{}, fault.New(fault.NotFound, "nobody made it")
	}))
	for name, options := range protocols {
		t.Run(name, func(t *testing.T) {
			call := webClient[gate_pb.CallObjectRequest, gate_pb.CallObjectResponse](t, s, gate_pb.GateService_CallObject_FullMethodName, options)
			_, err := call.CallUnary(t.Context(), connect.NewRequest(&gate_pb.CallObjectRequest{Type: "Room", Id: "x", Method: "Say"}))
			var e *connect.Error
			if !errors.As(err, &e) || e.Code() != connect.CodeNotFound || !strings.Contains(e.Message(), "Room/x.Say") || len(e.Details()) == 0 {
				t.Errorf("%v", err)
			}
			_, err = call.CallUnary(t.Context(), connect.NewRequest(&gate_pb.CallObjectRequest{Type: "Room"}))
			if connect.CodeOf(err) != connect.CodeInvalidArgument {
				t.Errorf("without an id: %v", err)
			}
		})
	}
}

// In JSON an Any is a message of the nodes, which the gate was not built with.
func TestBrowsersJSONOfTheNodesMessages(t *testing.T) {
	s := start(t, withCounter(t))
	post := func(body string) result {
		return request(t, s, http.MethodPost, gate_pb.GateService_CallObject_FullMethodName, body, "Content-Type", "application/json")
	}
	r := post(`{"type":"Counter","id":"x","method":"Add","request":{"@type":"type.googleapis.com/google.protobuf.Int64Value","value":"5"}}`)
	if r.status != http.StatusOK || !strings.Contains(r.body, `"5"`) {
		t.Errorf("%d %s", r.status, r.body)
	}
	for body, why := range map[string]string{
		`{"request":{"@type":"type.googleapis.com/no.Such","value":"5"}}`: "no.Such", `{`: "", ``: "a message with no field set is {}", `{"type":1}`: "",
	} {
		if r := post(body); r.status != http.StatusBadRequest || !strings.Contains(r.body, "invalid_argument") || !strings.Contains(r.body, why) {
			t.Errorf("%s: %d %s", body, r.status, r.body)
		}
	}
}

func TestWhatBrowsersCannotDo(t *testing.T) {
	s := start(t, newCluster(echo), func(c *GateServerConfig) { c.AllowedOrigins = []string{"https://good.example"} })
	const call = gate_pb.GateService_CallObject_FullMethodName
	json := []string{"Content-Type", "application/json"}
	if r := request(t, s, http.MethodPost, webRoot+"Converse", "{}", json...); r.status != http.StatusBadRequest || r.failure(t).Code != "INVALID_PATH" {
		t.Errorf("Converse: %d %s", r.status, r.body)
	}
	if r := request(t, s, http.MethodGet, call, ""); r.status != http.StatusMethodNotAllowed || !strings.Contains(r.header.Get("Allow"), "POST") {
		t.Errorf("GET: %d %v", r.status, r.header)
	}
	if r := request(t, s, http.MethodPost, call, "x", "Content-Type", "text/plain"); r.status != http.StatusUnsupportedMediaType {
		t.Errorf("a form: %d %s", r.status, r.body)
	}
	if r := request(t, s, http.MethodPost, call, "{}", append(json, "Origin", "https://bad.example")...); r.status != http.StatusForbidden {
		t.Errorf("another origin: %d %s", r.status, r.body)
	}
	r := request(t, s, http.MethodOptions, call, "", "Origin", "https://good.example", "Access-Control-Request-Method", "POST")
	if allowed := r.header.Get("Access-Control-Allow-Headers"); r.status != http.StatusNoContent || !strings.Contains(allowed, "X-Grpc-Web") || !strings.Contains(allowed, "Connect-Protocol-Version") {
		t.Errorf("an allowed origin asks: %d %v", r.status, r.header)
	}
	if exposed := r.header.Get("Access-Control-Expose-Headers"); !strings.Contains(exposed, "Grpc-Status") {
		t.Errorf("exposed: %s", exposed)
	}
	large := connect.NewRequest(&gate_pb.CallObjectRequest{Type: "Room", Id: "x", Method: "Say", Request: pack(t, wrapperspb.Bytes(make([]byte, maxMessage+1)))})
	for name, options := range protocols {
		if name == "Connect, compressed" {
			continue // of zeros there is little left, which is the next one
		}
		_, err := webClient[gate_pb.CallObjectRequest, gate_pb.CallObjectResponse](t, s, call, options).CallUnary(t.Context(), large)
		if connect.CodeOf(err) != connect.CodeResourceExhausted {
			t.Errorf("%s: too large: %v", name, err)
		}
	}
	_, err := webClient[gate_pb.CallObjectRequest, gate_pb.CallObjectResponse](t, s, call, protocols["Connect, compressed"]).CallUnary(t.Context(), large)
	if connect.CodeOf(err) != connect.CodeResourceExhausted {
		t.Errorf("small, until it is unpacked: %v", err)
	}
}

// A gate that stops says so at the end of a browser's stream.
func TestBrowsersStreamOfAGateThatStops(t *testing.T) {
	for name, options := range protocols {
		t.Run(name, func(t *testing.T) {
			s := start(t, newCluster(echo))
			stream, err := webClient[emptypb.Empty, anypb.Any](t, s, gate_pb.GateService_Register_FullMethodName, options).CallServerStream(t.Context(), connect.NewRequest(&emptypb.Empty{}))
			if err != nil || !stream.Receive() {
				t.Fatal(err)
			}
			stopped := make(chan error, 1)
			go func() { stopped <- s.Stop() }()
			for stream.Receive() {
			}
			if connect.CodeOf(stream.Err()) != connect.CodeUnavailable {
				t.Errorf("%v", stream.Err())
			}
			_ = stream.Close()
			if err := <-stopped; err != nil {
				t.Error(err)
			}
		})
	}
}

// A browser that does not read is given up, and its stream with it.
func TestBrowserThatDoesNotRead(t *testing.T) {
	c := newCluster(echo)
	var said diary
	s := start(t, c, func(cfg *GateServerConfig) {
		cfg.WriteTimeout = 300 * time.Millisecond
		cfg.Listener = said.listener()
	})
	conn, err := net.Dial("tcp", s.HTTPAddr())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	body := "\x00\x00\x00\x00\x00" // one empty message
	if _, err := fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/grpc-web+proto\r\nContent-Length: %d\r\n\r\n%s",
		gate_pb.GateService_Register_FullMethodName, len(body), body); err != nil {
		t.Fatal(err)
	}
	in := bufio.NewReaderSize(conn, 64)
	for line := ""; line != "\r\n"; { // up to the body: the session is open
		if line, err = in.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
	}
	large := pack(t, wrapperspb.Bytes(make([]byte, 1<<20)))
	over := make(chan string, 1)
	go func() {
		for limit := time.After(20 * time.Second); ; {
			select {
			case <-said.change:
				said.mu.Lock()
				for _, why := range said.closed {
					over <- why
				}
				said.mu.Unlock()
				return
			case <-limit:
				over <- "it did not end"
				return
			}
		}
	}()
	for range 64 {
		c.push(peer.PushFrame{Broadcast: true, Message: large})
	}
	if why := <-over; !strings.Contains(why, "does not read") && !strings.Contains(why, "outbox") {
		t.Errorf("ended: %s", why)
	}
	began := time.Now()
	if err := s.Stop(); err != nil || time.Since(began) > 7*time.Second {
		t.Errorf("stopped after %v: %v", time.Since(began), err)
	}
}
