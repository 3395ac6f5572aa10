package gateserver

import (
	"context"
	"crypto/tls"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/xiaonanln/goverse/internal/event"
	"github.com/xiaonanln/goverse/internal/fault"
)

// A connection whose client takes enough of what waits stays, however long that lasts; one
// that takes too little of it ends, once; and nobody ends where nothing waits.
func TestUnsent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const each, rate = 20 * time.Second, 1000
		var cut atomic.Int32
		u := &unsent{each: each, rate: rate, cut: func() { cut.Add(1) }}
		after := func(d time.Duration, want int32) {
			t.Helper()
			time.Sleep(d)
			synctest.Wait()
			if n := cut.Load(); n != want {
				t.Errorf("it was cut %d times, want %d", n, want)
			}
		}
		after(time.Hour, 0)
		u.kept(1 << 20)
		for range 40 {
			u.kept(-rate * 20)
			after(each, 0)
		}
		u.kept(-1<<20 + 40*rate*20) // all of it
		after(time.Hour, 0)
		u.kept(100_000)
		after(each-time.Second, 0)
		u.kept(-100_000)
		u.kept(100_000) // another: it has time of its own
		after(each-1, 0)
		u.kept(-rate*20 + 1)
		after(2, 1)
		u.kept(1 << 20)
		after(time.Hour, 1)
		u.end()
	})
}

// A connection may end before its first long message, which comes and goes behind that.
func TestUnsentBehindTheEnd(t *testing.T) {
	u := &unsent{each: time.Hour, rate: 1}
	u.end()
	u.kept(1 << 20)
	u.kept(-1 << 20)
	if u.bytes != 0 {
		t.Errorf("%d bytes are left", u.bytes)
	}
}

// An answer that may be long waits for room, in vain if its time is over, and a connection
// that ends lets everybody go.
func TestLongAnswersWaitForRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := &unsent{each: time.Hour, rate: 1, cut: func() {}}
		begin := func(ctx context.Context, n int) (began chan error) {
			began = make(chan error, 1)
			go func() { _, err := u.begin(ctx, n); began <- err }()
			synctest.Wait()
			return began
		}
		first, err := u.begin(t.Context(), 2*maxUnsent) // alone
		if err != nil {
			t.Fatal(err)
		}
		within, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		late := begin(within, 1)
		if err := <-late; fault.KindOf(err) != fault.Deadline || fault.OutcomeOf(err) != fault.NotExecuted {
			t.Errorf("it waited until %v", err)
		}
		second := begin(t.Context(), maxUnsent/2)
		if len(second) > 0 {
			t.Error("it did not wait")
		}
		u.kept(maxUnsent)
		first()
		synctest.Wait()
		if len(second) > 0 {
			t.Error("it did not wait for what is not taken")
		}
		u.kept(-maxUnsent / 2)
		if err := <-second; err != nil {
			t.Error(err)
		}
		third := begin(t.Context(), maxUnsent)
		u.end()
		if err := <-third; err != nil {
			t.Error(err)
		}
	})
}

// A client of HTTP/2 that opens no window for an answer loses it, and nothing else.
func TestAStreamThatNobodyReads(t *testing.T) {
	for _, name := range []string{"written", "flushed"} {
		t.Run(name, func(t *testing.T) {
			told := make(chan event.Limit, 8)
			cfg := GateServerConfig{WriteTimeout: 50 * time.Millisecond}
			v := newVisitors(&cfg, func(l event.Limit) { told <- l })
			wrote := make(chan error, 1)
			server := httptest.NewUnstartedServer(nil)
			server.Config = newHTTPServer(t.Context(), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/short" {
					return
				}
				var err error
				if name == "flushed" {
					_, _ = w.Write(make([]byte, 100))
					err = http.NewResponseController(w).Flush()
				} else {
					_, err = w.Write(make([]byte, 1<<20))
				}
				wrote <- err
			}), func(string) {})
			v.bound(server.Config)
			server.EnableHTTP2 = true
			server.StartTLS()
			defer server.Close()
			conn, err := tls.Dial("tcp", server.Listener.Addr().String(), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}})
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
			f := http2.NewFramer(conn, conn)
			f.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
			_, err = conn.Write([]byte(http2.ClientPreface))
			ask := func(stream uint32, path string) error {
				var block headerBlock
				for _, field := range [][2]string{{":method", "GET"}, {":scheme", "https"}, {":authority", "gate"}, {":path", path}} {
					block = block.add(field[0], field[1])
				}
				return f.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: block, EndHeaders: true, EndStream: true})
			}
			if err = errors.Join(err, f.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0}), ask(1, "/long")); err != nil {
				t.Fatal(err)
			}
			if err := <-wrote; !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("the handler wrote until %v", err)
			}
			if l := <-told; l != event.SlowReaders {
				t.Errorf("told of %v", l)
			}
			if err := ask(3, "/short"); err != nil {
				t.Fatal(err)
			}
			for reset, answered := false, false; !reset || !answered; {
				frame, err := f.ReadFrame()
				if err != nil {
					t.Fatalf("reset %v, answered %v, and then %v", reset, answered, err)
				}
				switch frame := frame.(type) {
				case *http2.RSTStreamFrame:
					reset = reset || frame.StreamID == 1
				case *http2.MetaHeadersFrame:
					answered = answered || frame.StreamID == 3
				}
			}
		})
	}
}

// headerBlock is fields as HPACK writes them that uses none of its tables.
type headerBlock []byte

func (b headerBlock) add(name, value string) headerBlock {
	b = append(b, 0, byte(len(name)))
	b = append(b, name...)
	b = append(b, byte(len(value)))
	return append(b, value...)
}
