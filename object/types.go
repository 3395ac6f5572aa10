package object

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/proto"
)

// Types is a set of registered types, safe for concurrent use. A server reads it
// at each activation, so a type may be registered before or after the start.
type Types struct {
	mu    sync.Mutex                       // of who registers
	types atomic.Pointer[map[string]*Type] // never changed in place: each call looks into it

	changed atomic.Int64                // when, in ns since 1970
	catalog atomic.Pointer[madeCatalog] // of the types that it was made of
}

// NewTypes returns an empty set.
func NewTypes() *Types {
	ts := new(Types)
	ts.types.Store(&map[string]*Type{})
	return ts
}

// Type is one registered type: how to make, call and keep its objects. Immutable.
type Type struct {
	Options
	Persistent   bool // it has a ToData of its own, or a State
	StateVersion int  // of that ToData, for an Upgrader; else 0
	Methods      map[string]*Method

	elem     reflect.Type
	stateful bool // it embeds a State
}

// Method is one callable method.
type Method struct {
	Name     string
	ReadOnly bool
	Internal bool          // no client may call it
	Request  proto.Message // a nil message of the request's type, to make new ones from
	Response proto.Message // a nil message of the response's type
	invoke   func(ctx context.Context, o Object, req proto.Message) (proto.Message, error)
}

// Register adds the type of obj, which is a typed nil such as (*ChatRoom)(nil).
// Registering it again with the same options changes nothing. The error names what
// is wrong with the type.
func (ts *Types) Register(obj Object, opts ...TypeOption) error {
	t, err := newType(obj, opts)
	if err != nil {
		return err
	}
	ts.mu.Lock()
	defer ts.mu.Unlock()
	all := *ts.types.Load()
	if old := all[t.Name]; old != nil {
		if old.elem == t.elem && sameOptions(old.Options, t.Options) {
			return nil
		}
		return fmt.Errorf("type %s is already registered, as %v with other options or from another Go type", t.Name, old.elem)
	}
	all = maps.Clone(all)
	all[t.Name] = t
	ts.changed.Store(time.Now().UnixNano())
	ts.types.Store(&all)
	return nil
}

// Lookup finds a type by its name.
func (ts *Types) Lookup(name string) (*Type, bool) {
	t, ok := (*ts.types.Load())[name]
	return t, ok
}

// Names lists the registered types, sorted.
func (ts *Types) Names() []string {
	return slices.Sorted(maps.Keys(*ts.types.Load()))
}

// New makes an object of the type, without an identity yet.
func (t *Type) New() Object {
	o := reflect.New(t.elem).Interface().(Object)
	if t.stateful {
		t.attachState(o)
	}
	return o
}

// MethodNames lists the callable methods, sorted.
func (t *Type) MethodNames() []string { return slices.Sorted(maps.Keys(t.Methods)) }

// Invoke calls the method on o. req must be of the method's request type.
func (m *Method) Invoke(ctx context.Context, o Object, req proto.Message) (proto.Message, error) {
	return m.invoke(ctx, o, req)
}

// reflected calls a method that no generated code knows.
func reflected(method reflect.Value) func(context.Context, Object, proto.Message) (proto.Message, error) {
	return func(ctx context.Context, o Object, req proto.Message) (proto.Message, error) {
		out := method.Call([]reflect.Value{reflect.ValueOf(o), reflect.ValueOf(ctx), reflect.ValueOf(req)})
		err, _ := out[1].Interface().(error)
		if out[0].IsNil() {
			return nil, err
		}
		return out[0].Interface().(proto.Message), err
	}
}

var (
	ctxType     = reflect.TypeFor[context.Context]()
	errType     = reflect.TypeFor[error]()
	messageType = reflect.TypeFor[proto.Message]()
	baseType    = reflect.TypeFor[*BaseObject]()
)

