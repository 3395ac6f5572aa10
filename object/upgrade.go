package object

import (
	"encoding/json"
	"fmt"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/xiaonanln/goverse/internal/misfit"
)

// Upgrader is a type whose stored state has changed its shape in a way that protobuf
// does not bridge by itself: new fields need nothing, but a field that means something
// else now, or another message, does.
//
// A state is stored with the version of its day, and one that is stored at a higher
// version than the program's is refused, and left as it is: run the newer program.
type Upgrader interface {
	// StateVersion is the version of what ToData returns: 1 or higher, the same for all
	// objects of the type, and raised with each change. What was stored before the type
	// had versions is of version 0.
	StateVersion() int
	// Upgrade makes today's state of one that was stored at a lower version. It runs
	// before FromData, on an object without any state, and changes nothing by itself:
	// the object is stored anew with its next change.
	Upgrade(from StoredState) (proto.Message, error)
}

// StoredState is a state as it was stored.
type StoredState struct {
	Version int
	Message string          // the full name of the message that ToData returned
	JSON    json.RawMessage // the message in protobuf's JSON, an object
}

// Into reads the state into m, which has to have all fields that are in it.
func (s StoredState) Into(m proto.Message) error {
	body := s.JSON
	if strings.HasPrefix(s.Message, "google.protobuf.") { // their JSON need not be an object: it is in a field
		var box struct {
			Value json.RawMessage `json:"value"`
		}
		if err := json.Unmarshal(s.JSON, &box); err != nil {
			return fmt.Errorf("a stored %s, version %d, is no JSON object", s.Message, s.Version)
		}
		body = box.Value
	}
	if err := misfit.Unmarshal(body, m); err != nil {
		return fmt.Errorf("a stored %s, version %d, is no %s: %w", s.Message, s.Version, m.ProtoReflect().Descriptor().FullName(), err)
	}
	return nil
}

// stateVersion is what a new object says of its type, 0 for one without versions.
func (t *Type) stateVersion() (version int, err error) {
	u, ok := t.New().(Upgrader)
	if !ok {
		return 0, nil
	}
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("its StateVersion panics on a new object, and has to be the same for all: %v", p)
		}
	}()
	version = u.StateVersion()
	switch {
	case !t.Persistent:
		return 0, fmt.Errorf("it has StateVersion and Upgrade, but no ToData and FromData of its own")
	case version < 1:
		return 0, fmt.Errorf("its StateVersion is %d; versions begin at 1", version)
	}
	return version, nil
}
