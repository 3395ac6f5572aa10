package gateserver

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/emptypb"

	gate_pb "github.com/xiaonanln/goverse/gate/proto"
	"github.com/xiaonanln/goverse/internal/event"
	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/object"
)

func visitorsOf(l Limits) *guests {
	return newVisitors(&GateServerConfig{Limits: l, MaxClientCalls: 2}, func(event.Limit) {})
}

// What counts as one address, and what as none.
func TestAddresses(t *testing.T) {
	v := visitorsOf(Limits{TrustedProxies: []string{"10.0.0.0/8", "fd00::1/128"}})
	for ip, want := range map[string]string{
		"192.0.2.1": "192.0.2.1", "::ffff:192.0.2.1": "192.0.2.1", "2001:db8:1:2:3::4": "2001:db8:1:2::", "fe80::1%eth0": "fe80::",
		"127.0.0.1": "", "::1": "", "10.1.2.3": "", "::ffff:10.1.2.3": "", "fd00::1": "", "fd00::2": "fd00::",
	} {
		if got := v.addressOf(netip.MustParseAddr(ip)); got.IsValid() != (want != "") || got.IsValid() && got.String() != want {
			t.Errorf("%s counts as %v, want %q", ip, got, want)
		}
	}
	if v.addressOf(netip.Addr{}).IsValid() {
		t.Error("no address counts as one")
	}
	if !visitorsOf(Limits{LimitLoopback: true}).addressOf(netip.MustParseAddr("127.0.0.1")).IsValid() {
		t.Error("loopback does not count though it is to")
	}
	for _, c := range []struct{ from, headers, want string }{
		{"10.0.0.1", "192.0.2.7", "192.0.2.7"}, {"10.0.0.1", "1.1.1.1, 192.0.2.7", "192.0.2.7"}, {"10.0.0.1", "192.0.2.7, 10.0.0.9", "192.0.2.7"},
		{"10.0.0.1", "192.0.2.7|10.0.0.9", "192.0.2.7"}, {"10.0.0.1", "", ""}, {"10.0.0.1", "10.0.0.3", ""}, {"10.0.0.1", "1.1.1.1, nonsense", ""},
		{"192.0.2.1", "1.1.1.1", ""}, {"127.0.0.1", "1.1.1.1", ""},
	} {
		var headers []string
		if c.headers != "" {
			headers = strings.Split(c.headers, "|")
		}
		if got := v.forwarded(netip.MustParseAddr(c.from), headers); got.IsValid() != (c.want != "") || got.IsValid() && got.String() != c.want {
			t.Errorf("%s with %q forwards for %v, want %q", c.from, c.headers, got, c.want)
		}
	}
}

func TestBadLimits(t *testing.T) {
	for text, l := range map[string]Limits{
		"10.0.0.1/33": {TrustedProxies: []string{"10.0.0.1/33"}}, "Limits.Connections is -2": {Connections: -2}, "Limits.BodyRate is -1": {BodyRate: -1},
		"IdleTimeout -1s": {IdleTimeout: -time.Second},
	} {
		_, err := NewGateServer(&GateServerConfig{Router: newCluster(echo), Limits: l})
		if err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%+v: %v, want %q", l, err, text)
		}
	}
}

// However many addresses come, the table is bounded, and keeps those who are here.
func TestTheTableOfVisitorsIsBounded(t *testing.T) {
	v := visitorsOf(Limits{})
	address := func(i int) netip.Addr { return netip.AddrFrom4([4]byte{192, byte(i >> 16), byte(i >> 8), byte(i)}) }
	here := v.visit(address(0))
	for i := 1; i < 2*maxVisitors; i++ {
		v.visit(address(i)).leave()
	}
	if len(v.all) > maxVisitors || v.recent.Len() != len(v.all) || v.all[here.who] != here {
		t.Errorf("%d are known, %d in order", len(v.all), v.recent.Len())
	}
	var many []*guest
	for i := range maxVisitors + 100 {
		many = append(many, v.visit(address(1<<20+i)))
	}
	if len(v.all) < len(many) {
		t.Errorf("of %d who are here %d are known", len(many), len(v.all))
	}
}

// A call on a stream allocates nothing for being counted.
func TestCountingAllocatesNothing(t *testing.T) {
	v := visitorsOf(Limits{})
	a := &asker{of: v, address: v.visit(netip.MustParseAddr("192.0.2.1"))}
	ctx := context.WithValue(t.Context(), askerKey{}, a.streaming())
	if n := testing.AllocsPerRun(1000, func() {
		if _, e := askerOf(ctx).call(""); e != nil {
			t.Error(e)
		}
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
	if n := testing.AllocsPerRun(1000, func() {
		v, e := a.call("")
		if e != nil {
			t.Error(e)
		}
		v.done()
	}); n > 0 {
		t.Errorf("%v allocations beside a stream", n)
	}
}

// strict is a gate that counts clients on loopback.
func strict(t *testing.T, l Limits, answer func(context.Context, object.Call) (object.Payload, error)) (*GateServer, *tales) {
	l.LimitLoopback = true
	told := &tales{of: map[event.Limit]int{}}
	return start(t, newCluster(answer), func(c *GateServerConfig) {
		c.Limits, c.MaxClientCalls = l, 2
		c.Listener.LimitReached = told.add
	}), told
}

// tales is which limits were told of.
type tales struct {
	mu sync.Mutex
	of map[event.Limit]int
}

func (s *tales) add(e event.LimitReached) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.of[e.Limit]++
}

func (s *tales) want(t *testing.T, l event.Limit) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.of[l] == 0 {
		t.Errorf("%v was not told of: %v", l, s.of)
	}
}

