package gateserver

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/protobuf/types/known/anypb"

	gate_pb "github.com/xiaonanln/goverse/gate/proto"
	"github.com/xiaonanln/goverse/internal/event"
	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/object"
)

// answers is where answers wait, in a bubble.
type answers struct {
	*untaken
	t       *testing.T
	telling sync.Mutex
	told    []event.Limit
	cut     []string
}

func newAnswers(t *testing.T, most, each int) *answers {
	a := &answers{t: t}
	a.untaken = newUntaken(Limits{AnswerBytes: most, AddressAnswerBytes: each}, func(l event.Limit) {
		a.telling.Lock()
		defer a.telling.Unlock()
		a.told = append(a.told, l)
	})
	return a
}

// portion is an answer to somebody at an address.
func (a *answers) portion(g *guest, name string) *portion {
	return a.portionOf(&asker{address: g}, func() { a.cut = append(a.cut, name) })
}

// begun is an answer that is being written.
func (a *answers) begun(g *guest, name string, size int) *portion {
	a.t.Helper()
	p := a.portion(g, name)
	if err := p.begin(a.t.Context(), size); err != nil {
		a.t.Fatal(err)
	}
	if err := p.keep(size); err != nil {
		a.t.Fatal(err)
	}
	return p
}

// begins is a call whose answer is to find room.
func (a *answers) begins(ctx context.Context, g *guest, size int) (*portion, chan error) {
	p, began := a.portion(g, "waits"), make(chan error, 1)
	go func() { began <- p.begin(ctx, size) }()
	synctest.Wait()
	return p, began
}

func (a *answers) empty() {
	a.t.Helper()
	if a.bytes != 0 || len(a.of) != 0 || a.writing.Len() != 0 || a.waiting.Len() != 0 {
		a.t.Errorf("at the end there are %d bytes, %v, and %d and %d answers", a.bytes, a.of, a.writing.Len(), a.waiting.Len())
	}
}

const mb = 1 << 20

// Who waits for the room of an address holds up nobody else; who waits for the gate's holds
// up those who come later. An answer that is alone has room in any case.
func TestAnswersWaitForRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAnswers(t, 10*mb, 4*mb)
		defer a.empty()
		greedy, modest, late := &guest{}, &guest{}, &guest{}
		whole := a.begun(greedy, "whole", 5*mb) // more than it may have
		again, waits := a.begins(t.Context(), greedy, mb)
		if len(waits) > 0 {
			t.Error("an address has more than its own")
		}
		other := a.begun(modest, "other", 4*mb)
		small, smallWaits := a.begins(t.Context(), nil, 3*mb)
		if len(smallWaits) > 0 {
			t.Error("the gate keeps more than it may")
		}
		last, lastWaits := a.begins(t.Context(), late, mb) // it would fit
		if len(lastWaits) > 0 {
			t.Error("somebody overtakes who waits for the gate's room")
		}
		other.done()
		other.done()
		synctest.Wait()
		if len(smallWaits) != 1 || len(lastWaits) != 1 || len(waits) != 0 {
			t.Errorf("with room for two, %d, %d and %d go on", len(smallWaits), len(lastWaits), len(waits))
		}
		whole.done()
		for _, ch := range []chan error{waits, smallWaits, lastWaits} {
			if err := <-ch; err != nil {
				t.Error(err)
			}
		}
		for _, p := range []*portion{again, small, last} {
			p.done()
		}
		if len(a.cut)+len(a.told) > 0 {
			t.Errorf("%v were cut, and it told of %v", a.cut, a.told)
		}
	})
}

