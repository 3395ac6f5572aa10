package gateserver

import (
	"container/list"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/xiaonanln/goverse/internal/event"
	"github.com/xiaonanln/goverse/internal/fault"
)

// guests knows who is here, by address and, for calls beside their session, by client id,
// and keeps what each may do. It remembers those who have left as long as it has room. All
// methods may be called concurrently.
type guests struct {
	limits   atomic.Pointer[bounds] // that hold now
	patience time.Duration          // how long a client may take nothing of an answer
	beat     time.Duration          // after so much silence a connection of gRPC is asked whether it lives
	tell     func(event.Limit)
	untaken  *untaken

	mu     sync.Mutex // protects following fields, and those of each guest
	all    map[who]*guest
	recent list.List // of *guest, the latest first
	open   int       // connections
	cut    int       // of these, those that were refused and hear why
}

// who is an address, or a client id.
type who struct {
	address netip.Addr
	client  string
}

// maxVisitors are remembered at once. More are only those who are here.
const maxVisitors = 1 << 16

// guest is one of them. A nil guest may do everything.
type guest struct {
	of              *guests
	who             who
	place           *list.Element
	uses            int // connections and requests that hold it
	connections     int
	calls           int     // beside sessions
	asks            int     // who it is: of the EventHandler, at once
	connects, opens *bucket // of connections and sessions
	rate            *bucket // of calls
}

func newVisitors(cfg *GateServerConfig, tell func(event.Limit)) *guests {
	t := &guests{patience: cfg.WriteTimeout, beat: cfg.HeartbeatInterval, tell: tell, all: map[who]*guest{}}
	t.limits.Store(boundsOf(cfg))
	t.untaken = newUntaken(t.now().Limits, tell)
	return t
}

// bodyTime is how long the largest message may be on its way.
func (t *guests) bodyTime() time.Duration {
	limits := t.now()
	return limits.BodyGrace + time.Duration(float64(maxMessage)/float64(limits.BodyRate)*float64(time.Second))
}

// addressOf is how an address is counted; not valid: it is not.
func (t *guests) addressOf(ip netip.Addr) netip.Addr {
	ip = ip.Unmap().WithZone("")
	switch {
	case !ip.IsValid() || ip.IsLoopback() && !t.now().LimitLoopback || t.trusts(ip):
		return netip.Addr{}
	case ip.Is6():
		p, _ := ip.Prefix(64) // it has so many bits
		return p.Addr()
	}
	return ip
}

func (t *guests) trusts(ip netip.Addr) bool {
	for _, p := range t.now().proxies {
		if p.Contains(ip) {
			return true
		}
	}
	return false
}

// remoteIP is the address at the other end.
func remoteIP(a net.Addr) netip.Addr {
	if tcp, ok := a.(*net.TCPAddr); ok {
		return tcp.AddrPort().Addr().Unmap()
	}
	return netip.Addr{}
}

// forwarded is the client that proxies at ip name: the last in X-Forwarded-For that is no
// trusted proxy itself. What stands before it anybody can have written. Not valid: ip is
// no trusted proxy, or it names none.
func (t *guests) forwarded(ip netip.Addr, headers []string) netip.Addr {
	if len(headers) == 0 || !t.trusts(ip) {
		return netip.Addr{}
	}
	hops := strings.Split(strings.Join(headers, ","), ",")
	for i := len(hops) - 1; i >= 0; i-- {
		hop, err := netip.ParseAddr(strings.TrimSpace(hops[i]))
		if err != nil {
			return netip.Addr{}
		}
		if hop = hop.Unmap(); !t.trusts(hop) {
			return hop
		}
	}
	return netip.Addr{}
}