func newType(obj Object, opts []TypeOption) (*Type, error) {
	if obj == nil {
		return nil, errors.New("register a type with a typed nil, as in RegisterObjectType((*ChatRoom)(nil)), not with nil")
	}
	ptr := reflect.TypeOf(obj)
	if ptr.Kind() != reflect.Pointer || ptr.Elem().Kind() != reflect.Struct {
		return nil, fmt.Errorf("type %v: an object type is a pointer to a struct that embeds goverseapi.BaseObject", ptr)
	}
	if !basedByValue(reflect.New(ptr.Elem()).Interface().(Object)) {
		return nil, fmt.Errorf("type %v: it must embed goverseapi.BaseObject itself, not a pointer or an interface that is nil in a new object", ptr.Elem())
	}
	t := &Type{elem: ptr.Elem(), Methods: map[string]*Method{}}
	for _, opt := range opts {
		opt(&t.Options)
	}
	t.withDefaults()
	switch {
	case t.Name != "":
	case t.Service != nil:
		t.Name = t.Service.Type
	default:
		t.Name = t.elem.Name()
	}
	if err := errors.Join(t.validate(), ValidName(t.Name)); err != nil {
		return nil, fmt.Errorf("type %s: %w", t.Name, err)
	}
	add := t.addServiceMethods
	if t.Service == nil {
		add = func() error { return t.addMethods(ptr) }
	}
	if err := add(); err != nil {
		return nil, fmt.Errorf("type %s: %w", t.Name, err)
	}
	if err := t.findState(); err != nil {
		return nil, fmt.Errorf("type %s: %w", t.Name, err)
	}
	t.Persistent = overridesToData(t.New())
	if (t.Durability == Durable || t.Durability.Interval() > 0) && !t.Persistent {
		return nil, fmt.Errorf("type %s: it is to be kept (%v) but has neither a State nor ToData and FromData of its own", t.Name, t.Durability)
	}
	var err error
	if t.StateVersion, err = t.stateVersion(); err != nil {
		return nil, fmt.Errorf("type %s: %w", t.Name, err)
	}
	if t.Transactional && !t.Persistent {
		return nil, fmt.Errorf("type %s: it is Transactional but has neither a State nor ToData and FromData of its own, by which a method could be undone", t.Name)
	}
	return t, nil
}

// basedByValue says whether a new object has its base.
func basedByValue(o Object) (ok bool) {
	defer func() {
		if recover() != nil {
			ok = false // base was promoted through a nil pointer or interface
		}
	}()
	return o.base() != nil
}

func (t *Type) addMethods(ptr reflect.Type) error {
	var almost []string
	for i := range ptr.NumMethod() {
		m := ptr.Method(i)
		if _, inBase := baseType.MethodByName(m.Name); inBase {
			continue
		}
		switch {
		case callable(m.Type):
			t.Methods[m.Name] = &Method{
				Name:     m.Name,
				ReadOnly: slices.Contains(t.ReadOnly, m.Name),
				Internal: slices.Contains(t.Internal, m.Name),
				Request:  reflect.Zero(m.Type.In(2)).Interface().(proto.Message),
				Response: reflect.Zero(m.Type.Out(0)).Interface().(proto.Message),
				invoke:   reflected(m.Func),
			}
		case m.Type.NumIn() > 1 && m.Type.In(1) == ctxType:
			almost = append(almost, m.Name)
		}
	}
	for _, name := range t.ReadOnly {
		if t.Methods[name] == nil {
			return fmt.Errorf("read-only method %s is not a callable method%s", name, hint(almost))
		}
	}
	for _, name := range t.Internal {
		if t.Methods[name] == nil {
			return fmt.Errorf("internal method %s is not a callable method%s", name, hint(almost))
		}
	}
	if len(t.Methods) == 0 {
		return fmt.Errorf("it has no callable method; one has the form func (o *%s) M(ctx context.Context, req *SomeMessage) (*SomeMessage, error)%s",
			t.elem.Name(), hint(almost))
	}
	return nil
}

func hint(almost []string) string {
	if len(almost) == 0 {
		return ""
	}
	return " (these take a context but have another form: " + strings.Join(almost, ", ") + ")"
}

// callable tells func(o *T, ctx context.Context, req *M) (*N, error), M and N messages.
func callable(f reflect.Type) bool {
	return f.NumIn() == 3 && f.NumOut() == 2 && !f.IsVariadic() &&
		f.In(1) == ctxType && concreteMessage(f.In(2)) && concreteMessage(f.Out(0)) && f.Out(1) == errType
}

func concreteMessage(t reflect.Type) bool {
	return t.Kind() == reflect.Pointer && t.Implements(messageType)
}

// overridesToData asks an empty object. Go's reflection cannot tell a promoted
// method from an own one, but only BaseObject's returns this very error. A ToData
// that cannot run on an empty object is the user's.
func overridesToData(o Object) (own bool) {
	defer func() {
		if recover() != nil {
			own = true
		}
	}()
	_, err := o.ToData()
	return !errors.Is(err, ErrNotPersistent)
}