// Answers of which something is taken stay, and who waits is refused in the end, before his
// call ran; or goes when he is tired of it.
func TestNoRoomForAnAnswer(t *testing.T) {
	for name, c := range map[string]struct {
		most, each int
		want       event.Limit
	}{
		"gate": {4 * mb, Unlimited, event.AnswerBytes}, "address": {Unlimited, 4 * mb, event.AddressAnswerBytes},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := newAnswers(t, c.most, c.each)
				defer a.empty()
				g := &guest{}
				slow := a.begun(g, "slow", 4*mb)
				ctx, cancel := context.WithTimeout(t.Context(), roomWait/2)
				defer cancel()
				_, tired := a.begins(ctx, g, mb)
				_, patient := a.begins(t.Context(), g, mb)
				away, gone := context.WithCancel(t.Context())
				_, vanished := a.begins(away, g, mb)
				gone()
				if err := <-vanished; fault.KindOf(err) != fault.Canceled || fault.OutcomeOf(err) != fault.NotExecuted {
					t.Errorf("who has gone got %v", err)
				}
				for range 2 * roomWait / idleAnswer {
					time.Sleep(idleAnswer / 2)
					if !slow.took() {
						t.Error("what is taken was cut")
					}
				}
				for _, waits := range []chan error{tired, patient} {
					e := fault.Of(<-waits)
					if e == nil || e.Kind != fault.Overloaded || fault.OutcomeOf(e) != fault.NotExecuted || e.RetryAfter != time.Second || !strings.Contains(e.Error(), "4 MiB") {
						t.Errorf("got %v", e)
					}
				}
				slow.done()
				if fmt.Sprint(a.told) != fmt.Sprint([]event.Limit{c.want, c.want}) || len(a.cut) > 0 {
					t.Errorf("it told of %v, and cut %v", a.told, a.cut)
				}
				time.Sleep(time.Hour) // nobody looks any more
			})
		})
	}
}

// Of answers that nobody takes as many make room as it needs, those that are idle the longest
// first, and of the address that somebody of it waits for.
func TestIdleAnswersMakeRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAnswers(t, 100*mb, 4*mb)
		defer a.empty()
		one, two := &guest{}, &guest{}
		others := a.begun(two, "others", 4*mb)
		first := a.begun(one, "first", 2*mb)
		time.Sleep(time.Millisecond)
		second := a.begun(one, "second", 2*mb)
		time.Sleep(idleAnswer / 2)
		first.took() // second is idle for longer now
		_, waits := a.begins(t.Context(), one, mb)
		time.Sleep(idleAnswer + lookEach)
		synctest.Wait()
		if got := strings.Join(a.cut, " "); got == "" || strings.Trim(got, "second ") != "" {
			t.Errorf("%q were cut", got)
		}
		if len(waits) > 0 {
			t.Error("it began while the writer was at work")
		}
		if second.took() {
			t.Error("who was cut writes on")
		}
		second.done()
		if err := <-waits; err != nil {
			t.Fatal(err)
		}
		second.end() // late: its handler may have gone
		cuts := len(a.cut)
		time.Sleep(time.Hour)
		if len(a.cut) != cuts {
			t.Errorf("%v were cut while nobody waits", a.cut)
		}
		first.done()
		others.done()
		a.bytes -= mb // of who waited, and is not done
		delete(a.of, one)
	})
}

// What a connection of gRPC keeps counts too. It is cut where others wait when nothing of it
// is taken for a while, and not as soon as an answer.
func TestAConnectionMakesRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAnswers(t, 4*mb, Unlimited)
		defer a.empty()
		u := &unsent{each: time.Hour, rate: 1}
		u.cut = func() { a.cut = append(a.cut, "connection"); u.end() }
		u.all = a.ofConnection(nil, u.giveUp)
		u.kept(2 * mb)
		u.kept(2 * mb)
		answer, waits := a.begins(t.Context(), nil, 3*mb)
		for range 4 { // it takes a little
			time.Sleep(idleAnswer)
			u.kept(-1)
		}
		synctest.Wait()
		if len(waits)+len(a.cut) > 0 {
			t.Errorf("cut %v", a.cut)
		}
		u.kept(-2 * mb)
		u.kept(-mb)
		if err := <-waits; err != nil {
			t.Error(err)
		}
		more, waits := a.begins(t.Context(), nil, mb)
		time.Sleep(idleConn + lookEach)
		if err := <-waits; err != nil || len(a.cut) != 1 {
			t.Errorf("got %v, cut %v", err, a.cut)
		}
		u.kept(-mb) // late: its connection has gone
		answer.done()
		more.done()
	})
}

