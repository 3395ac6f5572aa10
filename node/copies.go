package node

import (
	"crypto/sha256"
	"sync"

	"google.golang.org/protobuf/proto"

	"github.com/xiaonanln/goverse/internal/event"
	"github.com/xiaonanln/goverse/object"
)

// copies is the node's debug mode: each side of a call has its own copy of the request
// and the reply, and what an object has in its hands that others would share with it is
// looked at behind each of its exclusive turns. Objects in Concurrent mode are not looked
// at: another of their methods may be in the middle of a message.
type copies struct {
	on func(event.MessageChanged) // may be nil

	mu   sync.Mutex // protects following field; alone
	seen map[*activation][]sighting
}

// sighting is a message in an object's hands, and what it was like.
type sighting struct {
	message proto.Message
	sum     [sha256.Size]byte
	role    string
}

// maxSightings bounds the messages that are looked at again, of one object: the newest.
const maxSightings = 16

func newCopies(on func(event.MessageChanged)) *copies {
	return &copies{on: on, seen: map[*activation][]sighting{}}
}

// received notes the request of a method that begins. It runs on the turn.
func (k *copies) received(a *activation, c *call) {
	k.note(a, c.message, "the request that ", c.method.Name, " got")
}

// returned looks behind a method, notes its reply and returns what the caller gets. It
// runs on the turn.
func (k *copies) returned(f *frame, c *call, reply proto.Message) proto.Message {
	k.look(f, c.method.Name)
	if reply == nil {
		return nil
	}
	k.note(f.act, reply, "the reply that ", c.method.Name, " gave")
	return proto.Clone(reply)
}

// sent notes the request of a call out of a method, while that is still its own.
func (k *copies) sent(a *activation, call object.Call) {
	k.note(a, call.Payload.Message, "the request that it sent to ", call.Subject(), "")
}

// got notes the reply to a call out of a method.
func (k *copies) got(a *activation, call object.Call, reply object.Payload) {
	k.note(a, reply.Message, "the reply that it got from ", call.Subject(), "")
}

func (k *copies) note(a *activation, m proto.Message, role, whose, does string) {
	if k.on == nil || m == nil || a.typ.Mode == object.Concurrent {
		return
	}
	sum, ok := sumOf(m)
	if !ok {
		return
	}
	old, known := k.swap(a, sighting{m, sum, role + whose + does})
	if known && old.sum != sum {
		k.tell(a, old, whose)
	}
}

// swap notes s, and returns what it was when it was noted before.
func (k *copies) swap(a *activation, s sighting) (old sighting, known bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	seen := k.seen[a]
	for i := range seen {
		if seen[i].message == s.message {
			old, seen[i] = seen[i], s
			return old, true
		}
	}
	seen = append(seen, s)
	k.seen[a] = seen[max(0, len(seen)-maxSightings):]
	return old, false
}

func (k *copies) tell(a *activation, s sighting, method string) {
	k.on(event.MessageChanged{Type: a.ref.Type, ID: a.ref.ID, Method: method,
		Message: string(s.message.ProtoReflect().Descriptor().FullName()), Role: s.role})
}

// look compares what the object has in its hands, once its code does not run.
func (k *copies) look(f *frame, method string) {
	if k.on == nil || f.hold == nil || !f.hold.exclusive {
		return
	}
	a := f.act
	k.mu.Lock()
	seen := k.seen[a]
	k.seen[a] = nil
	k.mu.Unlock()
	same := seen[:0:0]
	for _, s := range seen {
		if sum, ok := sumOf(s.message); ok && sum == s.sum {
			same = append(same, s)
			continue
		}
		k.tell(a, s, method)
	}
	k.mu.Lock()
	k.seen[a] = append(same, k.seen[a]...)
	k.mu.Unlock()
}

// forget lets go of the messages of an activation that has ended.
func (k *copies) forget(a *activation) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.seen, a)
}

// sumOf tells messages apart; not ok for one that cannot be encoded.
func sumOf(m proto.Message) (sum [sha256.Size]byte, ok bool) {
	b, err := proto.MarshalOptions{Deterministic: true, AllowPartial: true}.Marshal(m)
	if err != nil {
		return sum, false
	}
	return sha256.Sum256(b), true
}
