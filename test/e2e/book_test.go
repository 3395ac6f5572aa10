//go:build unix

package e2e

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"testing"

	"google.golang.org/protobuf/proto"

	chat_pb "github.com/xiaonanln/goverse/samples/chat/proto"
)

// book is what one client knows: what it tried to say, in its order, and what it was
// shown to be kept, by an acknowledgement or by a push. It belongs to one goroutine.
type book struct {
	attempts []*chat_pb.ChatMessage
	seen     map[string]*chat_pb.ChatMessage // by message id
	twice    []string                        // shown again, and differently
}

func newBook() *book { return &book{seen: map[string]*chat_pb.ChatMessage{}} }

func (b *book) tried(m *chat_pb.ChatMessage) { b.attempts = append(b.attempts, m) }

func (b *book) shown(m *chat_pb.ChatMessage) {
	if old := b.seen[m.MessageId]; old != nil && !proto.Equal(old, m) {
		b.twice = append(b.twice, fmt.Sprintf("%s was shown as %v and as %v", m.MessageId, old, m))
	}
	b.seen[m.MessageId] = m
}

// open is the attempt that nobody has acknowledged.
func (b *book) open() *chat_pb.ChatMessage {
	for _, m := range b.attempts {
		if b.seen[m.MessageId] == nil {
			return m
		}
	}
	return nil
}

// check compares what rooms have with what the clients know, and tells every lie.
func check(rooms map[string][]*chat_pb.ChatMessage, books []*book) (problems []string) {
	lie := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
	attempts, attempted := map[string]*chat_pb.ChatMessage{}, map[string]int{}
	for _, b := range books {
		problems = append(problems, b.twice...)
		for i, m := range b.attempts {
			attempts[m.MessageId], attempted[m.MessageId] = m, i
		}
	}
	kept := map[string]*chat_pb.ChatMessage{}
	for _, room := range slices.Sorted(maps.Keys(rooms)) {
		last := map[string]int{} // by sender: which attempt was the latest
		for i, m := range rooms[room] {
			try := attempts[m.MessageId]
			switch {
			case m.Number != int64(i+1):
				lie("%s: message %d has number %d", room, i+1, m.Number)
			case kept[m.MessageId] != nil:
				lie("%s: %s is there twice, as number %d of %s as well", room, m.MessageId, kept[m.MessageId].Number, kept[m.MessageId].Room)
			case try == nil:
				lie("%s: nobody has said %v", room, m)
			case m.Room != room || try.Room != room || m.UserName != try.UserName || m.Message != try.Message:
				lie("%s: %v was said as %v", room, m, try)
			}
			kept[m.MessageId] = m
			order := attempted[m.MessageId] + 1
			if order < last[m.UserName] {
				lie("%s: %s comes after something that its sender said later", room, m.MessageId)
			}
			last[m.UserName] = order
		}
	}
	for _, b := range books {
		for _, id := range slices.Sorted(maps.Keys(b.seen)) {
			switch shown := b.seen[id]; {
			case kept[id] == nil:
				lie("LOST: %s was shown as number %d of %s", id, shown.Number, shown.Room)
			case !proto.Equal(kept[id], shown):
				lie("%s was shown as %v and is kept as %v", id, shown, kept[id])
			}
		}
	}
	return problems
}

// The check finds each kind of lie.
func TestCheckFindsLies(t *testing.T) {
	said := func(number int64, sender, id string) *chat_pb.ChatMessage {
		return &chat_pb.ChatMessage{Number: number, Room: "r", UserName: sender, Message: "text of " + id, MessageId: id, SentUnixMs: 7}
	}
	world := func() (map[string][]*chat_pb.ChatMessage, *book) {
		b, rooms := newBook(), map[string][]*chat_pb.ChatMessage{}
		for i, id := range []string{"a1", "a2", "a3"} {
			m := said(int64(i+1), "a", id)
			b.tried(m)
			b.shown(m)
			rooms["r"] = append(rooms["r"], m)
		}
		b.tried(said(0, "a", "a4")) // not acknowledged, and not kept
		return rooms, b
	}
	number := func(list []*chat_pb.ChatMessage) []*chat_pb.ChatMessage {
		for i, m := range list {
			list[i] = proto.CloneOf(m)
			list[i].Number = int64(i + 1)
		}
		return list
	}
	for _, test := range []struct {
		name string
		lie  func(r map[string][]*chat_pb.ChatMessage, b *book)
	}{
		{"the last one is lost", func(r map[string][]*chat_pb.ChatMessage, b *book) { r["r"] = r["r"][:2] }},
		{"all is lost", func(r map[string][]*chat_pb.ChatMessage, b *book) { delete(r, "r") }},
		{"one is there twice", func(r map[string][]*chat_pb.ChatMessage, b *book) { r["r"] = number(append(r["r"], r["r"][2])) }},
		{"an unacknowledged one is there twice", func(r map[string][]*chat_pb.ChatMessage, b *book) {
			r["r"] = number(append(r["r"], b.attempts[3], b.attempts[3]))
		}},
		{"one is in another room, too", func(r map[string][]*chat_pb.ChatMessage, b *book) {
			r["x"] = number([]*chat_pb.ChatMessage{r["r"][0]})
		}},
		{"two of one sender are swapped", func(r map[string][]*chat_pb.ChatMessage, b *book) {
			slices.Reverse(r["r"])
			r["r"] = number(r["r"])
			for _, m := range r["r"] {
				b.seen[m.MessageId] = m
			}
		}},
		{"a number is skipped", func(r map[string][]*chat_pb.ChatMessage, b *book) { r["r"][2].Number = 5 }},
		{"a text has changed", func(r map[string][]*chat_pb.ChatMessage, b *book) {
			r["r"][1] = proto.CloneOf(r["r"][1])
			r["r"][1].Message = "x"
		}},
		{"nobody said it", func(r map[string][]*chat_pb.ChatMessage, b *book) { r["r"] = append(r["r"], said(4, "a", "a9")) }},
		{"it was acknowledged under two numbers", func(r map[string][]*chat_pb.ChatMessage, b *book) { b.shown(said(9, "a", "a1")) }},
	} {
		rooms, b := world()
		if problems := check(rooms, []*book{b}); len(problems) > 0 {
			t.Fatalf("the truth is called a lie: %q", problems)
		}
		test.lie(rooms, b)
		if len(check(rooms, []*book{b})) == 0 {
			t.Errorf("not found: %s", test.name)
		}
	}
	rooms, b := world()
	rooms["r"] = append(rooms["r"], said(4, "a", "a4")) // kept although not acknowledged: that may be
	if problems := check(rooms, []*book{b}); len(problems) > 0 {
		t.Errorf("an unacknowledged message that was kept is called a lie: %q", problems)
	}
	if cmp.Or(b.open(), said(0, "", "")).MessageId != "a4" {
		t.Error("open does not find the message that was not acknowledged")
	}
}