// visit is the guest of an address, held until leave; nil where nothing is counted.
func (t *guests) visit(ip netip.Addr) *guest {
	address := t.addressOf(ip)
	if !address.IsValid() {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.holdLocked(who{address: address})
}

func (t *guests) holdLocked(w who) *guest {
	v := t.all[w]
	if v == nil {
		v = t.newLocked(w)
	}
	v.uses++
	t.recent.MoveToFront(v.place)
	return v
}

func (t *guests) newLocked(w who) *guest {
	t.forgetLocked()
	v := &guest{of: t, who: w, rate: t.bucket(clientRate)}
	if w.address.IsValid() {
		v.rate = t.bucket(addressRate)
		v.connects, v.opens = t.bucket(opens), t.bucket(opens)
	}
	v.place = t.recent.PushFront(v)
	t.all[w] = v
	return v
}

// forgetLocked makes room for one more: whoever has been away the longest is forgotten.
// Those who are here are passed over, and are the latest then.
func (t *guests) forgetLocked() {
	for range min(8, t.recent.Len()) {
		if len(t.all) < maxVisitors {
			return
		}
		oldest := t.recent.Back().Value.(*guest)
		if oldest.uses > 0 {
			t.recent.MoveToFront(oldest.place)
			continue
		}
		t.recent.Remove(oldest.place)
		delete(t.all, oldest.who)
	}
}

// leave gives up a hold.
func (v *guest) leave() {
	if v == nil {
		return
	}
	v.of.mu.Lock()
	defer v.of.mu.Unlock()
	v.uses--
}

// connect lets a connection in, or says why not; then it may still be told.
func (t *guests) connect(ip netip.Addr) (v *guest, refusal *fault.Error) {
	v = t.visit(ip)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.open++
	if v != nil {
		v.connections++ // whatever comes of it: disconnect counts it out
	}
	switch limits := t.now(); {
	case limits.Connections >= 0 && t.open > limits.Connections:
		return v, t.refuse(event.Connections, "the gate has its %d connections; connect to another gate, or come again later", limits.Connections)
	case v == nil:
		return nil, nil
	case limits.AddressConnections >= 0 && v.connections > limits.AddressConnections:
		return v, t.refuse(event.AddressConnections, "your address has its %d connections; close one before the next", limits.AddressConnections)
	case !v.connects.allow():
		return v, t.refuse(event.AddressOpens, "your address opens more than %d connections per second; come again in a moment", limits.OpenRate)
	}
	return v, nil
}

func (t *guests) refuse(l event.Limit, format string, n int) *fault.Error {
	if t.tell != nil {
		t.tell(l)
	}
	e := fault.New(fault.Overloaded, format, n)
	e.RetryAfter = time.Second
	return e
}

// disconnect ends what connect began.
func (t *guests) disconnect(v *guest) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.open--
	if v != nil {
		v.connections--
		v.uses--
	}
}

// ask lets one more request of an address ask the EventHandler who it comes from: nobody
// takes all its places.
func (v *guest) ask() *fault.Error {
	if v == nil {
		return nil
	}
	v.of.mu.Lock()
	defer v.of.mu.Unlock()
	if v.asks >= maxAddressAsks {
		return v.of.refuse(event.AddressCalls, "%d requests of your address are being authenticated; come again in a moment", maxAddressAsks)
	}
	v.asks++
	return nil
}

// asked ends what ask began.
func (v *guest) asked() {
	if v == nil {
		return
	}
	v.of.mu.Lock()
	defer v.of.mu.Unlock()
	v.asks--
}

const maxAddressAsks = maxAuthorise / 8

// session lets a session in.
func (v *guest) session() *fault.Error {
	if v == nil || v.opens.allow() {
		return nil
	}
	return v.of.refuse(event.AddressOpens, "your address opens more than %d sessions per second; come again in a moment", v.of.now().OpenRate)
}

// asker is who makes the calls of a request or a stream. It is in their context; without
// one nothing is counted.
type asker struct {
	of      *guests
	address *guest
	stream  bool        // it counts its calls itself
	rate    *bucket     // of a stream
	unsent  *unsent     // of its connection; nil: not over gRPC
	here    func() bool // stops the clock of a request that is to arrive; may be nil
}

type askerKey struct{}

// streaming is the asker of a stream at the same address.
func (a *asker) streaming() *asker {
	if a == nil {
		return nil
	}
	s := &asker{of: a.of, address: a.address, stream: true}
	if a.address != nil {
		s.rate = a.of.bucket(clientRate)
	}
	return s
}

// call lets a call in, until done, or says why not. client is a session's id that is known
// to be one, or empty.
func (a *asker) call(client string) (v *guest, refusal *fault.Error) {
	if a == nil || a.address == nil {
		return nil, nil
	}
	if !a.rate.allow() {
		return nil, a.of.refuse(event.ClientRate, "you make more than %d calls per second; come again in a moment", a.of.now().ClientRate)
	}
	if !a.address.rate.allow() {
		return nil, a.of.refuse(event.AddressRate, "your address makes more than %d calls per second; come again in a moment", a.of.now().AddressRate)
	}
	if a.stream {
		return nil, nil
	}
	return a.of.callBeside(a.address, client)
}

// callBeside counts a call that comes by itself.
func (t *guests) callBeside(address *guest, client string) (*guest, *fault.Error) {
	limits := t.now()
	w, limit, reached := address.who, limits.AddressCalls, event.AddressCalls
	if client != "" {
		w, limit, reached = who{client: client}, limits.clientCalls, event.SessionCalls
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	v := t.holdLocked(w)
	switch {
	case limit >= 0 && v.calls >= limit:
		v.uses--
		e := t.refuse(reached, "you have %d calls under way; wait for an answer before the next", limit)
		e.RetryAfter = 100 * time.Millisecond
		return nil, e
	case client != "" && !v.rate.allow():
		v.uses--
		return nil, t.refuse(event.ClientRate, "you make more than %d calls per second; come again in a moment", limits.ClientRate)
	}
	v.calls++
	return v, nil
}

// done ends a call.
func (v *guest) done() {
	if v == nil {
		return
	}
	v.of.mu.Lock()
	defer v.of.mu.Unlock()
	v.calls--
	v.uses--
}
