package gate

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/xiaonanln/goverse/internal/event"
	"github.com/xiaonanln/goverse/internal/peer"
)

// A push's time on its gate ends when the client's connection takes it, once, however often
// it is taken again over later connections. One that nobody timed is not measured.
func TestPushesAreMeasured(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var took []time.Duration
		g := New(Config{Address: "g:1", Listener: event.Listener{PushPassed: func(e event.PushPassed) {
			if e.Leg != event.ToClient {
				t.Errorf("it went the leg %v", e.Leg)
			}
			took = append(took, e.Took)
		}}})
		want := func(list ...time.Duration) {
			t.Helper()
			if !slices.Equal(took, list) {
				t.Errorf("measured %v, want %v", took, list)
			}
			took = nil
		}
		plain := open(t, g)
		again, err := g.OpenResumable("", 0)
		if err != nil {
			t.Fatal(err)
		}
		g.Deliver(peer.PushFrame{Broadcast: true, Message: say(t, "a"), At: time.Now()})
		time.Sleep(time.Second)
		g.Deliver(peer.PushFrame{Broadcast: true, Message: say(t, "b"), At: time.Now()})
		g.Deliver(peer.PushFrame{Broadcast: true, Message: say(t, "c")})
		time.Sleep(time.Second)
		drain(t, plain)
		want(2*time.Second, time.Second)
		drain(t, again)
		want(2*time.Second, time.Second)
		token := again.Token()
		again.Disconnect(nil)
		if again, err = g.OpenResumable(token, 0); err != nil || !again.Resumed() {
			t.Fatal(err)
		}
		if got := drain(t, again); len(got) != 3 {
			t.Errorf("it gets %q again", got)
		}
		want()
		g.Close(nil)
	})
}
