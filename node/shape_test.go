package node

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"testing/synctest"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	gate_pb "github.com/xiaonanln/goverse/gate/proto"
	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/object"
)

// Aged is a Kept of version 3. Version 0 and 1 kept a string, version 2 seconds.
type Aged struct{ Kept }

func (o *Aged) StateVersion() int { return 3 }

func (o *Aged) Upgrade(from object.StoredState) (proto.Message, error) {
	switch from.Version {
	case 0, 1:
		var s wrapperspb.StringValue
		if err := from.Into(&s); err != nil {
			return nil, err
		}
		switch s.Value {
		case "panic":
			panic("oh")
		case "nothing":
			return nil, nil
		case "refuse":
			return nil, errUser
		}
		return wrapperspb.Int64(int64(len(s.Value))), nil
	default:
		var d durationpb.Duration
		err := from.Into(&d)
		return wrapperspb.Int64(d.Seconds), err
	}
}

func aged(w *world, _ *Config) {
	w.must(w.types.Register((*Aged)(nil), object.ReadOnlyMethods("Read")))
}

// put stores a state by hand.
func (w *world) put(target, data string) {
	w.t.Helper()
	ref, _ := w.parse(target)
	w.must(w.store.SaveObject(bg, ref.Type, ref.ID, []byte(data)))
}

const pb = `"type.googleapis.com/google.protobuf.`

func TestUpgrade(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, kept, setup(aged))
		for i, c := range []struct {
			stored string
			n      int64
		}{
			{`{"@type":` + pb + `StringValue","value":"four"}`, 4},
			{`{"value":"fives","@version":1,"@type":` + pb + `StringValue"}`, 5}, // in another order
			{`{"@type": ` + pb + `Duration", "value": "6s", "@version": 2}`, 6},
			{`{"@version":3,"@type":` + pb + `Int64Value","value":"7"}`, 7},
		} {
			x := fmt.Sprintf("Aged/x%d", i)
			w.put(x, c.stored)
			w.want(bg, x+".Read", c.n)
			if r := w.stored(x); r.Version != 1 || string(r.Data) != c.stored {
				t.Errorf("a read has changed the row: %s", r.Data)
			}
			w.want(bg, x+".Change", c.n+1)
			want := fmt.Sprintf(`{"@type":%sInt64Value","@version":3,"value":"%d"}`, pb, c.n+1)
			if r := w.stored(x); string(r.Data) != want {
				t.Errorf("stored is %s, want %s", r.Data, want)
			}
		}
		w.want(bg, "Aged/new.Change", 1) // has nothing to upgrade
	})
}