// wantRefused checks what a gRPC client hears of a limit.
func wantRefused(t *testing.T, what string, err error) {
	t.Helper()
	if kind, o := kindOf(err); kind != fault.Overloaded || o != fault.NotExecuted || status.Code(err) != codes.ResourceExhausted {
		t.Errorf("%s: %v, %v: %v", what, kind, o, err)
	}
	for _, d := range status.Convert(err).Details() {
		if r, ok := d.(*errdetails.RetryInfo); ok && r.RetryDelay.AsDuration() > 0 {
			return
		}
	}
	t.Errorf("%s: it is not said when to come again: %v", what, err)
}

// wantBusy checks what an HTTP client hears of one.
func wantBusy(t *testing.T, what string, r result) {
	t.Helper()
	if f := r.failure(t); r.status != http.StatusTooManyRequests || f.Code != "OVERLOADED" || f.Outcome != "NotExecuted" || r.header.Get("Retry-After") == "" {
		t.Errorf("%s: %+v", what, r)
	}
}

// Calls under way: a client's, of whatever door, and those of an address that belong to none.
func TestCallsUnderWay(t *testing.T) {
	entered, release := make(chan struct{}, 8), make(chan struct{})
	s, told := strict(t, Limits{AddressCalls: 2}, func(ctx context.Context, call object.Call) (object.Payload, error) {
		if call.Method == "Wait" {
			entered <- struct{}{}
			<-release
		}
		return call.Payload, nil
	})
	c := dial(t, s)
	k := talk(t, t.Context(), c)
	var waiting sync.WaitGroup
	for _, id := range []string{"", "", k.id, k.id} {
		waiting.Go(func() {
			if _, err := c.CallObject(t.Context(), &gate_pb.CallObjectRequest{Type: "T", Id: "i", Method: "Wait", ClientId: id}); err != nil {
				t.Error(err)
			}
		})
		<-entered
	}
	for _, id := range []string{"", k.id, "nobody"} {
		_, err := c.CallObject(t.Context(), &gate_pb.CallObjectRequest{Type: "T", Id: "i", Method: "M", ClientId: id})
		wantRefused(t, fmt.Sprintf("the third call of %q", id), err)
	}
	wantBusy(t, "a call over HTTP", request(t, s, "POST", "/api/v1/objects/T/i/M", ""))
	wantBusy(t, "a call over HTTP for the client", request(t, s, "POST", "/api/v1/objects/T/i/M", "", clientIDHeader, k.id))
	k.say(askFor(1, "M", nil)) // its stream counts for itself
	if k.next().GetCallObject() == nil {
		t.Error("the stream's own call is refused")
	}
	close(release)
	waiting.Wait()
	if got := request(t, s, "POST", "/api/v1/objects/T/i/M", ""); got.status != http.StatusOK {
		t.Errorf("afterwards: %+v", got)
	}
	told.want(t, event.AddressCalls)
	told.want(t, event.SessionCalls)
}

func TestRatesOfCalls(t *testing.T) {
	s, told := strict(t, Limits{ClientRate: 1, ClientBurst: 3, AddressRate: 1, AddressBurst: 6}, echo)
	c := dial(t, s)
	k := talk(t, t.Context(), c)
	for i := range 3 {
		k.say(askFor(uint64(i+1), "M", nil))
		if k.next().GetCallObject() == nil {
			t.Error("too early")
		}
	}
	refused := 0
	for i := 0; i < 1000 && refused == 0; i++ { // a busy machine lets a second pass now and then
		k.say(askFor(9, "M", nil))
		if f := k.next(); f.GetFailure() != nil {
			wantRefused(t, "a client's call", said(t, f.GetFailure()))
			refused++
		}
	}
	if refused == 0 {
		t.Error("a client calls as often as it wants")
	}
	told.want(t, event.ClientRate)
	refused = 0
	for i := 0; i < 1000 && refused == 0; i++ {
		if got := request(t, s, "POST", "/api/v1/objects/T/i/M", ""); got.status != http.StatusOK {
			wantBusy(t, "an address's call", got)
			refused++
		}
	}
	if refused == 0 {
		t.Error("an address calls as often as it wants")
	}
	told.want(t, event.AddressRate)
}

