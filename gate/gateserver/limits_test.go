package gateserver

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/xiaonanln/goverse/internal/event"
	"github.com/xiaonanln/goverse/object"
)

// Each limit of a gate is told of when a call comes up against it, and counted.
func TestLimitsAreTold(t *testing.T) {
	for _, c := range []struct {
		limit  event.Limit
		breach func(t *testing.T, s *GateServer, entered, let chan struct{})
		told   string
	}{
		{event.MessageBytes, func(t *testing.T, s *GateServer, _, _ chan struct{}) {
			for _, path := range []string{"/api/v1/objects/T/echo/M", "/api/v1/objects/call/T/echo/M"} {
				if got := request(t, s, "POST", path, strings.Repeat(" ", maxMessage+1)); got.status != 413 {
					t.Errorf("%+v", got)
				}
			}
			if got := request(t, s, "POST", "/api/v1/objects/T/large/M", ""); got.status != 413 {
				t.Errorf("%+v", got)
			}
		}, "2 message_bytes of , 1 message_bytes of large"},
		{event.ObjectID, func(t *testing.T, s *GateServer, _, _ chan struct{}) {
			p := socketTo(t, s)
			p.say(fmt.Sprintf(`{"op":"call","seq":1,"type":"T","id":%q,"method":"M"}`, strings.Repeat("x", object.MaxIDLen+1)))
			if f := p.next(); f.Seq != 1 || f.Error == "" {
				t.Errorf("%+v", f)
			}
		}, "1 object_id of "},
		{event.GateCalls, func(t *testing.T, s *GateServer, entered, let chan struct{}) {
			var first sync.WaitGroup
			defer first.Wait()
			defer close(let)
			first.Go(func() { request(t, s, "POST", "/api/v1/objects/T/waits/M", "") })
			<-entered
			if got := request(t, s, "POST", "/api/v1/objects/T/echo/M", ""); got.status != 429 {
				t.Errorf("%+v", got)
			}
		}, "1 gate_calls of echo"},
		{event.SessionCalls, func(t *testing.T, s *GateServer, _, let chan struct{}) {
			defer close(let)
			p := socketTo(t, s)
			for i := range maxSocketCalls + 1 {
				p.say(fmt.Sprintf(`{"op":"call","seq":%d,"type":"T","id":"hangs","method":"M"}`, i))
			}
			if f := p.next(); f.Code != "OVERLOADED" {
				t.Errorf("%+v", f)
			}
		}, "1 session_calls of "},
	} {
		t.Run(c.limit.String(), func(t *testing.T) {
			entered, let := make(chan struct{}), make(chan struct{})
			answer := func(_ context.Context, call object.Call) (object.Payload, error) {
				switch call.Ref.ID {
				case "large":
					return object.OfJSON(bytes.Repeat([]byte(" "), maxMessage+1)), nil
				case "waits":
					close(entered)
					<-let
				case "hangs":
					<-let
				}
				return object.OfJSON([]byte("{}")), nil
			}
			var mu sync.Mutex
			told := map[string]int{}
			s := start(t, newCluster(answer), func(cfg *GateServerConfig) {
				if c.limit == event.GateCalls {
					cfg.MaxCalls = 1
				}
				cfg.Listener.LimitReached = func(e event.LimitReached) {
					mu.Lock()
					defer mu.Unlock()
					told[fmt.Sprintf("%v of %s", e.Limit, e.ID)]++
				}
			})
			c.breach(t, s, entered, let)
			mu.Lock()
			defer mu.Unlock()
			var all []string
			sum := 0
			for _, what := range slices.Sorted(maps.Keys(told)) {
				all = append(all, fmt.Sprintf("%d %s", told[what], what))
				sum += told[what]
			}
			if got := strings.Join(all, ", "); got != c.told {
				t.Errorf("it told of %q, want %q", got, c.told)
			}
			if want := fmt.Sprintf("goverse_limit_reached_total{limit=%q} %d\n", c.limit.String(), sum); !strings.Contains(s.counters.String(), want) {
				t.Errorf("%s is missing in:\n%s", want, s.counters.String())
			}
		})
	}
}