// What nobody foresaw is kept where it has room, else the client hears that it ran.
func TestAnAnswerThatNobodyForesaw(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAnswers(t, 4*mb, Unlimited)
		defer a.empty()
		alone := a.portion(nil, "alone")
		if err := alone.keep(5 * mb); err != nil {
			t.Fatal(err)
		}
		short := a.portion(nil, "short")
		if err := short.keep(longAnswer - 1); err != nil {
			t.Fatal(err)
		}
		late := a.portion(nil, "late")
		err := late.keep(mb)
		if fault.KindOf(err) != fault.TooLarge || fault.OutcomeOf(err) != fault.Executed {
			t.Errorf("got %v", err)
		}
		late.done()
		time.Sleep(idleAnswer)
		if err := late.keep(mb); err == nil {
			t.Error("there is room before the idle one is gone")
		}
		synctest.Wait()
		if len(a.cut) != 1 || len(a.told) != 2 || alone.took() {
			t.Errorf("cut %v, told of %v", a.cut, a.told)
		}
		alone.done()
		grown := a.begun(nil, "grown", mb)
		grown.done()
		if err := grown.begin(t.Context(), mb); err != nil {
			t.Fatal(err)
		}
		if err := grown.keep(6 * mb); err != nil { // foreseen, if not how long
			t.Error(err)
		}
		grown.done()
	})
}

// So many calls wait for room; more are refused at once.
func TestTooManyWaitForRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAnswers(t, mb, Unlimited)
		defer a.empty()
		first := a.begun(nil, "first", mb)
		ctx, cancel := context.WithCancel(t.Context())
		var all sync.WaitGroup
		for range maxRoomWaits {
			p := a.portion(nil, "waits")
			all.Go(func() { _ = p.begin(ctx, mb); p.done() })
		}
		synctest.Wait()
		began := time.Now()
		if err := a.portion(nil, "more").begin(ctx, mb); fault.KindOf(err) != fault.Overloaded || time.Since(began) > 0 {
			t.Errorf("after %v got %v", time.Since(began), err)
		}
		cancel()
		synctest.Wait()
		first.done()
		all.Wait()
	})
}

// longText answers with 3 MiB of JSON.
func longText(context.Context, object.Call) (object.Payload, error) {
	return object.OfJSON([]byte(`"` + strings.Repeat("x", 3*mb) + `"`)), nil
}

// deaf asks for a long answer by HTTP and reads its first byte.
func deaf(t *testing.T, s *GateServer) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", s.HTTPAddr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	fmt.Fprint(conn, "POST /api/v1/objects/T/x/Long HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n")
	if _, err := io.ReadFull(conn, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	return conn
}

// A client that reads its answer gets it while another one reads none of his, who loses it.
func TestWhoReadsGetsTheRoom(t *testing.T) {
	told := make(chan event.Limit, 8)
	s := start(t, newCluster(longText), func(cfg *GateServerConfig) {
		cfg.Limits.AnswerBytes = 4 * mb
		cfg.WriteTimeout = time.Minute
		cfg.Listener.LimitReached = func(e event.LimitReached) { told <- e.Limit }
	})
	conn := deaf(t, s)
	if got := request(t, s, "POST", "/api/v1/objects/T/x/Other", ""); got.status != 413 || !strings.Contains(got.body, `"Executed"`) {
		t.Errorf("unforeseen: %+v", got)
	}
	if l := <-told; l != event.AnswerBytes {
		t.Errorf("told of %v", l)
	}
	if got := request(t, s, "POST", "/api/v1/objects/T/x/Long", ""); got.status != 200 || len(got.body) != 3*mb+2 {
		t.Errorf("foreseen: %d, %d bytes", got.status, len(got.body))
	}
	if l := <-told; l != event.SlowReaders {
		t.Errorf("told of %v", l)
	}
	if b, err := io.ReadAll(conn); len(b) > 2*mb || isTimeout(err) {
		t.Errorf("who read nothing got %d bytes and %v", len(b), err)
	}
}