// Too many sessions at once: each door says so, and lets others be.
func TestRatesOfSessions(t *testing.T) {
	s, told := strict(t, Limits{OpenRate: 1, OpenBurst: 12}, echo)
	c := dial(t, s)
	k := talk(t, t.Context(), c)
	var err error
	for range 1000 {
		var stream grpc.ServerStreamingClient[anypb.Any]
		if stream, err = c.Register(t.Context(), &emptypb.Empty{}); err != nil {
			t.Fatal(err)
		}
		if _, err = stream.Recv(); err != nil {
			break
		}
	}
	wantRefused(t, "a session", err)
	k.say(askFor(1, "M", nil))
	if k.next().GetCallObject() == nil {
		t.Error("who is here already is cut off")
	}
	told.want(t, event.AddressOpens)
}

// Too many connections: they hear it in the words of their protocol, and are cut.
func TestConnections(t *testing.T) {
	s, told := strict(t, Limits{AddressConnections: 2}, echo)
	k := talk(t, t.Context(), dial(t, s))
	p := socketTo(t, s)
	wantBusy(t, "the third connection", request(t, s, "POST", "/api/v1/objects/T/i/M", ""))
	_, err := dial(t, s).CallObject(t.Context(), &gate_pb.CallObjectRequest{Type: "T", Id: "i", Method: "M"})
	wantRefused(t, "the fourth connection", err)
	if _, resp, err := websocket.Dial(t.Context(), "ws://"+s.HTTPAddr()+socketPath, &websocket.DialOptions{HTTPClient: &http.Client{Transport: transport(t)}}); err == nil || resp == nil || resp.StatusCode != http.StatusTooManyRequests {
		t.Errorf("a WebSocket: %v", err)
	} else {
		resp.Body.Close()
	}
	conn, err := net.Dial("tcp", s.HTTPAddr())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.Copy(io.Discard, conn); err != nil && !strings.Contains(err.Error(), "reset") { // it ends by itself
		t.Error(err)
	}
	k.say(askFor(1, "M", nil))
	p.say(`{"op":"call","seq":1,"type":"T","id":"i","method":"M"}`)
	if k.next().GetCallObject() == nil || p.next().Seq != 1 {
		t.Error("who is here already is cut off")
	}
	told.want(t, event.AddressConnections)
}

// The client that a trusted proxy names is counted, and not the proxy.
func TestClientsOfAProxy(t *testing.T) {
	s, _ := strict(t, Limits{AddressRate: 1, AddressBurst: 2, TrustedProxies: []string{"127.0.0.0/8"}}, echo)
	c := dial(t, s)
	ask := func(client string) (err error) {
		ctx := t.Context()
		if client != "" {
			ctx = metadata.AppendToOutgoingContext(ctx, "x-forwarded-for", client)
		}
		for range 200 {
			if _, err = c.CallObject(ctx, &gate_pb.CallObjectRequest{Type: "T", Id: "i", Method: "M"}); err != nil {
				return err
			}
		}
		return nil
	}
	if err := ask(""); err != nil {
		t.Errorf("the proxy itself: %v", err)
	}
	wantRefused(t, "a client", ask("192.0.2.1"))
	var last result
	for range 200 {
		if last = request(t, s, "POST", "/api/v1/objects/T/i/M", "", "X-Forwarded-For", "192.0.2.2"); last.status != http.StatusOK {
			break
		}
	}
	wantBusy(t, "another client, over HTTP", last)
	if got := request(t, s, "POST", "/api/v1/objects/T/i/M", "", "X-Forwarded-For", "192.0.2.3"); got.status != http.StatusOK {
		t.Errorf("a third: %+v", got)
	}
}

// Whoever is refused counts out as he counted in.
func TestConnectionsAreCountedOut(t *testing.T) {
	v := visitorsOf(Limits{Connections: 1, AddressConnections: 2})
	ip := netip.MustParseAddr("192.0.2.1")
	var here []*guest
	for i := range 5 {
		g, refusal := v.connect(ip)
		if (refusal != nil) != (i > 0) {
			t.Errorf("connection %d: %v", i, refusal)
		}
		here = append(here, g)
	}
	for _, g := range here {
		v.disconnect(g)
	}
	if g := here[0]; v.open != 0 || g.connections != 0 || g.uses != 0 {
		t.Errorf("%d connections, %d of the address, %d holds", v.open, g.connections, g.uses)
	}
}

// One address does not take all places where clients are authenticated.
func TestPlacesOfAnAddress(t *testing.T) {
	v := visitorsOf(Limits{})
	g := v.visit(netip.MustParseAddr("192.0.2.1"))
	for range maxAddressAsks {
		if e := g.ask(); e != nil {
			t.Fatal(e)
		}
	}
	if e := g.ask(); fault.KindOf(e) != fault.Overloaded || e.RetryAfter == 0 {
		t.Error(e)
	}
	g.asked()
	if e := g.ask(); e != nil {
		t.Error(e)
	}
}
