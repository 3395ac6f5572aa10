package gate

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/xiaonanln/goverse/internal/event"
	"github.com/xiaonanln/goverse/internal/peer"
)

// What goes on, in the words of /debug/goverse: by door, who waits, and whose outbox is the
// fullest.
func TestCondition(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := New(Config{Address: "g:1", MaxSessions: 100})
		defer g.Close(nil)
		plain := open(t, g)
		plain.Through(event.AtWebSocket)
		silent, err := g.OpenResumable("", 0)
		if err != nil {
			t.Fatal(err)
		}
		silent.Through(event.AtEvents)
		gone, err := g.OpenResumable("", 0)
		if err != nil {
			t.Fatal(err)
		}
		gone.Through(event.AtGRPC)
		gone.Disconnect(nil)
		m := say(t, "canary")
		for range 2 {
			g.Deliver(peer.PushFrame{ClientIDs: []string{plain.ID(), silent.ID()}, Message: m})
		}
		if _, ok := silent.Next(); !ok { // it does not acknowledge
			t.Fatal("nothing came")
		}
		got, err := json.Marshal(g.Condition())
		if err != nil {
			t.Fatal(err)
		}
		size := len(m.Value)
		fullest := fmt.Sprintf(`{"client":%q,"door":"websocket","resumable":false,"away":false,"messages":2,"kept":0,"bytes":%d}`, plain.ID(), 2*size)
		other := fmt.Sprintf(`{"client":%q,"door":"events","resumable":true,"away":false,"messages":1,"kept":1,"bytes":%d}`, silent.ID(), 2*size)
		if plain.ID() > silent.ID() {
			fullest, other = other, fullest
		}
		want := fmt.Sprintf(`{"sessions":3,"max":100,"doors":{"events":1,"websocket":1},"resumable":2,"away":1,"messages":3,"kept":1,"bytes":%d,"pushed":4,"fullest":[%s,%s]}`,
			4*size, fullest, other)
		if string(got) != want {
			t.Errorf("%s\nwant\n%s", got, want)
		}
		for _, secret := range []string{silent.Token(), "canary"} {
			if strings.Contains(string(got), secret) {
				t.Errorf("it has %q", secret)
			}
		}
	})
}

// However many there are, few are named.
func TestConditionIsBounded(t *testing.T) {
	g := New(Config{Address: "g:1"})
	defer g.Close(nil)
	for range 3 * maxToldSessions {
		open(t, g)
	}
	g.Deliver(peer.PushFrame{Broadcast: true, Message: say(t, "x")})
	if c := g.Condition(); c.Sessions != 3*maxToldSessions || c.Messages != c.Sessions || len(c.Fullest) != maxToldSessions {
		t.Errorf("%d sessions, %d messages, %d named", c.Sessions, c.Messages, len(c.Fullest))
	}
}
