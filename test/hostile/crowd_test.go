//go:build linux

package hostile

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/xiaonanln/goverse/client/goverseclient"
	gate_pb "github.com/xiaonanln/goverse/gate/proto"
)

// crowd is clients that mean well, one at each door. They call until the test ends, each
// call has other words, and nobody may hear anybody else's.
type crowd struct {
	calls   atomic.Int64
	slowest atomic.Int64 // of the calls since somebody asked

	mu     sync.Mutex
	failed []string
}

// Well-meaning clients call every pace, and no call may take longer than tooLong.
const (
	pace    = 10 * time.Millisecond
	tooLong = 5 * time.Second * slow
)

// speaker says something to a room and returns what it hears.
type speaker func(ctx context.Context, words string) (string, error)

// gather starts a crowd that ends with the test.
func gather(t *testing.T, v *victim) *crowd {
	t.Helper()
	speakers := map[string]speaker{"a stream": byStream(t, v), "gRPC": byGRPC(t, v), "HTTP": byHTTP(t, v), "a WebSocket": bySocket(t, v)}
	c := &crowd{}
	ctx, stop := context.WithCancel(context.Background())
	var all sync.WaitGroup
	t.Cleanup(func() { // before their connections end
		stop()
		all.Wait()
		for _, what := range c.failures() {
			t.Errorf("a client that means well failed: %s", what)
		}
	})
	for name, speak := range speakers {
		all.Go(func() { c.talk(ctx, name, speak) })
	}
	return c
}

func (c *crowd) talk(ctx context.Context, name string, speak speaker) {
	beat := time.NewTicker(pace)
	defer beat.Stop()
	for i := 0; ctx.Err() == nil; i++ {
		words := fmt.Sprintf("%s, %d", name, i)
		within, cancel := context.WithTimeout(context.WithoutCancel(ctx), tooLong)
		began := time.Now()
		heard, err := speak(within, words)
		took := time.Since(began)
		cancel()
		if err != nil || heard != words {
			c.mu.Lock()
			c.failed = append(c.failed, fmt.Sprintf("%s: after %v got %q, %v", words, took, heard, err))
			c.mu.Unlock()
			return
		}
		c.calls.Add(1)
		for old := c.slowest.Load(); int64(took) > old && !c.slowest.CompareAndSwap(old, int64(took)); old = c.slowest.Load() {
		}
		select {
		case <-beat.C:
		case <-ctx.Done():
		}
	}
}

// check waits for four more calls, so that none hides behind the attack's end, and says what
// failed.
func (c *crowd) check(t *testing.T) {
	t.Helper()
	until := c.calls.Load() + 4
	for deadline := time.Now().Add(2 * tooLong); c.calls.Load() < until && len(c.failures()) == 0; time.Sleep(pace) {
		if time.Now().After(deadline) {
			t.Errorf("nobody who means well has called for %v", 2*tooLong)
			break
		}
	}
	for _, what := range c.failures() {
		t.Errorf("a client that means well failed: %s", what)
	}
}

func (c *crowd) failures() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.failed)
}

func (c *crowd) slowness() time.Duration {
	return time.Duration(c.slowest.Load()).Round(100 * time.Microsecond)
}

func byStream(t *testing.T, v *victim) speaker {
	c, err := goverseclient.NewClient([]string{v.GRPC})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.Connect(t.Context()); err != nil {
		t.Fatal(err)
	}
	return func(ctx context.Context, words string) (string, error) {
		reply, err := c.CallObject(ctx, "Room", "crowd", "Say", wrapperspb.String(words))
		if err != nil {
			return "", err
		}
		select {
		case m := <-c.MessageChan():
			if got := m.(*wrapperspb.StringValue).GetValue(); got != words {
				return "", fmt.Errorf("%q was pushed", got)
			}
		case <-ctx.Done():
			return "", fmt.Errorf("nothing was pushed: %w", ctx.Err())
		}
		return reply.(*wrapperspb.StringValue).GetValue(), nil
	}
}

func byGRPC(t *testing.T, v *victim) speaker {
	cc, err := grpc.NewClient("passthrough:///"+v.GRPC, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cc.Close() })
	c := gate_pb.NewGateServiceClient(cc)
	return func(ctx context.Context, words string) (string, error) {
		request, err := anypb.New(wrapperspb.String(words))
		if err != nil {
			return "", err
		}
		reply, err := c.CallObject(ctx, &gate_pb.CallObjectRequest{Type: "Room", Id: "crowd", Method: "Say", Request: request})
		if err != nil {
			return "", err
		}
		heard := new(wrapperspb.StringValue)
		err = reply.Response.UnmarshalTo(heard)
		return heard.Value, err
	}
}

func byHTTP(t *testing.T, v *victim) speaker {
	tr := &http.Transport{}
	t.Cleanup(tr.CloseIdleConnections)
	return func(ctx context.Context, words string) (string, error) {
		body, _ := json.Marshal(words) // a string
		r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+v.HTTP+"/api/v1/objects/Room/crowd/Say", strings.NewReader(string(body)))
		if err != nil {
			return "", err
		}
		r.Header.Set("Content-Type", "application/json")
		resp, err := tr.RoundTrip(r)
		if err != nil {
			return "", err
		}
		defer resp.Body.Close()
		answer, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != http.StatusOK {
			return "", fmt.Errorf("%d %s %w", resp.StatusCode, answer, err)
		}
		var heard string
		err = json.Unmarshal(answer, &heard)
		return heard, err
	}
}

func bySocket(t *testing.T, v *victim) speaker {
	tr := &http.Transport{}
	t.Cleanup(tr.CloseIdleConnections)
	conn, _, err := websocket.Dial(t.Context(), "ws://"+v.HTTP+"/api/v1/ws", &websocket.DialOptions{HTTPClient: &http.Client{Transport: tr}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.CloseNow() })
	return func(ctx context.Context, words string) (string, error) {
		ask := fmt.Sprintf(`{"op":"call","seq":1,"type":"Room","id":"crowd","method":"Say","request":%q}`, words)
		if err := conn.Write(ctx, websocket.MessageText, []byte(ask)); err != nil {
			return "", err
		}
		replied, pushed := "", ""
		for replied == "" || pushed == "" {
			var f struct {
				Op, Error         string
				Response, Message string
			}
			_, b, err := conn.Read(ctx)
			if err == nil {
				err = json.Unmarshal(b, &f)
			}
			switch {
			case err != nil:
				return "", fmt.Errorf("%s: %w", b, err)
			case f.Error != "":
				return "", fmt.Errorf("%s", b)
			case f.Op == "reply":
				replied = f.Response
			case f.Op == "message":
				pushed = f.Message
			}
		}
		if pushed != words {
			return "", fmt.Errorf("%q was pushed", pushed)
		}
		return replied, nil
	}
}
