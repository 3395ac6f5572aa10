package object

import (
	"fmt"
	"reflect"
	"sync"

	"google.golang.org/protobuf/proto"
)

// State is the state of an object as one message. A type that embeds it beside its
// BaseObject is persistent without a ToData and a FromData of its own:
//
//	type ChatRoom struct {
//		goverseapi.BaseObject
//		goverseapi.State[*chatpb.RoomState]
//	}
//
//	func (r *ChatRoom) Join(ctx context.Context, req *chatpb.JoinRequest) (*chatpb.JoinResponse, error) {
//		r.State().Members = append(r.State().Members, req.GetName())
//		...
//
// State() is the live message, to be read and changed in place: never nil, empty for an
// object without stored state, the same message for as long as the object lives. It is
// the object's alone: a reply or a request that shares a part of it with others, as one
// of its lists does, has to carry a copy (proto.Clone). Only a method that returns the
// whole message has it copied by the node.
//
// Methods change it on their turn. A Concurrent type also has a lock, by embedding a
// sync.Mutex or sync.RWMutex: its methods take it around State(), and so does the node
// to store it. A method may not hold it across Flush.
//
// Another message than the stored one is for an Upgrader to bridge. A type may have a
// FromData, to make of the state what it needs besides; that calls BaseObject.FromData
// first.
//
// A type with a method called State embeds it under another name: type roomState =
// goverseapi.State[*chatpb.RoomState]. An object that a unit test makes by hand has
// what NewState gives it.
type State[T proto.Message] func() T

// NewState is a State for an object that is made by hand, not by a node.
func NewState[T proto.Message](m T) State[T] { return func() T { return m } }

// stateful is a type that embeds a State.
type stateful interface{ keepIn(c *cell) }

// keepIn makes c hold an empty message, which the State returns from now on.
func (s *State[T]) keepIn(c *cell) {
	var none T
	c.message = none.ProtoReflect().New().Interface().(T)
	*s = func() T { return c.message.(T) }
}

// cell holds the State of one object.
type cell struct {
	message proto.Message // set before the object lives, and then only changed in place
	lock    sync.Locker   // of a Concurrent type, around whatever is in the message
	begun   bool          // FromData has run
}

// read is the message to be encoded on the object's turn.
func (c *cell) read() proto.Message {
	if c.lock == nil {
		return c.message
	}
	c.lock.Lock()
	defer c.lock.Unlock()
	return proto.Clone(c.message)
}

// write takes stored state over, nil for none. In an object that lives, methods further
// out in the chain may have the message in their hands: it stays the same.
func (c *cell) write(data proto.Message) error {
	begun := c.begun
	if data == nil {
		c.begun = true
		if begun {
			proto.Reset(c.message)
		}
		return nil
	}
	if reflect.TypeOf(data) != reflect.TypeOf(c.message) {
		return fmt.Errorf("it is a %s, and the type's State is a %s; implement object.Upgrader to make the one of the other",
			data.ProtoReflect().Descriptor().FullName(), c.message.ProtoReflect().Descriptor().FullName())
	}
	if !data.ProtoReflect().IsValid() {
		return fmt.Errorf("it is a nil %s", data.ProtoReflect().Descriptor().FullName())
	}
	c.begun = true
	if !begun {
		c.message = data
		return nil
	}
	proto.Reset(c.message)
	proto.Merge(c.message, data)
	return nil
}

// attachState gives a new object its State.
func (t *Type) attachState(o Object) {
	c := new(cell)
	if t.Mode == Concurrent {
		c.lock = o.(sync.Locker)
	}
	o.(stateful).keepIn(c)
	o.base().state = c
}

// Apart is a method's reply as it may leave the object's turn: a copy where it is the
// object's whole State, else the reply itself.
func (t *Type) Apart(o Object, reply proto.Message) proto.Message {
	if !t.stateful || reply != o.base().state.message {
		return reply
	}
	if c := o.base().state; c.lock != nil {
		return c.read()
	}
	return proto.Clone(reply)
}

