package gateserver

import (
	"context"
	"fmt"
	"testing"

	"google.golang.org/protobuf/types/known/anypb"

	gate_pb "github.com/xiaonanln/goverse/gate/proto"
	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/internal/peer"
)

// talkOn opens a stream with a hello of its own.
func talkOn(t *testing.T, ctx context.Context, c gate_pb.GateServiceClient, h *gate_pb.Hello) (*talker, *gate_pb.Welcome) {
	t.Helper()
	stream, err := c.Converse(ctx)
	if err != nil {
		t.Fatal(err)
	}
	k := &talker{t: t, stream: stream}
	k.say(&gate_pb.ClientFrame{Kind: &gate_pb.ClientFrame_Hello{Hello: h}})
	w := k.next().GetWelcome()
	if w == nil {
		t.Fatal("the gate does not begin with a welcome")
	}
	return k, w
}

// pushed is the next push or reset, in words.
func (k *talker) pushed() string {
	k.t.Helper()
	f := k.next()
	if r := f.GetReset_(); r != nil {
		return fmt.Sprintf("[%d-%d]", r.From, r.To)
	}
	return fmt.Sprintf("%d:%s", f.GetPush().GetSeq(), unpack(k.t, f.GetPush().GetMessage()))
}

func (k *talker) hears(want ...string) {
	k.t.Helper()
	for _, w := range want {
		if got := k.pushed(); got != w {
			k.t.Fatalf("heard %q, want %q", got, w)
		}
	}
}

func acked(seq uint64) *gate_pb.ClientFrame {
	return &gate_pb.ClientFrame{Kind: &gate_pb.ClientFrame_Ack{Ack: &gate_pb.Ack{Seq: seq}}}
}

func (c *cluster) pushText(t *testing.T, id string, texts ...string) {
	t.Helper()
	for _, s := range texts {
		a := text(t, s)
		c.push(peer.PushFrame{ClientIDs: []string{id}, Message: a, JSON: []byte(fmt.Sprintf("%q", s))})
	}
}

func TestAStreamIsResumed(t *testing.T) {
	cl := newCluster(echo)
	d := new(diary)
	s := start(t, cl, func(c *GateServerConfig) { c.Listener = d.listener() })
	c := dial(t, s)

	first, cut := context.WithCancel(t.Context())
	k, w := talkOn(t, first, c, &gate_pb.Hello{Resumable: true})
	if w.Token == "" || w.Resumed || w.ResumeMillis != 60_000 {
		t.Fatalf("welcome %v", w)
	}
	cl.pushText(t, w.ClientId, "a", "b", "c")
	k.hears("1:a", "2:b", "3:c")
	k.say(acked(2))
	cut()

	cl.pushText(t, w.ClientId, "d")
	k2, w2 := talkOn(t, t.Context(), c, &gate_pb.Hello{Resumable: true, Token: w.Token, Last: 2})
	if w2.ClientId != w.ClientId || !w2.Resumed || w2.Token == w.Token {
		t.Fatalf("welcome %v after %v", w2, w)
	}
	k2.hears("3:c", "4:d")

	// The used token opens another session, and leaves this one alone.
	k3, w3 := talkOn(t, t.Context(), c, &gate_pb.Hello{Resumable: true, Token: w.Token, Last: 4})
	if w3.ClientId == w.ClientId || w3.Resumed {
		t.Fatalf("welcome %v", w3)
	}
	k3.hears("[5-0]")

	// The right one takes over from a connection that lives.
	k4, w4 := talkOn(t, t.Context(), c, &gate_pb.Hello{Resumable: true, Token: w2.Token, Last: 4})
	if !w4.Resumed {
		t.Fatalf("welcome %v", w4)
	}
	if why, goodbye := k2.end(); kindIs(why) != fault.Canceled || kindIs(goodbye) != fault.Canceled {
		t.Errorf("the old connection ends with %v, goodbye %v", why, goodbye)
	}
	cl.pushText(t, w.ClientId, "e")
	k4.hears("5:e")
	k4.say(askFor(1, "M", text(t, "x")))
	if f := k4.next(); f.Call != 1 || f.GetCallObject() == nil {
		t.Errorf("a call on a resumed stream: %v", f)
	}

	// Half-closing is the client's own end, and nothing waits.
	if err := k4.stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	k4.end()
	d.wait(t, w.ClientId)
	k5, _ := talkOn(t, t.Context(), c, &gate_pb.Hello{Resumable: true, Token: w4.Token, Last: 5})
	k5.hears("[6-0]")
}

func kindIs(err error) fault.Kind {
	k, _ := kindOf(err)
	return k
}

func TestHostileAcknowledgementsOnAStream(t *testing.T) {
	cl := newCluster(echo)
	s := start(t, cl)
	c := dial(t, s)
	bystander, w := talkOn(t, t.Context(), c, &gate_pb.Hello{Resumable: true})
	for name, say := range map[string]func(*talker){
		"ahead":     func(k *talker) { k.say(acked(3)) },
		"backwards": func(k *talker) { k.say(acked(2), acked(1)) },
	} {
		k, own := talkOn(t, t.Context(), c, &gate_pb.Hello{Resumable: true})
		cl.pushText(t, own.ClientId, "a", "b")
		k.hears("1:a", "2:b")
		say(k)
		if why, _ := k.end(); kindIs(why) != fault.Invalid {
			t.Errorf("%s: the stream ends with %v", name, why)
		}
	}
	plain := talk(t, t.Context(), c)
	plain.say(acked(0))
	if why, _ := plain.end(); kindIs(why) != fault.Invalid {
		t.Errorf("a session without numbers: %v", why)
	}
	stream, err := c.Converse(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	liar := &talker{t: t, stream: stream}
	liar.say(&gate_pb.ClientFrame{Kind: &gate_pb.ClientFrame_Hello{Hello: &gate_pb.Hello{Resumable: true, Token: w.Token, Last: 9}}})
	if why, _ := liar.end(); kindIs(why) != fault.Invalid {
		t.Errorf("a resume behind what was sent: %v", why)
	}
	cl.pushText(t, w.ClientId, "still here")
	bystander.hears("1:still here")
}

func TestAPlainStreamHasNoNumbers(t *testing.T) {
	cl := newCluster(echo)
	s := start(t, cl)
	k, w := talkOn(t, t.Context(), dial(t, s), &gate_pb.Hello{Token: "x", Last: 7})
	if w.Token != "" || w.Resumed || w.ResumeMillis != 0 {
		t.Errorf("welcome %v", w)
	}
	cl.push(peer.PushFrame{Broadcast: true, Gap: true})
	cl.push(peer.PushFrame{ClientIDs: []string{w.ClientId}, Message: &anypb.Any{TypeUrl: "t/x"}})
	if p := k.next().GetPush(); p == nil || p.Seq != 0 {
		t.Errorf("heard %v", p)
	}
}
