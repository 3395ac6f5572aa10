package object_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/xiaonanln/goverse/object"
)

type methods struct{ object.BaseObject }

func (m *methods) M(context.Context, *in) (*out, error) { return nil, nil }

type Noted struct {
	methods
	object.State[*out]
}

func TestStateIsEmptyAndStays(t *testing.T) {
	typ := registered(t, (*Noted)(nil))
	if !typ.Persistent {
		t.Error("a type with a State is not persistent")
	}
	o := typ.New().(*Noted)
	if o.State() == nil || o.State().Value != 0 {
		t.Fatal("a fresh object's state is", o.State())
	}
	if err := o.FromData(nil); err != nil {
		t.Fatal(err)
	}
	o.State().Value = 7
	if m, err := o.ToData(); err != nil || m.(*out).Value != 7 {
		t.Error(m, err)
	}
	if other := typ.New().(*Noted); other.State().Value != 0 {
		t.Error("two objects share a state")
	}
}

func TestStateTakesTheStoredMessage(t *testing.T) {
	o := registered(t, (*Noted)(nil)).New().(*Noted)
	if err := o.FromData(wrapperspb.Int64(3)); err != nil || o.State().Value != 3 {
		t.Fatal(o.State(), err)
	}
	held := o.State()
	if err := o.FromData(wrapperspb.Int64(4)); err != nil || held.Value != 4 || o.State() != held {
		t.Error("whoever holds the message does not see what was put back:", held, o.State(), err)
	}
	if err := o.FromData(nil); err != nil || held.Value != 0 {
		t.Error("put back to nothing:", held, err)
	}
}

func TestStateRefusesAnotherMessage(t *testing.T) {
	for name, m := range map[string]proto.Message{"another message": wrapperspb.String("x"), "a nil one": (*out)(nil)} {
		o := registered(t, (*Noted)(nil)).New().(*Noted)
		o.State().Value = 5
		err := o.FromData(m)
		if err == nil || o.State().Value != 5 {
			t.Errorf("%s: %v; the state is %v", name, err, o.State())
		}
	}
	err := registered(t, (*Noted)(nil)).New().FromData(wrapperspb.String("x"))
	for _, s := range []string{"google.protobuf.StringValue", "google.protobuf.Int64Value", "Upgrader"} {
		if err == nil || !strings.Contains(err.Error(), s) {
			t.Errorf("%v does not say %q", err, s)
		}
	}
}

type ownToData struct{ Noted }

func (o *ownToData) ToData() (proto.Message, error) { return wrapperspb.Int64(1), nil }

type panicToData struct{ Noted }

func (o *panicToData) ToData() (proto.Message, error) { panic("no") }

type failToData struct{ Noted }

func (o *failToData) ToData() (proto.Message, error) { return nil, object.ErrNotPersistent }

type ownFromData struct{ Noted }

func (o *ownFromData) FromData(proto.Message) error { return nil }

type twoStates struct {
	Noted
	other
}

type other struct{ object.State[*in] }

type fieldState struct {
	methods
	room object.State[*out]
}

func (f *fieldState) use() *out { return f.room() }

type pointerState struct {
	methods
	*object.State[*out]
}

type pointerBase struct {
	methods
	*other
}

type anyState struct {
	methods
	object.State[proto.Message]
}

type defined object.State[*out]

type definedState struct {
	methods
	defined
}

func (d *definedState) use() *out { return d.defined() }

func TestStateConflicts(t *testing.T) {
	_, _ = (*fieldState).use, (*definedState).use
	for name, c := range map[string]struct {
		obj  object.Object
		opts []object.TypeOption
		says string
	}{
		"an own ToData":             {(*ownToData)(nil), nil, "a ToData of its own"},
		"an own ToData that panics": {(*panicToData)(nil), nil, "a ToData of its own"},
		"an own ToData that fails":  {(*failToData)(nil), nil, "a ToData of its own"},
		"an own FromData":           {(*ownFromData)(nil), nil, "BaseObject.FromData"},
		"two":                       {(*twoStates)(nil), nil, "2 States"},
		"a field":                   {(*fieldState)(nil), nil, "room"},
		"a pointer":                 {(*pointerState)(nil), nil, "by value"},
		"through a pointer":         {(*pointerBase)(nil), nil, "by value"},
		"of an interface":           {(*anyState)(nil), nil, "the message itself"},
		"a type of its own":         {(*definedState)(nil), nil, "equals sign"},
		"concurrent without a lock": {(*Noted)(nil), []object.TypeOption{object.WithMode(object.Concurrent)}, "sync.Mutex"},
	} {
		err := object.NewTypes().Register(c.obj, c.opts...)
		if err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v; it should say %q", name, err, c.says)
		}
	}
}