// What cannot be understood is refused, and left as it is.
func TestAStateThatIsNotUnderstood(t *testing.T) {
	for name, c := range map[string]struct{ target, stored, says string }{
		"newer":              {"Aged/x", `{"@type":` + pb + `Int64Value","@version":4,"value":"1"}`, "version 4"},
		"newer, no versions": {"Kept/x", `{"@version":1,"@type":` + pb + `Int64Value","value":"1"}`, "version 1"},
		"no version":         {"Aged/x", `{"@type":` + pb + `Int64Value","@version":"two","value":"1"}`, "no version"},
		"version zero":       {"Aged/x", `{"@type":` + pb + `Int64Value","@version":0,"value":"1"}`, "no version"},
		"refused":            {"Aged/x", `{"@type":` + pb + `StringValue","value":"refuse"}`, "Upgrade refuses"},
		"panic":              {"Aged/x", `{"@type":` + pb + `StringValue","value":"panic"}`, "panicked"},
		"nothing":            {"Aged/x", `{"@type":` + pb + `StringValue","value":"nothing"}`, "no message"},
		"not its message":    {"Aged/x", `{"@type":` + pb + `StringValue","value":{"a":1}}`, "StringValue"},
		"no type":            {"Aged/x", `{"value":"1"}`, "@type"},
		"edited: a letter":   {"Kept/x", `{"@type":` + pb + `Int64Value","value":"x1"}`, "left as it is"},
		"edited: no message": {"Kept/x", `{"@type":"type.googleapis.com/gone.Message","value":"1"}`, "left as it is"},
		"edited: a field":    {"Kept/x", `{"@type":"type.googleapis.com/gate.RegisterResponse","nobody":1}`, "left as it is"},
		"edited: not JSON":   {"Kept/x", `[]`, "left as it is"},
		"FromData refuses":   {"Kept/x", `{"@type":` + pb + `Int64Value","value":"-1"}`, "FromData refuses"},
	} {
		bubble(t, name, func(t *testing.T) {
			w := start(t, kept, setup(aged))
			w.set(func(h *hooks) {
				h.fromData = func(o *Thing, m proto.Message) error {
					if v, ok := m.(*wrapperspb.Int64Value); ok && v.Value < 0 {
						return errors.New("negative")
					}
					return o.restore(m)
				}
			})
			w.put(c.target, c.stored)
			for _, method := range []string{".Read", ".Change"} {
				_, err := w.call(bg, c.target+method)
				if err == nil || !strings.Contains(err.Error(), c.says) || fault.OutcomeOf(err) != fault.NotExecuted {
					t.Errorf("%v, want %q", err, c.says)
				}
			}
			if err := w.create(bg, c.target); err == nil {
				t.Error("created over it")
			}
			w.must(w.SaveAllObjects(bg))
			if r := w.stored(c.target); r.Version != 1 || string(r.Data) != c.stored {
				t.Errorf("the row was changed: %s", r.Data)
			}
			w.put(c.target, `{"@type":`+pb+`Int64Value","@version":3,"value":"8"}`) // somebody mends it
			if strings.HasPrefix(c.target, "Aged") {
				w.want(bg, c.target+".Read", 8)
			}
			w.must(w.delete(bg, c.target))
			w.want(bg, c.target+".Change", 1)
		})
	}
}

type (
	VersionZero  struct{ Aged }
	VersionWild  struct{ Aged }
	VersionAlone struct{ Thing }
)

func (*VersionZero) StateVersion() int                                      { return 0 }
func (o *VersionWild) StateVersion() int                                    { return len(o.Id()[1:]) }
func (*VersionAlone) StateVersion() int                                     { return 1 }
func (*VersionAlone) Upgrade(object.StoredState) (m proto.Message, _ error) { return m, nil }

func TestVersionsAreCheckedAtRegistration(t *testing.T) {
	for _, obj := range []object.Object{(*VersionZero)(nil), (*VersionWild)(nil), (*VersionAlone)(nil)} {
		if err := object.NewTypes().Register(obj); err == nil {
			t.Errorf("%T was taken", obj)
		}
	}
}

// docs/format/state.md shows what is really written.
func TestStateFormat(t *testing.T) {
	page, err := os.ReadFile("../docs/format/state.md")
	if err != nil {
		t.Fatal(err)
	}
	mood, _ := structpb.NewStruct(map[string]any{"mood": "calm"})
	for _, c := range []struct {
		state   proto.Message
		version int
	}{{mood, 0}, {wrapperspb.Int64(42), 2}, {&gate_pb.RegisterResponse{ClientId: "c1"}, 7}} {
		data, err := encodeState(c.state, c.version)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(page), "\n"+string(data)+"\n") {
			t.Errorf("the page does not show %s", data)
		}
		stored, plain, err := splitState(data)
		if err != nil || stored.Version != c.version || stored.Message != string(c.state.ProtoReflect().Descriptor().FullName()) {
			t.Error(stored, err)
		}
		again, err := decodeState(plain)
		if err != nil || !proto.Equal(again, c.state) {
			t.Error(again, err)
		}
		into := c.state.ProtoReflect().New().Interface()
		if err := stored.Into(into); err != nil || !proto.Equal(into, c.state) {
			t.Error(into, err)
		}
	}
}
