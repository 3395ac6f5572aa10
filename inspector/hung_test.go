package inspector

import (
	"context"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/xiaonanln/goverse/cluster/etcdmanager/memkv"
	"github.com/xiaonanln/goverse/internal/peer"
)

// hang opens the feed as a browser does, and never reads it.
func hang(t *testing.T, url string) net.Conn {
	t.Helper()
	address := strings.TrimPrefix(url, "http://")
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.(*net.TCPConn).SetReadBuffer(4 << 10); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Write([]byte("GET /api/v1/feed HTTP/1.1\r\nHost: " + address + "\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	return conn
}

// Viewers who never read hold nobody up: who reads gets each frame, nothing is kept for
// those who do not, and they cost no more goroutines however much there is to tell.
func TestHungViewersBlockNobody(t *testing.T) {
	const hung, frames, size = 20, 300, 64 << 10 // 20 MB for each: no socket holds that
	store := memkv.NewStore()
	put(t, store, twoNodes)
	url, i := startInspector(t, store, Config{Dialer: peer.NewNetwork().Dialer("inspector")}) // nobody answers
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	reads, _, err := websocket.Dial(ctx, strings.Replace(url, "http", "ws", 1)+"/api/v1/feed", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer reads.CloseNow()
	reads.SetReadLimit(1 << 20)
	await := func(what string) {
		t.Helper()
		for {
			_, frame, err := reads.Read(ctx)
			if err != nil {
				t.Fatalf("who reads waits in vain for %s: %v", what, err)
			}
			if strings.Contains(string(frame), what) {
				return
			}
		}
	}
	await(`"op":"snapshot"`)
	for range hung {
		defer hang(t, url).Close()
	}
	for i.viewers.Load() < hung+1 {
		if runtime.Gosched(); ctx.Err() != nil {
			t.Fatalf("%d viewers came", i.viewers.Load())
		}
	}
	before := runtime.NumGoroutine()
	pad := strings.Repeat("x", size)
	for n := range frames {
		begun := time.Now()
		i.feed.Tell(Change{Kind: OfAction, Text: pad, Count: n + 1})
		if took := time.Since(begun); took > 5*time.Second {
			t.Fatalf("to tell frame %d took %v", n, took)
		}
	}
	i.feed.Tell(Change{Kind: OfAction, Text: "the last"})
	await("the last")
	if after := runtime.NumGoroutine(); after > before+hung {
		t.Errorf("%d goroutines for %d viewers who do not read, and %d before there was something to tell", after, hung, before)
	}
	i.feed.mu.Lock()
	defer i.feed.mu.Unlock()
	if n := len(i.feed.frames); n > keptFrames {
		t.Errorf("%d frames are kept", n)
	}
}
