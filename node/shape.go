package node

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/xiaonanln/goverse/object"
)

// versionKey stands beside "@type" in a stored state whose type has versions. No field
// of a message is called so. docs/format/state.md draws the whole.
const versionKey = "@version"

// withVersion puts the version behind the "@type" that a state begins with.
func withVersion(data []byte, name string, version int) []byte {
	if version == 0 {
		return data
	}
	head := len(`{"@type":"`) + len(typeURLPrefix) + len(name) + len(`"`)
	out := make([]byte, 0, len(data)+len(versionKey)+16)
	out = append(out, data[:head]...)
	out = append(out, `,"`+versionKey+`":`...)
	out = strconv.AppendInt(out, int64(version), 10)
	return append(out, data[head:]...)
}

// recall is the message to restore obj from: what is stored, upgraded where it is of an
// older shape.
func (a *activation) recall(obj object.Object, data []byte) (proto.Message, error) {
	known := a.typ.StateVersion
	if known == 0 && !bytes.Contains(data, []byte(`"`+versionKey+`"`)) {
		return decodeState(data)
	}
	stored, plain, err := splitState(data)
	switch {
	case err != nil:
		return nil, err
	case stored.Version > known:
		return nil, fmt.Errorf("it has version %d, and this program knows type %s up to version %d: a newer program has stored it, run that one", stored.Version, a.typ.Name, known)
	case stored.Version == known:
		return decodeState(plain)
	}
	state, err := obj.(object.Upgrader).Upgrade(stored)
	switch {
	case err != nil:
		return nil, fmt.Errorf("it has version %d, and Upgrade refuses it: %w", stored.Version, err)
	case state == nil || !state.ProtoReflect().IsValid():
		return nil, fmt.Errorf("it has version %d, and Upgrade returned no message", stored.Version)
	}
	return state, nil
}

// splitState takes a stored state apart, whatever order a store has given its parts.
// plain is the state without a version.
func splitState(data []byte) (stored object.StoredState, plain []byte, err error) {
	var parts map[string]json.RawMessage
	if err := json.Unmarshal(data, &parts); err != nil {
		return stored, nil, errors.New("it is no JSON object")
	}
	var url string
	if err := json.Unmarshal(parts["@type"], &url); err != nil || url == "" {
		return stored, nil, errors.New(`it has no "@type"`)
	}
	stored.Message = url[strings.LastIndexByte(url, '/')+1:]
	if v, ok := parts[versionKey]; ok {
		if err := json.Unmarshal(v, &stored.Version); err != nil || stored.Version < 1 {
			return stored, nil, fmt.Errorf("its %q is no version", versionKey)
		}
	}
	delete(parts, versionKey)
	if plain, err = json.Marshal(parts); err != nil {
		return stored, nil, err
	}
	delete(parts, "@type")
	stored.JSON, err = json.Marshal(parts)
	return stored, plain, err
}