// indexed makes of its state what it needs besides.
type indexed struct {
	Noted
	double int64
}

func (o *indexed) FromData(data proto.Message) error {
	if err := o.BaseObject.FromData(data); err != nil {
		return err
	}
	o.double = 2 * o.State().Value
	return nil
}

func TestFromDataMayBuildOnTheState(t *testing.T) {
	o := registered(t, (*indexed)(nil)).New().(*indexed)
	if err := o.FromData(wrapperspb.Int64(4)); err != nil || o.double != 8 {
		t.Error(o.double, err)
	}
}

// aliased has a method that is called State.
type noted = object.State[*out]

type aliased struct {
	object.BaseObject
	noted
}

func (a *aliased) State(context.Context, *in) (*out, error) { return a.noted(), nil }

func TestAMethodCalledState(t *testing.T) {
	typ := registered(t, (*aliased)(nil))
	if typ.Methods["State"] == nil || !typ.Persistent {
		t.Errorf("%+v", typ)
	}
}

func TestAReplyThatIsTheStateIsCopied(t *testing.T) {
	typ := registered(t, (*Noted)(nil))
	o := typ.New().(*Noted)
	o.State().Value = 6
	if got := typ.Apart(o, o.State()); got == proto.Message(o.State()) || got.(*out).Value != 6 {
		t.Error("the reply is the state itself, or another:", got)
	}
	own := wrapperspb.Int64(6)
	if got := typ.Apart(o, own); got != proto.Message(own) {
		t.Error("a reply of its own was copied")
	}
	if got := typ.Apart(o, nil); got != nil {
		t.Error("no reply became", got)
	}
}

// board is Concurrent, and guards its state.
type board struct {
	methods
	sync.RWMutex
	object.State[*structpb.Struct]
}

func TestAConcurrentStateIsReadUnderItsLock(t *testing.T) {
	typ := registered(t, (*board)(nil), object.WithMode(object.Concurrent))
	o := typ.New().(*board)
	if err := o.FromData(&structpb.Struct{Fields: map[string]*structpb.Value{}}); err != nil {
		t.Fatal(err)
	}
	var writers sync.WaitGroup
	for range 4 {
		writers.Go(func() {
			for i := range 50 {
				o.Lock()
				o.State().Fields[string(rune('a'+i%26))] = structpb.NewNumberValue(float64(i))
				o.Unlock()
			}
		})
	}
	for range 50 {
		for _, read := range []func() (proto.Message, error){
			o.ToData, func() (proto.Message, error) { return typ.Apart(o, o.State()), nil },
		} {
			m, err := read()
			if err != nil {
				t.Fatal(err)
			}
			if _, err := proto.Marshal(m); err != nil {
				t.Error(err)
			}
		}
	}
	writers.Wait()
}

func TestAStateByHand(t *testing.T) {
	o := &Noted{State: object.NewState(wrapperspb.Int64(9))}
	if o.State().Value != 9 {
		t.Error(o.State())
	}
	if _, err := o.ToData(); !errors.Is(err, object.ErrNotPersistent) {
		t.Error("an object that no node made is stored:", err)
	}
}

func registered(t *testing.T, o object.Object, opts ...object.TypeOption) *object.Type {
	t.Helper()
	types := object.NewTypes()
	if err := types.Register(o, opts...); err != nil {
		t.Fatal(err)
	}
	typ, _ := types.Lookup(types.Names()[0])
	return typ
}