// A browser's generated client is no exception.
func TestAWebAnswerWithoutRoom(t *testing.T) {
	s := start(t, newCluster(func(ctx context.Context, call object.Call) (object.Payload, error) {
		if call.Payload.Form == object.FormBinary {
			return object.OfBinary(anyOf(3 * mb)), nil
		}
		return longText(ctx, call)
	}), func(cfg *GateServerConfig) {
		cfg.Limits.AnswerBytes = 4 * mb
		cfg.WriteTimeout = time.Minute
	})
	deaf(t, s)
	ask := func() result {
		return request(t, s, "POST", webRoot+"CallObject", "\x12\x01T\x1a\x01x\x22\x01M", "Content-Type", "application/proto")
	}
	if got := ask(); got.status != 429 || !strings.Contains(got.body, "not kept") {
		t.Errorf("unforeseen: %+v", got)
	}
	if got := ask(); got.status != 200 || len(got.body) < 3*mb {
		t.Errorf("foreseen: %d, %d bytes", got.status, len(got.body))
	}
}

// Nor is a call over gRPC.
func TestAnAnswerOverGRPCWithoutRoom(t *testing.T) {
	s := start(t, newCluster(func(ctx context.Context, call object.Call) (object.Payload, error) {
		if call.Payload.Form == object.FormBinary {
			return object.OfBinary(anyOf(3 * mb)), nil
		}
		return longText(ctx, call)
	}), func(cfg *GateServerConfig) {
		cfg.Limits.AnswerBytes = 4 * mb
		cfg.WriteTimeout = time.Minute
	})
	deaf(t, s)
	c := dial(t, s)
	ask := func() (*gate_pb.CallObjectResponse, error) {
		return c.CallObject(t.Context(), &gate_pb.CallObjectRequest{Type: "T", Id: "x", Method: "M"})
	}
	if got, err := ask(); fault.KindOf(fault.FromStatus(err)) != fault.TooLarge || fault.OutcomeOf(fault.FromStatus(err)) != fault.Executed {
		t.Errorf("unforeseen: %d bytes, %v", len(got.GetResponse().GetValue()), err)
	}
	if got, err := ask(); err != nil || len(got.Response.Value) != 3*mb {
		t.Errorf("foreseen: %v", err)
	}
}

// A stream of HTTP/2 whose client opens no window makes room as a connection does.
func TestAStreamMakesRoom(t *testing.T) {
	told := make(chan event.Limit, 8)
	tell := func(l event.Limit) { told <- l }
	u := newUntaken(Limits{AnswerBytes: mb, AddressAnswerBytes: Unlimited}, tell)
	writing, wrote := make(chan struct{}), make(chan error, 1)
	server := httptest.NewUnstartedServer(nil)
	server.Config = newHTTPServer(t.Context(), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		d := &httpDoor{calls: &calls{untaken: u}}
		p := d.portion(w, r)
		defer p.done()
		if err := p.keep(mb); err != nil {
			t.Error(err)
		}
		close(writing)
		_, err := (&takenWriter{w, p}).Write(make([]byte, mb))
		wrote <- err
	}), func(string) {})
	newVisitors(&GateServerConfig{WriteTimeout: time.Minute}, tell).bound(server.Config)
	server.EnableHTTP2 = true
	server.StartTLS()
	defer server.Close()
	conn, err := tls.Dial("tcp", server.Listener.Addr().String(), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	_, _ = io.WriteString(conn, http2.ClientPreface) // the next write tells
	f := http2.NewFramer(conn, conn)
	if err := f.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0}); err != nil {
		t.Fatal(err)
	}
	block := headerBlock{}.add(":method", "GET").add(":scheme", "https").add(":authority", "gate").add(":path", "/long")
	if err := f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block, EndHeaders: true, EndStream: true}); err != nil {
		t.Fatal(err)
	}
	<-writing
	p := u.portionOf(nil, func() {})
	defer p.done()
	if err := p.begin(t.Context(), mb); err != nil {
		t.Error(err)
	}
	if err := <-wrote; err == nil {
		t.Error("it was written")
	}
	if l := <-told; l != event.SlowReaders {
		t.Errorf("told of %v", l)
	}
}

func isTimeout(err error) bool {
	e, ok := err.(net.Error)
	return ok && e.Timeout()
}

func anyOf(size int) *anypb.Any { return &anypb.Any{Value: make([]byte, size)} }
