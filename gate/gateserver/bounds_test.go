package gateserver

import (
	"context"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/object"
)

// Rates hold at once, for who is known and for who has a stream; a limit can come and go.
func TestRatesFollowTheLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := visitorsOf(Limits{ClientRate: 1, AddressRate: 2, OpenRate: 1, OpenBurst: 1})
		change := func(l Limits) { v.change(boundsOf(&GateServerConfig{Limits: l, MaxClientCalls: 2})) }
		ip := netip.MustParseAddr("192.0.2.1")
		g := v.visit(ip)
		stream := (&asker{of: v, address: g}).streaming()
		burst := func() (let int) {
			for let < 100 {
				if guest, refusal := stream.call(""); refusal != nil {
					break
				} else if guest.done(); true {
					let++
				}
			}
			return let
		}
		expect := func(what string, got, want int) {
			t.Helper()
			if got != want {
				t.Errorf("%s: %d calls were let in, want %d", what, got, want)
			}
		}
		expect("at first", burst(), 1)
		change(Limits{ClientRate: 30, AddressRate: 20})
		expect("with more", burst(), 20)
		change(Limits{ClientRate: Unlimited, AddressRate: Unlimited})
		expect("without limits", burst(), 100)
		change(Limits{ClientRate: 3, AddressRate: Unlimited})
		expect("with less", burst(), 3)
		change(Limits{ClientRate: 3, AddressRate: 50})
		expect("with the same", burst(), 0)
		time.Sleep(time.Second)
		expect("a second later", burst(), 3)

		for _, most := range []int{1, 2, 0} { // 0 is the default, 2000
			change(Limits{AddressConnections: most})
			if _, refusal := v.connect(ip); refusal != nil {
				t.Errorf("up to %d connections: %v", most, refusal)
			}
			if most == 0 {
				break
			}
			if guest, refusal := v.connect(ip); fault.KindOf(refusal) != fault.Overloaded {
				t.Errorf("more than %d connections: %v", most, refusal)
			} else {
				v.disconnect(guest)
			}
		}
	})
}

// An answer that waits for room has it as soon as there is more.
func TestMoreRoomForAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAnswers(t, mb, Unlimited)
		first, second := a.portionOf(nil, func() {}), a.portionOf(nil, func() {})
		if err := first.begin(t.Context(), mb); err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- second.begin(t.Context(), mb) }()
		synctest.Wait()
		a.change(2*mb, Unlimited)
		synctest.Wait()
		select {
		case err := <-ended:
			if err != nil {
				t.Error(err)
			}
		default:
			t.Error("it waits still")
			<-ended
		}
		first.done()
		second.done()
	})
}

// A running gate takes up all limits but those of its listeners; what is wrong changes nothing.
func TestSetLimits(t *testing.T) {
	entered, let := make(chan struct{}), make(chan struct{})
	router := newCluster(func(_ context.Context, call object.Call) (object.Payload, error) {
		if call.Method == "Wait" {
			entered <- struct{}{}
			<-let
		}
		return object.OfJSON([]byte("{}")), nil
	})
	s := start(t, router, func(c *GateServerConfig) { c.MaxCalls, c.MaxSessions = 1, 1 })
	var waiting sync.WaitGroup
	defer waiting.Wait()
	defer close(let)
	waiting.Go(func() { request(t, s, "POST", "/api/v1/objects/T/a/Wait", "") })
	<-entered
	ask := func() int { return request(t, s, "POST", "/api/v1/objects/T/a/Go", "").status }
	if got := ask(); got != 429 {
		t.Errorf("with one call at once: %d", got)
	}
	socketTo(t, s)
	if err := s.SetLimits(&GateServerConfig{MaxCalls: 2, MaxSessions: 2, Limits: Limits{AddressCalls: 7}}); err != nil {
		t.Fatal(err)
	}
	if got := ask(); got != 200 {
		t.Errorf("with two: %d", got)
	}
	socketTo(t, s)
	for want, wrong := range map[string]GateServerConfig{
		"MaxCalls is -1":                        {MaxCalls: -1},
		"Limits.OpenRate is -7":                 {Limits: Limits{OpenRate: -7}},
		`Limits.TrustedProxies has "x"`:         {Limits: Limits{TrustedProxies: []string{"x"}}},
		"Limits.HeaderBytes is 65536 and would": {Limits: Limits{HeaderBytes: 1}},
		"Limits.IdleTimeout is 5m0s and would":  {Limits: Limits{IdleTimeout: time.Hour}},
	} {
		if err := s.SetLimits(&wrong); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
	if got := ask(); got != 200 {
		t.Errorf("behind what was wrong: %d", got)
	}
	idle, err := NewGateServer(&GateServerConfig{Router: router})
	if err != nil {
		t.Fatal(err)
	}
	if err := idle.SetLimits(&GateServerConfig{}); err == nil {
		t.Error("a gate that does not run took limits up")
	}
}
