//go:build unix

package e2e

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/emptypb"

	chat_pb "github.com/xiaonanln/goverse/samples/chat/proto"
)

const stopWithin = 5 * time.Second * slow

// TestCtrlC stops the process while clients of every kind are connected, some of them
// idle, some in the middle of calls, one that does not read.
func TestCtrlC(t *testing.T) {
	s := newSite(t, chatBinary)
	for _, test := range []struct {
		name   string
		signal syscall.Signal
	}{{"SIGINT", syscall.SIGINT}, {"SIGTERM", syscall.SIGTERM}} {
		t.Run(test.name, func(t *testing.T) {
			p := s.start(t)
			s.mustCall(t, "ChatRoom/general/SendMessage", `{"userName":"x","message":"`+test.name+`"}`)
			crowd := connect(t, s)
			p.signal(test.signal)
			code, took := p.exit(stopWithin)
			crowd.leave()
			t.Logf("exit %d after %v", code, took.Round(time.Millisecond))
			if code != 0 {
				t.Fatalf("exit code %d after %v, want 0 within %v; it said\n%s", code, took, stopWithin, p.output())
			}
			if out := p.output(); strings.Contains(out, "ERROR") {
				t.Errorf("a clean stop complains:\n%s", out)
			}
		})
	}
	p := s.start(t)
	history := s.mustCall(t, "ChatRoom/general/History", `{}`)
	if !strings.Contains(history, "SIGINT") || !strings.Contains(history, "SIGTERM") {
		t.Errorf("after clean stops the room has only %s", history)
	}
	if out := p.output(); strings.Contains(out, "WARN") || strings.Contains(out, "ERROR") {
		t.Errorf("a start after clean stops complains:\n%s", out)
	}
}

// crowd are clients that stay connected until the process ends them.
type crowd struct {
	leave func() // ends and awaits them
}

func connect(t *testing.T, s *site) crowd {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	streams, err := dialGRPC(s)
	if err != nil {
		t.Fatal(err)
	}
	for range 4 {
		stream, err := streams.gate.Register(ctx, &emptypb.Empty{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := stream.Recv(); err != nil {
			t.Fatal(err)
		}
		all.Go(func() {
			for err == nil {
				_, err = stream.Recv()
			}
		})
	}
	for range 4 {
		idle, err := dialSocket(ctx, s)
		if err != nil {
			t.Fatal(err)
		}
		if err := idle.call(ctx, "general", "Join", &chat_pb.JoinRequest{UserName: "idle"}, &chat_pb.JoinResponse{}); err != nil {
			t.Fatal(err)
		}
		all.Go(func() {
			defer idle.close()
			for err == nil {
				_, err = idle.read(ctx)
			}
		})
	}
	for _, dial := range []func() (caller, error){
		func() (caller, error) { return dialSocket(ctx, s) },
		func() (caller, error) { return dialGRPC(s) },
		func() (caller, error) { return dialHTTP(s), nil },
	} {
		busy, err := dial()
		if err != nil {
			t.Fatal(err)
		}
		first := make(chan struct{})
		all.Go(func() {
			defer busy.close()
			for n := 0; ; n++ {
				if n == 1 {
					close(first)
				}
				err := busy.call(ctx, "busy", "SendMessage", &chat_pb.SendMessageRequest{UserName: "busy", Message: "x"}, &chat_pb.SendMessageResponse{})
				if err != nil {
					return
				}
			}
		})
		<-first
	}
	deaf, events := deafSocket(t, s), eventStream(t, s)
	return crowd{leave: func() {
		cancel()
		streams.close()
		deaf.Close()
		events.Close()
		all.Wait()
	}}
}

// deafSocket is a WebSocket whose client takes no byte after its handshake.
func deafSocket(t *testing.T, s *site) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", s.http)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, "GET /api/v1/ws HTTP/1.1\r\nHost: "+s.http+"\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(conn, make([]byte, len("HTTP/1.1 101"))); err != nil {
		t.Fatal(err)
	}
	return conn
}

// eventStream is a browser's EventSource.
func eventStream(t *testing.T, s *site) io.Closer {
	t.Helper()
	transport := &http.Transport{}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.url("/api/v1/events/stream"), nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := transport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	return closers{resp.Body.Close, func() error { transport.CloseIdleConnections(); return nil }}
}

type closers []func() error

func (c closers) Close() error {
	for _, f := range c {
		_ = f() // what is open is thrown away
	}
	return nil
}

// TestStartup says how long the first answered call takes after the process began.
func TestStartup(t *testing.T) {
	s := newSite(t, chatBinary)
	client := dialHTTP(s)
	defer client.close()
	for _, kind := range []string{"first start", "after a kill", "after a clean stop"} {
		p := s.launch(t, s.flags()...)
		for {
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			status, answer, err := client.post(ctx, "/api/v1/objects/ChatRoom/general/Join", []byte(`{"userName":"guest"}`))
			cancel()
			if err == nil && status == http.StatusOK {
				var reply map[string]any
				if err := json.Unmarshal(answer, &reply); err != nil {
					t.Fatal(err)
				}
				break
			}
			if time.Since(p.begun) > 10*time.Second*slow || !p.alive() {
				t.Fatalf("%s: no call was answered: %s, %v\n%s", kind, answer, err, p.output())
			}
			time.Sleep(2 * time.Millisecond) // between two knocks at a closed door
		}
		t.Logf("%s: the first call was answered %v after the process began", kind, time.Since(p.begun).Round(time.Millisecond))
		if kind == "first start" {
			p.kill()
			continue
		}
		if !p.says("Ctrl-C stops it.", 10*time.Second*slow) {
			t.Fatalf("%s: it does not become ready:\n%s", kind, p.output())
		}
		p.signal(syscall.SIGTERM)
		if code, took := p.exit(stopWithin); code != 0 {
			t.Fatalf("%s: exit code %d after %v\n%s", kind, code, took, p.output())
		}
	}
}
