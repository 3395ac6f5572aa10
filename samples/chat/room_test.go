package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/xiaonanln/goverse/goverseapi"
	"github.com/xiaonanln/goverse/goversetest"
	chat_pb "github.com/xiaonanln/goverse/samples/chat/proto"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var house = goversetest.Cluster{Types: []goversetest.Type{goversetest.Of(chat_pb.NewChatRoomType((*ChatRoom)(nil)))}}

const general = "ChatRoom/general"

// caller is a client, or code on a node.
type caller interface {
	Call(ref, method string, req proto.Message) proto.Message
	TryCall(ref, method string, req proto.Message) (proto.Message, error)
}

func join(c caller, name string) *chat_pb.JoinResponse {
	return c.Call(general, "Join", &chat_pb.JoinRequest{UserName: name}).(*chat_pb.JoinResponse)
}

func send(c caller, name, text, id string) *chat_pb.ChatMessage {
	reply := c.Call(general, "SendMessage", &chat_pb.SendMessageRequest{UserName: name, Message: text, MessageId: id})
	return reply.(*chat_pb.SendMessageResponse).Message
}

func history(c caller, after int64) []*chat_pb.ChatMessage {
	return c.Call(general, "History", &chat_pb.HistoryRequest{After: after}).(*chat_pb.HistoryResponse).Messages
}

// hears checks what the next push to each of these clients is.
func hears(t testing.TB, want proto.Message, clients ...*goversetest.Client) {
	t.Helper()
	for _, c := range clients {
		if got := c.Next(); !proto.Equal(got, want) {
			t.Fatalf("%s hears %v, want %v", c.ID(), got, want)
		}
	}
}

func here(users ...string) *chat_pb.Presence {
	return &chat_pb.Presence{Room: "general", Users: users}
}

func wantMessages(t testing.TB, got []*chat_pb.ChatMessage, want ...*chat_pb.ChatMessage) {
	t.Helper()
	if !slices.EqualFunc(got, want, func(a, b *chat_pb.ChatMessage) bool { return proto.Equal(a, b) }) {
		t.Fatalf("the room shows %v, want %v", got, want)
	}
}

func TestTalk(t *testing.T) {
	goversetest.Run(t, house, func(w *goversetest.World) {
		ann, bob := w.Connect(), w.Connect()
		join(ann, "ann")
		hears(w.T, here("ann"), ann)
		if users := join(bob, " bob ").Users; !slices.Equal(users, []string{"ann", "bob"}) {
			w.T.Fatalf("bob finds %q", users)
		}
		hears(w.T, here("ann", "bob"), ann, bob)

		first := send(ann, "ann", "  hello\n", "")
		if first.Number != 1 || first.UserName != "ann" || first.Message != "hello" || first.Room != "general" || first.SentUnixMs == 0 {
			w.T.Fatalf("the first message is %v", first)
		}
		hears(w.T, first, ann, bob)
		second := send(w, "guest", "from the node itself", "") // who has not joined may write
		hears(w.T, second, ann, bob)
		wantMessages(w.T, history(bob, 0), first, second)
		wantMessages(w.T, history(bob, 1), second)
		wantMessages(w.T, history(bob, 2))
		wantMessages(w.T, history(bob, 1<<62))
		wantMessages(w.T, history(bob, -1<<63), first, second)

		bob.Call(general, "Leave", &chat_pb.LeaveRequest{UserName: "bob"})
		hears(w.T, here("ann"), ann)
		third := send(ann, "ann", "is anybody here?", "")
		hears(w.T, third, ann)
		join(bob, "bob")
		hears(w.T, here("ann", "bob"), ann, bob) // and nothing of the third before it

		// A closed page speaks once more, but no longer through its stream.
		w.Call(general, "Leave", &chat_pb.LeaveRequest{UserName: "bob", ClientId: bob.ID()})
		hears(w.T, here("ann"), ann)
	})
}