// findState looks for a State in what the type embeds. It comes before the first New.
func (t *Type) findState() error {
	found, err := embeddedStates(t.elem)
	_, implements := reflect.New(t.elem).Interface().(stateful)
	switch {
	case err != nil:
		return err
	case found > 1:
		return fmt.Errorf("it embeds %d States, of which only one would be kept: let one message have the others as fields", found)
	case found == 0 && implements:
		return fmt.Errorf("it embeds a State through a pointer or an interface, which is nil in a new object: embed it by value")
	case found == 0:
		return nil
	}
	if _, locks := reflect.New(t.elem).Interface().(sync.Locker); t.Mode == Concurrent && !locks {
		return fmt.Errorf("it is Concurrent and has a State without a lock: embed a sync.Mutex, which its methods take around State(), and the node to store it")
	}
	t.stateful = true
	return t.checkState()
}

var statefulType = reflect.TypeFor[stateful]()

// isState tells a State[T] from what embeds one.
func isState(t reflect.Type) bool {
	return t.Kind() == reflect.Func && reflect.PointerTo(t).Implements(statefulType)
}

// losesState recognises what was declared as type x State[T] and so has no methods.
func losesState(t reflect.Type) bool {
	return t.Kind() == reflect.Func && t.NumIn() == 0 && t.NumOut() == 1 && t.Out(0).Implements(messageType)
}

// embeddedStates counts the States in a struct and in the structs that it embeds.
func embeddedStates(t reflect.Type) (found int, err error) {
	for i := range t.NumField() {
		f := t.Field(i)
		switch {
		case isState(f.Type) && !f.Anonymous:
			return 0, fmt.Errorf("its field %s is a State that nothing keeps: embed it, without a field name", f.Name)
		case isState(f.Type) && !concreteMessage(f.Type.Out(0)):
			return 0, fmt.Errorf("its State is of %v; give it the message itself, as in State[*chatpb.RoomState]", f.Type.Out(0))
		case isState(f.Type):
			found++
		case f.Anonymous && losesState(f.Type):
			return 0, fmt.Errorf("its %s was made a type of its own, and is no State any more: declare it with an equals sign, type %s = goverseapi.State[...]", f.Name, f.Name)
		case f.Type.Kind() == reflect.Pointer && isState(f.Type.Elem()):
			return 0, fmt.Errorf("its State %s is a pointer: embed it by value", f.Name)
		case f.Anonymous && f.Type.Kind() == reflect.Struct:
			more, err := embeddedStates(f.Type)
			if err != nil {
				return 0, err
			}
			found += more
		}
	}
	return found, nil
}

// checkState refuses a type whose State is not what would be stored: reflection cannot
// tell an own method from a promoted one, so new objects are asked.
func (t *Type) checkState() error {
	read, taken, err := t.probeState()
	switch {
	case err != nil:
		return fmt.Errorf("a new object's State cannot be read: %w", err)
	case !read:
		return fmt.Errorf("it embeds a State and has a ToData of its own: leave one of them out")
	case !taken:
		return fmt.Errorf("it embeds a State, and its FromData does not hand the state on: let it call BaseObject.FromData first, or leave it out")
	}
	return nil
}

// probeState says whether ToData returns what is in the State, and FromData fills it.
func (t *Type) probeState() (read, taken bool, err error) {
	if err := survives(func() { t.New().base().state.read() }); err != nil {
		return false, false, err
	}
	o := t.New()
	c := o.base().state
	c.lock = nil // so that it returns the message itself
	_ = survives(func() {
		m, err := o.ToData()
		read = err == nil && m == c.message
	})
	_ = survives(func() { _ = o.FromData(nil) })
	return read, c.begun, nil
}

// survives runs code of the user's on an object that has no identity yet.
func survives(work func()) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("it panics: %v", p)
		}
	}()
	work()
	return nil
}
