package object_test

import (
	"context"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/xiaonanln/goverse/object"
	"github.com/xiaonanln/goverse/util/logger"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type (
	in  = wrapperspb.StringValue
	out = wrapperspb.Int64Value
)

// Room has the two methods that most tests need.
type Room struct{ object.BaseObject }

func (r *Room) Join(context.Context, *in) (*out, error)    { return wrapperspb.Int64(1), nil }
func (r *Room) History(context.Context, *in) (*out, error) { return nil, nil }

// What looks like a method that can be called, and is not.
func (r *Room) NoContext(*in) (*out, error)                            { return nil, nil }
func (r *Room) NoError(context.Context, *in) *out                      { return nil }
func (r *Room) NotAPointer(context.Context, string) (*out, error)      { return nil, nil }
func (r *Room) Interface(context.Context, proto.Message) (*out, error) { return nil, nil }
func (r *Room) Variadic(context.Context, ...*in) (*out, error)         { return nil, nil }
func (r *Room) hidden(context.Context, *in) (*out, error)              { return nil, nil }

type Empty struct{ object.BaseObject }

type Almost struct{ object.BaseObject }

func (a *Almost) Add(context.Context, int) (int, error) { return 0, nil }

type ByValue struct{ *object.BaseObject }

func (v ByValue) M(context.Context, *in) (*out, error) { return nil, nil }

type ByInterface struct{ object.Object }

func (v *ByInterface) M(context.Context, *in) (*out, error) { return nil, nil }

// nameless has no struct to make.
type nameless struct{ object.BaseObject }

func (n *nameless) M(context.Context, *in) (*out, error) { return nil, nil }

type Saved struct {
	Room
	n *int64
}

func (s *Saved) ToData() (proto.Message, error)    { return wrapperspb.Int64(*s.n), nil } // panics when empty
func (s *Saved) FromData(data proto.Message) error { return nil }

// UserBase is a base that a program makes for its own types.
type UserBase struct{ object.BaseObject }

func (b *UserBase) Common(context.Context, *in) (*out, error) { return wrapperspb.Int64(2), nil }
func (b *UserBase) ToData() (proto.Message, error)            { return wrapperspb.Int64(0), nil }

type Promoted struct{ UserBase }

type Failing struct{ Room }

func (f *Failing) ToData() (proto.Message, error) { return nil, errors.New("not yet") }

func TestRegisterErrors(t *testing.T) {
	for _, c := range []struct {
		name string
		obj  object.Object
		opts []object.TypeOption
		says []string
	}{
		{"nil", nil, nil, []string{"typed nil", "(*ChatRoom)(nil)"}},
		{"a struct", ByValue{}, nil, []string{"ByValue", "pointer to a struct"}},
		{"a base by pointer", &ByValue{}, nil, []string{"ByValue", "embed goverseapi.BaseObject itself"}},
		{"a base by interface", &ByInterface{}, nil, []string{"ByInterface", "embed goverseapi.BaseObject itself"}},
		{"no methods", (*Empty)(nil), nil, []string{"Empty", "no callable method", "func (o *Empty) M(ctx context.Context, req *SomeMessage) (*SomeMessage, error)"}},
		{"almost", (*Almost)(nil), nil, []string{"Almost", "another form: Add"}},
		{"read-only of an unknown method", (*Room)(nil), []object.TypeOption{object.ReadOnlyMethods("Histroy")}, []string{"Room", "Histroy"}},
		{"read-only of no method", (*Room)(nil), []object.TypeOption{object.ReadOnlyMethods("NoError")}, []string{"NoError", "NoError"}},
		{"read-only of an unexported one", (*Room)(nil), []object.TypeOption{object.ReadOnlyMethods("hidden")}, []string{"hidden"}},
		{"durable without ToData", (*Room)(nil), []object.TypeOption{object.WithDurability(object.Durable)}, []string{"Room", "Durable", "ToData"}},
		{"periodic without ToData", (*Room)(nil), []object.TypeOption{object.WithDurability(object.Periodic(time.Second))}, []string{"Room", "Periodic(1s)", "ToData"}},
		{"a mode that is none", (*Room)(nil), []object.TypeOption{object.WithMode(9)}, []string{"Room", "mode 9"}},
		{"a durability that is none", (*Room)(nil), []object.TypeOption{object.WithDurability(-3)}, []string{"durability -3"}},
		{"a negative queue", (*Room)(nil), []object.TypeOption{object.WithMaxQueue(-1)}, []string{"queue of -1"}},
		{"a bad name", (*Room)(nil), []object.TypeOption{object.WithName("a\x00")}, []string{"control character"}},
		{"all at once", (*Room)(nil), []object.TypeOption{object.WithName("\xff"), object.WithMode(9)}, []string{"UTF-8", "mode 9"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			ts := object.NewTypes()
			err := ts.Register(c.obj, c.opts...)
			if err == nil {
				t.Fatal("no error")
			}
			for _, s := range c.says {
				if !strings.Contains(err.Error(), s) {
					t.Errorf("%q does not say %q", err, s)
				}
			}
			if len(ts.Names()) != 0 {
				t.Error("registered all the same")
			}
		})
	}
}

func TestRegister(t *testing.T) {
	ts := object.NewTypes()
	if err := ts.Register((*Room)(nil), object.ReadOnlyMethods("History")); err != nil {
		t.Fatal(err)
	}
	room, ok := ts.Lookup("Room")
	if !ok || room.Persistent || room.IdleTimeout != object.DefaultIdleTimeout || room.MaxQueue != object.DefaultMaxQueue || room.Mode != object.Sequential {
		t.Errorf("%+v", room)
	}
	if got := strings.Join(room.MethodNames(), " "); got != "History Join" {
		t.Error("methods:", got)
	}
	if !room.Methods["History"].ReadOnly || room.Methods["Join"].ReadOnly {
		t.Error("read-only is wrong")
	}
	if reply, err := room.Methods["Join"].Invoke(t.Context(), room.New(), &in{}); err != nil || reply.(*out).Value != 1 {
		t.Error(reply, err)
	}
	if reply, err := room.Methods["History"].Invoke(t.Context(), room.New(), &in{}); err != nil || reply != nil {
		t.Errorf("a nil reply is %#v, %v", reply, err)
	}
	if room.New() == room.New() {
		t.Error("two objects are one")
	}

	if err := ts.Register(&Room{}, object.ReadOnlyMethods("History")); err != nil {
		t.Error("the same again:", err)
	}
	if again, _ := ts.Lookup("Room"); again != room {
		t.Error("the same again replaced the type")
	}
	for _, err := range []error{
		ts.Register((*Room)(nil)),
		ts.Register((*Room)(nil), object.ReadOnlyMethods("History"), object.WithMaxQueue(5)),
		ts.Register((*nameless)(nil), object.WithName("Room")),
	} {
		if err == nil || !strings.Contains(err.Error(), "Room") || !strings.Contains(err.Error(), "already registered") {
			t.Error("a conflicting registration:", err)
		}
	}
	if err := ts.Register((*Room)(nil), object.WithName("Hall"), object.WithMode(object.Concurrent)); err != nil {
		t.Error("another name:", err)
	}
	if got := strings.Join(ts.Names(), " "); got != "Hall Room" {
		t.Error(got)
	}
	if _, ok := ts.Lookup("room"); ok {
		t.Error("names are not the same")
	}
}

func TestToDataProbe(t *testing.T) {
	for _, c := range []struct {
		obj  object.Object
		want bool
	}{
		{(*Room)(nil), false},
		{(*Saved)(nil), true},    // its own, which cannot run on an empty object
		{(*Promoted)(nil), true}, // a user base's
		{(*Failing)(nil), true},  // its own, which fails
	} {
		ts := object.NewTypes()
		if err := ts.Register(c.obj); err != nil {
			t.Error(err)
			continue
		}
		typ, _ := ts.Lookup(ts.Names()[0])
		if typ.Persistent != c.want {
			t.Errorf("%T: persistent is %v", c.obj, typ.Persistent)
		}
	}
	ts := object.NewTypes()
	if err := ts.Register((*Promoted)(nil), object.WithDurability(object.Durable)); err != nil {
		t.Error(err)
	}
	if typ, _ := ts.Lookup("Promoted"); typ.Methods["Common"] == nil {
		t.Error("a promoted method is not callable")
	}
}

func TestRegisterConcurrently(t *testing.T) {
	ts := object.NewTypes()
	done := make(chan error)
	for range 8 {
		go func() {
			err := ts.Register((*Room)(nil))
			ts.Names()
			ts.Lookup("Room")
			done <- err
		}()
	}
	for range 8 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

func TestNames(t *testing.T) {
	for _, c := range []struct {
		id   string
		says string // "" is valid
	}{
		{"x", ""}, {"ChatRoom-general", ""}, {"a/b", ""}, {"日本", ""}, {" ", ""}, {strings.Repeat("x", 512), ""},
		{"", "empty"},
		{strings.Repeat("x", 513), "513 bytes"},
		{strings.Repeat("é", 257), "514 bytes"},
		{"a\x00b", "control"}, {"a\nb", "control"}, {"\x7f", "control"}, {"\u0085", "control"},
		{"\xff", "UTF-8"}, {"a\xc3", "UTF-8"},
	} {
		for what, err := range map[string]error{"id": object.ValidID(c.id), "name": object.ValidName(c.id)} {
			switch {
			case c.says == "" && err != nil:
				t.Errorf("%s %q: %v", what, c.id, err)
			case c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)):
				t.Errorf("%s %q: %v, want it to say %q", what, c.id, err, c.says)
			}
		}
	}
	seen := map[string]bool{}
	for range 1000 {
		id := object.NewID()
		if len(id) != 26 || id != strings.ToLower(id) || object.ValidID(id) != nil || seen[id] {
			t.Fatal(id)
		}
		seen[id] = true
	}
}