// A typed reference reads the same wherever the call begins.
func TestTypedReference(t *testing.T) {
	goversetest.Run(t, house, func(w *goversetest.World) {
		ann := w.Connect()
		var said []*chat_pb.ChatMessage
		for i, caller := range []goverseapi.Caller{w, ann, goverseapi.Runtime()} {
			ctx, room := w.Context(), chat_pb.NewChatRoomRef(caller, "general")
			if joined, err := room.Join(ctx, &chat_pb.JoinRequest{UserName: "ann"}); err != nil || joined.GetLastNumber() != int64(i) {
				w.T.Fatal(joined, err)
			}
			sent, err := room.SendMessage(ctx, &chat_pb.SendMessageRequest{UserName: "ann", Message: fmt.Sprint(i)})
			if err != nil {
				w.T.Fatal(err)
			}
			said = append(said, sent.GetMessage())
			shown, err := room.History(ctx, nil)
			if err != nil {
				w.T.Fatal(err)
			}
			wantMessages(w.T, shown.GetMessages(), said...)
		}
	})
}

// A sender that was not answered says it again: the room keeps it once.
func TestSayAgain(t *testing.T) {
	goversetest.Run(t, house, func(w *goversetest.World) {
		ann := w.Connect()
		join(ann, "ann")
		hears(w.T, here("ann"), ann)
		first := send(ann, "ann", "once", "id-1")
		hears(w.T, first, ann)
		if again := send(ann, "ann", "once", "id-1"); !proto.Equal(again, first) {
			w.T.Fatalf("the repetition is %v, want %v", again, first)
		}
		others := send(ann, "bob", "the same id, but bob's", "id-1")
		hears(w.T, others, ann) // and not once more the first
		w.Restart()
		if again := send(ann, "ann", "once", "id-1"); !proto.Equal(again, first) {
			w.T.Fatalf("after a restart the repetition is %v, want %v", again, first)
		}
		wantMessages(w.T, history(ann, 0), first, others)
	})
}

// What was said survives; who was here has to join again.
func TestRestart(t *testing.T) {
	goversetest.Run(t, house, func(w *goversetest.World) {
		ann := w.Connect()
		join(ann, "ann")
		hears(w.T, here("ann"), ann)
		first, second := send(ann, "ann", "one", ""), send(ann, "ann", "two", "")
		hears(w.T, first, ann)
		hears(w.T, second, ann)
		w.Restart()
		reply := ann.Call(general, "Join", &chat_pb.JoinRequest{UserName: "ann", After: 1}).(*chat_pb.JoinResponse)
		wantMessages(w.T, reply.Messages, second)
		if reply.LastNumber != 2 || !slices.Equal(reply.Users, []string{"ann"}) {
			w.T.Fatalf("after a restart ann finds %v", reply)
		}
		third := send(ann, "ann", "three", "")
		wantMessages(w.T, history(ann, 0), first, second, third)

		if err := w.Delete(general); err != nil {
			w.T.Fatal(err)
		}
		if reply := join(ann, "ann"); reply.LastNumber != 0 || len(reply.Messages) != 0 {
			w.T.Fatalf("the deleted room has %v", reply)
		}
	})
}

func TestKill(t *testing.T) {
	goversetest.Sim(t, house, func(w *goversetest.World) {
		ann := w.Connect()
		first := send(ann, "ann", "answered", "")
		w.Kill()
		wantMessages(w.T, history(ann, 0), first)
	})
}

// Who has not joined again for 45 seconds has left.
func TestPresence(t *testing.T) {
	goversetest.Sim(t, house, func(w *goversetest.World) {
		ann, bob := w.Connect(), w.Connect()
		join(ann, "ann")
		join(bob, "bob")
		join(w, "curl") // it has no push stream
		hears(w.T, here("ann"), ann)
		hears(w.T, here("ann", "bob"), ann, bob)
		hears(w.T, here("ann", "bob", "curl"), ann, bob)
		join(w.Connect(), "ann") // her other window
		for range 2 {
			w.Advance(20 * time.Second)
			join(ann, "ann")
			join(bob, "bob")
		}
		w.Advance(10 * time.Second)
		if users := join(bob, "bob").Users; !slices.Equal(users, []string{"ann", "bob"}) {
			w.T.Fatalf("after 50 s without curl here are %q", users)
		}
		hears(w.T, here("ann", "bob"), ann, bob)
		join(ann, "anna")
		hears(w.T, here("anna", "bob"), ann, bob)
		ann.Close()
		w.Advance(46 * time.Second)
		if users := join(bob, "bob").Users; !slices.Equal(users, []string{"bob"}) {
			w.T.Fatalf("long after anna has gone here are %q", users)
		}
		hears(w.T, here("bob"), bob)
	})
}

