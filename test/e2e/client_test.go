//go:build unix

package e2e

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	gate_pb "github.com/xiaonanln/goverse/gate/proto"
)

// caller is one client's way to call a ChatRoom's method: by HTTP, WebSocket or gRPC.
type caller interface {
	call(ctx context.Context, room, method string, request, reply proto.Message) error
	close()
}

// httpCaller posts JSON.
type httpCaller struct {
	site   *site
	client *http.Client
}

func dialHTTP(s *site) *httpCaller {
	return &httpCaller{site: s, client: &http.Client{Transport: &http.Transport{}}}
}

func (c *httpCaller) call(ctx context.Context, room, method string, request, reply proto.Message) error {
	body, err := protojson.Marshal(request)
	if err != nil {
		return err
	}
	status, answer, err := c.post(ctx, "/api/v1/objects/ChatRoom/"+room+"/"+method, body)
	if err != nil {
		return err
	}
	if status != http.StatusOK {
		return fmt.Errorf("status %d: %s", status, answer)
	}
	return protojson.Unmarshal(answer, reply)
}

func (c *httpCaller) post(ctx context.Context, path string, body []byte) (status int, answer []byte, err error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, c.site.url(path), bytes.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	r.Header.Set("Content-Type", "application/json")
	resp, err := c.client.Do(r)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	answer, err = io.ReadAll(resp.Body)
	return resp.StatusCode, answer, err
}

func (c *httpCaller) close() { c.client.CloseIdleConnections() }

// grpcCaller is gate.GateService.
type grpcCaller struct {
	conn *grpc.ClientConn
	gate gate_pb.GateServiceClient
}

func dialGRPC(s *site) (*grpcCaller, error) {
	conn, err := grpc.NewClient(s.grpc, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, err
	}
	return &grpcCaller{conn, gate_pb.NewGateServiceClient(conn)}, nil
}

func (c *grpcCaller) call(ctx context.Context, room, method string, request, reply proto.Message) error {
	body, err := anypb.New(request)
	if err != nil {
		return err
	}
	answer, err := c.gate.CallObject(ctx, &gate_pb.CallObjectRequest{Type: "ChatRoom", Id: room, Method: method, Request: body})
	if err != nil {
		return err
	}
	return answer.Response.UnmarshalTo(reply)
}

func (c *grpcCaller) close() { c.conn.Close() }

// socketCaller speaks frames of JSON. It makes one call at a time; what is pushed
// meanwhile goes to onPush.
type socketCaller struct {
	conn   *websocket.Conn
	seq    int64
	onPush func(typeURL string, message json.RawMessage)
}

// frame is what a gate sends.
type frame struct {
	Op       string          `json:"op"`
	Seq      int64           `json:"seq"`
	ClientID string          `json:"clientId"`
	Response json.RawMessage `json:"response"`
	Error    string          `json:"error"`
	Code     string          `json:"code"`
	Outcome  string          `json:"outcome"`
	Type     string          `json:"type"`
	Message  json.RawMessage `json:"message"`
}

func dialSocket(ctx context.Context, s *site) (*socketCaller, error) {
	conn, resp, err := websocket.Dial(ctx, "ws://"+s.http+"/api/v1/ws", nil)
	if err != nil {
		return nil, err
	}
	if resp.Body != nil {
		resp.Body.Close()
	}
	conn.SetReadLimit(64 << 20)
	c := &socketCaller{conn: conn, onPush: func(string, json.RawMessage) {}}
	if f, err := c.read(ctx); err != nil || f.Op != "register" || f.ClientID == "" {
		conn.CloseNow()
		return nil, fmt.Errorf("the first frame is %+v: %w", f, err)
	}
	return c, nil
}

func (c *socketCaller) read(ctx context.Context) (f frame, err error) {
	_, data, err := c.conn.Read(ctx)
	if err == nil {
		err = json.Unmarshal(data, &f)
	}
	return f, err
}

// send starts a call, whose reply carries the seq that is returned.
func (c *socketCaller) send(ctx context.Context, room, method string, request json.RawMessage) (int64, error) {
	c.seq++
	text, err := json.Marshal(map[string]any{"op": "call", "seq": c.seq, "type": "ChatRoom", "id": room, "method": method, "request": request})
	if err != nil {
		return 0, err
	}
	return c.seq, c.conn.Write(ctx, websocket.MessageText, text)
}

// reply reads up to the reply with seq.
func (c *socketCaller) reply(ctx context.Context, seq int64) (frame, error) {
	for {
		f, err := c.read(ctx)
		switch {
		case err != nil:
			return f, err
		case f.Op == "message":
			c.onPush(f.Type, f.Message)
		case f.Op == "reply" && f.Seq == seq:
			return f, nil
		}
	}
}

func (c *socketCaller) call(ctx context.Context, room, method string, request, reply proto.Message) error {
	body, err := protojson.Marshal(request)
	if err != nil {
		return err
	}
	seq, err := c.send(ctx, room, method, body)
	if err != nil {
		return err
	}
	f, err := c.reply(ctx, seq)
	if err != nil {
		return err
	}
	if f.Error != "" {
		return errors.New(f.Error)
	}
	return protojson.Unmarshal(f.Response, reply)
}

func (c *socketCaller) close() { c.conn.CloseNow() }

// within is a context that ends with the test or after d.
func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// mustCall makes a call in JSON that has to succeed.
func (s *site) mustCall(t *testing.T, path, body string) string {
	t.Helper()
	c := dialHTTP(s)
	defer c.close()
	status, answer, err := c.post(within(t, 30*time.Second), "/api/v1/objects/"+path, []byte(body))
	if err != nil || status != http.StatusOK {
		t.Fatalf("%s %s: status %d %s, %v", path, body, status, strings.TrimSpace(string(answer)), err)
	}
	return string(answer)
}

func readResponse(t *testing.T, from io.Reader) (status int, body []byte) {
	t.Helper()
	resp, err := http.ReadResponse(bufio.NewReader(from), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, err = io.ReadAll(resp.Body); err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, body
}
