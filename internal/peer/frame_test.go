package peer

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/xiaonanln/goverse/internal/callctx"
	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/object"
)

// everything is a call that says all that a call can say.
func everything() (context.Context, *Request) {
	info := &callctx.Info{CallID: "c1",
		Caller: callctx.Caller{ClientID: "g:1/x", UserID: "ann", Roles: []string{"admin"}, Client: true},
		Chain: callctx.Chain{ID: callctx.ChainID{0: 0xab, 15: 1},
			Path: []callctx.Turn{{Type: "A", ID: "1", Method: "M", Shard: 7, Epoch: 300, Shared: true}}},
		Trace: callctx.ParseTrace("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "v=1")}
	return callctx.With(context.Background(), info), &Request{
		Call: object.Call{Op: object.OpDelete, Ref: object.Ref{Type: "Room", ID: "general"}, Method: "Join", ID: "c1", IDIfKept: true,
			ReadOnly: true, Payload: object.OfJSON([]byte(`{"a":1}`))},
		Shard: 4711, Epoch: 9, Hops: 1, Relay: "n:2",
	}
}

// The page shows what is sent, byte for byte.
func TestWireFormat(t *testing.T) {
	page, err := os.ReadFile("../../docs/format/wire.md")
	if err != nil {
		t.Fatal(err)
	}
	call := func(ctx context.Context, req *Request) []byte {
		body, err := appendCall(ctx, nil, req)
		if err != nil {
			t.Fatal(err)
		}
		b, _ := appendFrame(nil, kindCall, 300, body)
		return b
	}
	framed := func(k kind, body []byte) []byte {
		b, _ := appendFrame(nil, k, 300, body)
		return b
	}
	moved := fault.New(fault.WrongHolder, "it is held elsewhere")
	moved.Shard, moved.Epoch, moved.Holder = 4711, 9, "n:2"
	simple := callOf(text("hi"))
	simple.Shard, simple.Epoch = 7, 9
	for _, c := range []struct {
		name string
		sent []byte
	}{
		{"hello", hello{lowest: 1, highest: 1}.append(nil)},
		{"a hello with every feature", spoken(&Membership{}).append(nil)},
		{"a simple call", call(t.Context(), simple)},
		{"a call that says everything", call(everything())},
		{"its cancellation", framed(kindCancel, nil)},
		{"a reply", framed(kindReply, appendReply(nil, text("hi"), nil))},
		{"a reply in JSON", framed(kindReply, appendReply(nil, object.OfJSON([]byte(`"hi"`)), nil))},
		{"a reply without a message", framed(kindReply, appendReply(nil, object.Payload{}, nil))},
		{"a reply that was given before", framed(kindReply, appendReply(nil, object.Payload{Replayed: true}, nil))},
		{"a reply of which not all is stored", framed(kindReply, appendReply(nil, object.Payload{Unsaved: true}, nil))},
		{"a failure", framed(kindReply, appendReply(nil, object.Payload{}, moved))},
	} {
		if shown := c.name + "\n" + inHex(c.sent); !strings.Contains(string(page), "\n"+shown+"\n") {
			t.Errorf("the page does not show\n%s", shown)
		}
	}
	for _, limit := range []int{maxBatch, maxBody, maxPiece, laneLimits.running} {
		if shown := thousands(limit); !strings.Contains(string(page), shown) {
			t.Errorf("the page does not show the limit %s", shown)
		}
	}
}

// inHex is bytes as the page shows them: 24 in a line.
func inHex(b []byte) string {
	var lines []string
	for len(b) > 0 {
		n := min(24, len(b))
		lines = append(lines, fmt.Sprintf("  % x", b[:n]))
		b = b[n:]
	}
	return strings.Join(lines, "\n")
}

func thousands(n int) string {
	if n < 1000 {
		return fmt.Sprint(n)
	}
	return fmt.Sprintf("%s,%03d", thousands(n/1000), n%1000)
}

func TestEverythingArrives(t *testing.T) {
	ctx, sent := everything()
	ctx, cancel := context.WithTimeout(ctx, time.Hour)
	defer cancel()
	body, err := appendCall(ctx, nil, sent)
	if err != nil {
		t.Fatal(err)
	}
	var got Request
	var info callctx.Info
	timeout, err := parseCall(body, &got, &info)
	if err != nil || !reflect.DeepEqual(&got, sent) || !reflect.DeepEqual(&info, callctx.From(ctx)) {
		t.Errorf("got %+v %+v, %v", got, info, err)
	}
	if timeout > time.Hour || timeout < time.Hour-time.Minute {
		t.Errorf("%v are left", timeout)
	}
	clear(body) // the batch is used again
	if got.Relay != "n:2" || string(got.Payload.JSON) != `{"a":1}` {
		t.Error("what arrived is a view of the batch")
	}
	for cut := range body {
		if _, err := parseCall(body[:cut], new(Request), new(callctx.Info)); err == nil && cut < len(body)-len(sent.Payload.JSON) {
			t.Errorf("%d of %d bytes are taken for a call", cut, len(body))
		}
	}
}

func TestFramesThatAreNone(t *testing.T) {
	long, _ := appendFrame(nil, kindCall, 1, make([]byte, maxPiece))
	for name, b := range map[string][]byte{
		"unknown kind": {2, byte(kinds), 1}, "no call": {1, byte(kindCall)}, "the call is cut off": {2, byte(kindCall), 0x80},
		"cut off": {9, byte(kindCall), 1}, "nothing": {}, "a length without end": {0x80, 0x80}, "oversized": long,
	} {
		if f, _, err := cutFrame(b); err == nil {
			t.Errorf("%s: taken for %v", name, f)
		}
	}
}

func TestHello(t *testing.T) {
	for _, c := range []struct {
		own, other hello
		want       string
	}{
		{hello{1, 1, 0}, hello{1, 1, 0}, "{1 1 0}"},
		{hello{1, 3, 0b110}, hello{2, 5, 0b011}, "{3 3 2}"},
		{hello{1, 1, 0}, hello{2, 3, 0}, "it speaks the versions 2 to 3"},
		{hello{4, 5, 0}, hello{1, 3, 0}, "and this program 4 to 5"},
	} {
		f, _, err := cutFrame(c.other.append(nil))
		if err != nil {
			t.Fatal(err)
		}
		f.body = append(f.body, "what newer versions add"...)
		other, err := parseHello(f)
		if err != nil {
			t.Fatal(err)
		}
		got, err := c.own.agree(other)
		if said := fmt.Sprint(got, err); !strings.Contains(said, c.want) {
			t.Errorf("%v and %v agree on %s", c.own, c.other, said)
		}
	}
	for _, bad := range []frame{
		{kind: kindCall, body: []byte{1, 1, 0}}, {kind: kindHello}, {kind: kindHello, body: []byte{1, 1}},
		{kind: kindHello, body: []byte{0, 1, 0}}, {kind: kindHello, body: []byte{3, 2, 0}},
	} {
		if h, err := parseHello(bad); err == nil {
			t.Errorf("%v is taken for the hello %v", bad, h)
		}
	}
}

// Whatever stands in a batch, it is read as frames that would be written the same, or
// refused.
func FuzzFrames(f *testing.F) {
	f.Add(speaks.append(nil))
	b, _ := appendFrame(nil, kindCall, 1<<40, []byte("body"))
	f.Add(append(b, b...))
	f.Fuzz(func(t *testing.T, batch []byte) {
		for rest := batch; len(rest) > 0; {
			got, next, err := cutFrame(rest)
			if err != nil {
				return
			}
			if len(next) >= len(rest) || len(got.body) > maxBody+16 {
				t.Fatalf("%d bytes are left of %d", len(next), len(rest))
			}
			again, at := appendFrame(nil, got.kind, got.id, got.body)
			if kind(again[at]) != got.kind {
				t.Fatalf("the kind does not stand at %d of %x", at, again)
			}
			same, _, err := cutFrame(again)
			if err != nil || same.id != got.id || !bytes.Equal(same.body, got.body) {
				t.Fatalf("%v is written as %v: %v", got, same, err)
			}
			_, _ = parseHello(got)
			rest = next
		}
	})
}

// What is understood of a call is understood again when it is passed on.
func FuzzCallBody(f *testing.F) {
	for _, p := range []object.Payload{{}, text("x"), object.OfJSON([]byte("{}"))} {
		ctx, req := everything()
		req.Payload = p
		body, err := appendCall(ctx, nil, req)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(body)
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		var got, again Request
		var info, infoAgain callctx.Info
		if _, err := parseCall(body, &got, &info); err != nil {
			return
		}
		passed, err := appendCall(callctx.With(t.Context(), &info), nil, &got)
		if fault.KindOf(err) == fault.TooLarge {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		if info.Chain.ID == (callctx.ChainID{}) {
			info.Chain = callctx.Chain{} // none
		}
		if _, err := parseCall(passed, &again, &infoAgain); err != nil || !samePayload(got.Payload, again.Payload) ||
			!reflect.DeepEqual(withoutPayload(got), withoutPayload(again)) || !reflect.DeepEqual(info, infoAgain) {
			t.Fatalf("passed on as %+v %+v, was %+v %+v: %v", again, infoAgain, got, info, err)
		}
	})
}

func withoutPayload(r Request) Request { r.Payload = object.Payload{}; return r }

func samePayload(a, b object.Payload) bool {
	return a.Form == b.Form && a.Replayed == b.Replayed && a.Unsaved == b.Unsaved && proto.Equal(a.Binary, b.Binary) && bytes.Equal(a.JSON, b.JSON)
}

// A reply is a payload, a failure or a breach.
func FuzzReplyBody(f *testing.F) {
	f.Add(appendReply(nil, text("x"), nil), true)
	f.Add(appendReply(nil, object.OfJSON([]byte("{}")), nil), false)
	f.Add(appendReply(nil, object.Payload{Replayed: true, Unsaved: true}, nil), false)
	f.Add(appendReply(nil, object.OfBinary(&anypb.Any{TypeUrl: "x", Value: []byte("y")}), nil), true)
	f.Add(appendReply(nil, object.Payload{}, fault.New(fault.Cycle, "a circle")), false)
	f.Fuzz(func(t *testing.T, body []byte, live bool) {
		asked := object.FormBinary
		if live {
			asked = object.FormMessage
		}
		p, err, broken := parseReply(asked, body)
		switch {
		case broken != nil:
			return
		case err != nil:
			if fault.KindOf(err) == 0 {
				t.Fatalf("%v is no fault", err)
			}
		case p.Form == object.FormMessage && p.Message != nil:
		default:
			again, err, broken := parseReply(asked, appendReply(nil, p, nil))
			if err != nil || broken != nil || !samePayload(p, again) {
				t.Fatalf("%+v became %+v: %v %v", p, again, err, broken)
			}
		}
	})
}

// Whatever a peer sends over a lane, it is served, answered, or ends that lane; and
// nothing is left.
func FuzzLane(f *testing.F) {
	body, err := appendCall(context.Background(), nil, callOf(text("x")))
	if err != nil {
		f.Fatal(err)
	}
	call, _ := appendFrame(nil, kindCall, 1, body)
	cancel, _ := appendFrame(nil, kindCancel, 1, nil)
	other, _ := appendFrame(nil, kindCall, 2, body)
	f.Add(bytes.Join([][]byte{call, cancel, other}, nil), uint8(10))
	f.Add(append(call, call...), uint8(0))
	f.Fuzz(func(t *testing.T, sent []byte, cut uint8) {
		synctest.Test(t, func(t *testing.T) {
			near, far := newPipes()
			in := newInbound(t.Context(), fake{call: echo}, near, laneLimits)
			go func() { _ = in.run(); near.hangUp() }()
			go func() { // takes every answer
				for {
					if _, err := far.receive(); err != nil {
						return
					}
				}
			}()
			at := min(int(cut), len(sent))
			_ = far.put(append([]byte{}, sent[:at]...))
			_ = far.put(append([]byte{}, sent[at:]...))
			_ = far.closeSend()
			gone(in)
			if in.held < 0 || in.end() == nil {
				t.Errorf("%d bytes are held, and the lane ended with %v", in.held, in.end())
			}
		})
	})
}