// A room keeps its newest messages, by number and by size.
func TestBounds(t *testing.T) {
	r := &ChatRoom{state: &chat_pb.RoomState{}}
	say := func(times int, text string) {
		for range times {
			r.keep(&chat_pb.ChatMessage{Number: r.state.LastNumber + 1, UserName: "ann", Message: text})
		}
	}
	wantKept := func(first, last int64) {
		t.Helper()
		kept, size := r.after(0), 0
		for i, m := range kept {
			if m.Number != first+int64(i) {
				t.Fatalf("message %d after the first, %d, has number %d", i, first, m.Number)
			}
			size += proto.Size(m)
		}
		if len(kept) == 0 || kept[len(kept)-1].Number != last || size != r.bytes || size > keptBytes {
			t.Fatalf("the room keeps %d messages of %d (it says %d) bytes; want %d to %d", len(kept), size, r.bytes, first, last)
		}
	}
	say(keptMessages+10, "small")
	wantKept(11, keptMessages+10)
	long := strings.Repeat("漢", maxMessage)
	say(100, long)
	fit := int64(keptBytes / proto.Size(r.state.Messages[0]))
	wantKept(keptMessages+111-fit, keptMessages+110)

	again := &ChatRoom{} // from the store: it counts on
	if err := again.FromData(proto.Clone(r.state)); err != nil {
		t.Fatal(err)
	}
	r = again
	say(1, long)
	wantKept(keptMessages+112-fit, keptMessages+111)
	if err := r.FromData(&chat_pb.Presence{}); err == nil {
		t.Error("a room takes what is no room, and would forget what is stored")
	}
}

// A newcomer is shown the newest messages.
func TestFirstPage(t *testing.T) {
	goversetest.Sim(t, house, func(w *goversetest.World) {
		for i := range firstPage + 5 {
			send(w, "ann", fmt.Sprint(i), "")
		}
		shown := join(w, "bob")
		if n := len(shown.Messages); n != firstPage || shown.Messages[0].Number != 6 || shown.LastNumber != firstPage+5 {
			w.T.Fatalf("a newcomer is shown %d messages of %d", n, shown.LastNumber)
		}
	})
}

func TestRefusals(t *testing.T) {
	goversetest.Sim(t, house, func(w *goversetest.World) {
		for _, bad := range []struct {
			method string
			req    proto.Message
			says   string
		}{
			{"Join", &chat_pb.JoinRequest{}, "user name"},
			{"Join", &chat_pb.JoinRequest{UserName: " \t"}, "user name"},
			{"Join", &chat_pb.JoinRequest{UserName: strings.Repeat("n", maxName+1)}, "user name"},
			{"SendMessage", &chat_pb.SendMessageRequest{Message: "x"}, "user name"},
			{"SendMessage", &chat_pb.SendMessageRequest{UserName: "ann", Message: "\n"}, "message"},
			{"SendMessage", &chat_pb.SendMessageRequest{UserName: "ann", Message: strings.Repeat("m", maxMessage+1)}, "message"},
			{"SendMessage", &chat_pb.SendMessageRequest{UserName: "ann", Message: "x", MessageId: strings.Repeat("i", maxMessageID+1)}, "message id"},
		} {
			_, err := w.TryCall(general, bad.method, bad.req)
			if status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), bad.says) {
				w.T.Errorf("%s %v: %v", bad.method, bad.req, err)
			}
		}
		for i := range maxMembers {
			join(w, fmt.Sprint(i))
		}
		if _, err := w.TryCall(general, "Join", &chat_pb.JoinRequest{UserName: "one too many"}); status.Code(err) != codes.ResourceExhausted {
			w.T.Errorf("a full room answers %v", err)
		}
		join(w, "7") // who is in may say that it still is
		if got := history(w, 0); len(got) != 0 {
			w.T.Errorf("what was refused is there: %v", got)
		}
	})
}