func TestBaseObject(t *testing.T) {
	byHand := &Room{}
	if byHand.Context() == nil || byHand.Context().Err() != nil || byHand.Id() != "" {
		t.Error("an object made by hand:", byHand)
	}
	byHand.OnCreated()
	byHand.OnDestroy()
	byHand.Destroy()
	if _, err := byHand.ToData(); !errors.Is(err, object.ErrNotPersistent) {
		t.Error(err)
	}
	if err := byHand.FromData(nil); err != nil {
		t.Error(err)
	}

	ctx, cancel := context.WithCancel(t.Context())
	born, log := time.Now(), logger.NewLogger("test")
	r := &Room{}
	object.Attach(r, object.Birth{Ref: object.Ref{Type: "Room", ID: "x"}, Created: born, Context: ctx, Logger: log})
	if r.Id() != "x" || r.Type() != "Room" || r.String() != "Room/x" || !r.CreationTime().Equal(born) || r.Logger == nil {
		t.Errorf("%+v", r)
	}
	cancel()
	if r.Context().Err() == nil {
		t.Error("the context does not end")
	}
}

func TestWords(t *testing.T) {
	for _, c := range []struct{ got, want string }{
		{object.DefaultDurability.String(), "Default"},
		{object.Durable.String(), "Durable"},
		{object.Volatile.String(), "Volatile"},
		{object.Periodic(time.Second).String(), "Periodic(1s)"},
		{object.OpCall.String() + object.OpCreate.String() + object.OpDelete.String(), "CallObjectCreateObjectDeleteObject"},
		{(&object.Call{Ref: object.Ref{Type: "T", ID: "x"}, Method: "M"}).Subject(), "T/x.M"},
		{(&object.Call{Op: object.OpDelete, Ref: object.Ref{Type: "T", ID: "x"}, Method: "M"}).Subject(), "T/x"},
	} {
		if c.got != c.want {
			t.Errorf("%q, want %q", c.got, c.want)
		}
	}
	if object.Durable.Interval() != 0 || object.Volatile.Interval() != 0 || object.Periodic(time.Minute).Interval() != time.Minute {
		t.Error("intervals")
	}
}

