package gateserver

import (
	"context"
	"fmt"
	"testing"

	"github.com/coder/websocket"

	"github.com/xiaonanln/goverse/gate"
	"github.com/xiaonanln/goverse/object"
)

// The client id of a connection's own session is good for the last calls over it; anybody
// else's, and one that comes by itself, only while its session lives.
func TestWhoseCallItIsWhenTheSessionHasEnded(t *testing.T) {
	g := gate.New(gate.Config{Address: "g:1"})
	c := &calls{gate: g}
	open := func() *gate.Session {
		s, err := g.Open()
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	mine, theirs := open(), open()
	defer theirs.Close(nil)
	own := over(t.Context(), mine)
	check := func(ctx context.Context, says, want string) {
		t.Helper()
		who, err := c.caller(ctx, says, new(object.Call))
		if err != nil || who.ClientID != want || !who.Client {
			t.Errorf("who says %q is %+v, %v; want %q", says, who, err, want)
		}
	}
	for range 2 { // while it lives, and when it has ended
		check(own, mine.ID(), mine.ID())
		check(own, "", "")
		check(own, theirs.ID(), theirs.ID())
		check(own, "g:1/nobody", "")
		mine.Close(nil)
	}
	check(t.Context(), mine.ID(), "")
	check(t.Context(), theirs.ID(), theirs.ID())
	check(t.Context(), "", "")
}

// Clients that say their last word and leave: a node that hears it knows whose it is.
func TestLastWordsHaveAName(t *testing.T) {
	seen := new(visitors)
	s := start(t, newCluster(seen.answer))
	c := dial(t, s)
	heard := 0
	check := func(door string) {
		t.Helper()
		for _, who := range seen.take() {
			heard++
			if who.ClientID == "" {
				t.Fatalf("%s: a node sees a call of nobody's", door)
			}
		}
	}
	for range 100 {
		k := talk(t, t.Context(), c)
		k.say(askFor(1, "M", text(t, "x")), askFor(2, "M", text(t, "x")))
		if err := k.stream.CloseSend(); err != nil {
			t.Fatal(err)
		}
		k.end()
		check("gRPC")
	}
	if heard != 200 {
		t.Errorf("%d of 200 calls were heard", heard)
	}
	for range 50 {
		p := socketTo(t, s)
		for i := range 8 {
			p.say(fmt.Sprintf(`{"op":"call","seq":%d,"type":"T","id":"i","method":"M","request":1}`, i))
		}
		p.say("nonsense") // it ends the session, and not the calls
		if e := p.closed(); e.Code != websocket.StatusPolicyViolation {
			t.Fatal(e)
		}
		check("WebSocket")
	}
	if heard <= 200 { // those that are under way when the session ends may not all be
		t.Errorf("no call over a WebSocket was heard")
	}
}
