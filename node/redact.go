package node

import (
	"fmt"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/xiaonanln/goverse/object"
)

// Bounds of a state that is shown.
const (
	maxShown  = 1 << 20 // bytes of its JSON
	maxHidden = 64      // names of fields that were taken out
)

// shownState is a state as people may see it: without the fields that are marked debug_redact,
// whose paths are hidden. A state whose message this program cannot read is not shown: it
// might have some.
func shownState(data []byte, t *object.Type) (state []byte, hidden []string, why string) {
	stored, plain, err := splitState(data)
	if err == nil && stored.Version != t.StateVersion {
		err = fmt.Errorf("it has version %d, and this program's type has %d", stored.Version, t.StateVersion)
	}
	var m proto.Message
	if err == nil {
		m, err = decodeState(plain)
	}
	if err != nil {
		return nil, nil, "what of it is not to be shown is not known here: " + err.Error()
	}
	var r redaction
	r.message(m.ProtoReflect(), "")
	state, err = marshalState(m)
	switch {
	case err != nil:
		return nil, nil, err.Error()
	case len(state) > maxShown:
		return nil, r.hidden, fmt.Sprintf("it has %d bytes of JSON; up to %d are shown", len(state), maxShown)
	}
	return state, r.hidden, ""
}

// redaction takes fields out of a message.
type redaction struct{ hidden []string }

func (r *redaction) message(m protoreflect.Message, path string) {
	if a, ok := m.Interface().(*anypb.Any); ok {
		r.any(a, path)
		return
	}
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		at := join(path, f.JSONName())
		switch opts, _ := f.Options().(*descriptorpb.FieldOptions); {
		case opts.GetDebugRedact():
			m.Clear(f)
			r.hide(at)
		case f.IsMap() && f.MapValue().Message() != nil:
			v.Map().Range(func(_ protoreflect.MapKey, v protoreflect.Value) bool {
				r.message(v.Message(), at+".*")
				return true
			})
		case f.IsList() && f.Message() != nil:
			for i := range v.List().Len() {
				r.message(v.List().Get(i).Message(), at+".*")
			}
		case !f.IsMap() && !f.IsList() && f.Message() != nil:
			r.message(v.Message(), at)
		}
		return true
	})
}

// any looks into a message within the message.
func (r *redaction) any(a *anypb.Any, path string) {
	if len(a.Value) == 0 {
		return
	}
	inner, err := a.UnmarshalNew()
	if err == nil {
		r.message(inner.ProtoReflect(), path)
		err = a.MarshalFrom(inner)
	}
	if err != nil { // nobody knows what is in it
		proto.Reset(a)
		r.hide(path)
	}
}

// hide notes a path, once for all elements of a list or a map.
func (r *redaction) hide(path string) {
	for _, h := range r.hidden {
		if h == path {
			return
		}
	}
	if len(r.hidden) < maxHidden {
		r.hidden = append(r.hidden, path)
	}
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}