func TestPayloads(t *testing.T) {
	if p := (object.Payload{}); p.Form != object.FormMessage || p.Message != nil {
		t.Error("the zero payload is an absent message")
	}
	if p := object.OfJSON([]byte("{}")); p.Form != object.FormJSON || string(p.JSON) != "{}" {
		t.Error(p)
	}
	if p := object.OfBinary(nil); p.Form != object.FormBinary {
		t.Error(p)
	}
}

func TestRuntimeInContext(t *testing.T) {
	if _, ok := object.RuntimeFrom(t.Context()); ok {
		t.Error("a runtime from nowhere")
	}
	var rt object.Runtime = world{}
	if got, ok := object.RuntimeFrom(object.WithRuntime(t.Context(), rt)); !ok || !reflect.DeepEqual(got, rt) {
		t.Error(got)
	}
}

type world struct{}

func (world) Call(context.Context, object.Call) (object.Payload, error) { return object.Payload{}, nil }
func (world) Push(context.Context, object.Push) error                   { return nil }

func FuzzValidID(f *testing.F) {
	for _, s := range []string{"x", "", "a\x00", "\xff", strings.Repeat("x", 513)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, id string) {
		bad := id == "" || len(id) > 512 || strings.ToValidUTF8(id, "") != id
		for _, r := range id {
			bad = bad || r < ' ' || r >= 0x7f && r < 0xa0
		}
		if (object.ValidID(id) != nil) != bad {
			t.Errorf("%q: %v", id, object.ValidID(id))
		}
	})
}

var _ = (*Room).hidden
