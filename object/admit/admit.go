// Package admit says what every store takes: the limits of a record that all
// stores share, so that a program behaves alike on each of them. They are those of
// PostgreSQL's jsonb, and what SQLite needs besides. It is pure.
package admit

import (
	"bytes"
	"encoding/json"
	"math"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/xiaonanln/goverse/cluster/sharding"
	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/object"
)

const (
	// MaxData bounds an object's state, in bytes of JSON.
	MaxData = 4 << 20
	// MaxDepth bounds how deep arrays and objects are nested in it.
	MaxDepth = 1000
)

// Save checks what a Commit is asked to keep. The error says what is wrong with it
// and is fault.Invalid or fault.TooLarge.
func Save(s *object.Save) error {
	if err := Ref(s.Ref); err != nil {
		return err
	}
	if s.SaveID == [16]byte{} {
		return fault.New(fault.Invalid, "the save of %s has no SaveID: give each new save a fresh one", s.Ref)
	}
	if len(s.Calls) > 0 || len(s.Effects) > 0 {
		if err := records(s); err != nil {
			return err
		}
	}
	if s.Data == nil {
		return nil
	}
	return Data(s.Ref, s.Data)
}

// Ref checks that an object's name can be a key in every store.
func Ref(r object.Ref) error {
	if err := key("object's type", r.Type); err != nil {
		return err
	}
	return key("object's id", r.ID)
}

// Stamp checks who stamps which fences. Their Owner fields are not looked at.
func Stamp(owner string, fences []object.Fence) error {
	if owner == "" {
		return fault.New(fault.Invalid, "a stamp needs an owner")
	}
	for _, f := range fences {
		if f.Epoch == 0 || f.Epoch > math.MaxInt64 || f.Shard < 0 || f.Shard >= sharding.NumShards {
			return fault.New(fault.Invalid, "shard %d at epoch %d cannot be stamped: shards are 0 to %d, epochs begin at 1", f.Shard, f.Epoch, sharding.NumShards-1)
		}
	}
	return nil
}

// key checks what is a key in every store.
func key(what, s string) error {
	switch {
	case s == "":
		return fault.New(fault.Invalid, "the %s is empty", what)
	case len(s) > object.MaxIDLen:
		return fault.New(fault.TooLarge, "the %s has %d bytes; at most %d are allowed", what, len(s), object.MaxIDLen)
	case !utf8.ValidString(s):
		return fault.New(fault.Invalid, "the %s is not valid UTF-8: %q", what, s)
	case strings.IndexByte(s, 0) >= 0:
		return fault.New(fault.Invalid, "the %s has a NUL character: %q", what, s)
	}
	return nil
}

// Data checks an object's state: JSON in UTF-8, at most MaxData bytes and MaxDepth
// deep, without \u0000 and without half a surrogate pair.
func Data(r object.Ref, data []byte) error {
	switch {
	case len(data) > MaxData: // before it is read
	case !utf8.Valid(data):
		return fault.New(fault.Invalid, "the state of %s is not valid UTF-8", r)
	case !json.Valid(data):
		return fault.New(fault.Invalid, "the state of %s is not JSON", r)
	}
	return Encoded(r, data)
}

// Encoded is Data for what an encoder wrote, so that it surely is JSON in UTF-8. Other
// data it may refuse or not, or panic.
func Encoded(r object.Ref, data []byte) error {
	if len(data) > MaxData {
		return fault.New(fault.TooLarge, "the state of %s has %d bytes; at most %d can be stored: split the object", r, len(data), MaxData)
	}
	if tooDeep(data) {
		return fault.New(fault.TooLarge, "the state of %s is nested more than %d deep", r, MaxDepth)
	}
	if bad := badEscape(data); bad != "" {
		return fault.New(fault.Invalid, "the state of %s has the character %s, which no store keeps: use a bytes field for binary data", r, bad)
	}
	return nil
}

// tooDeep counts brackets first, which is much quicker and mostly enough.
func tooDeep(data []byte) bool {
	return bytes.Count(data, []byte("{"))+bytes.Count(data, []byte("[")) > MaxDepth && nesting(data) > MaxDepth
}

// nesting is the depth of valid JSON.
func nesting(data []byte) (deepest int) {
	depth, quoted := 0, false
	for i := 0; i < len(data); i++ {
		switch c := data[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{' || c == '[':
			depth++
			deepest = max(deepest, depth)
		case c == '}' || c == ']':
			depth--
		}
	}
	return deepest
}

// badEscape returns the first \u escape in valid JSON that stands for no storable
// character: \u0000, or a surrogate without its other half.
func badEscape(data []byte) string {
	for {
		i := bytes.IndexByte(data, '\\')
		if i < 0 {
			return ""
		}
		if data[i+1] != 'u' {
			data = data[i+2:]
			continue
		}
		r := hex4(data[i+2:])
		esc, rest := data[i:i+6], data[i+6:]
		if utf16.IsSurrogate(r) {
			if !lowHalf(r, rest) {
				return string(esc)
			}
			rest = rest[6:]
		}
		if r == 0 {
			return string(esc)
		}
		data = rest
	}
}

// lowHalf says whether rest begins with the escape that completes the pair of high.
func lowHalf(high rune, rest []byte) bool {
	if len(rest) < 6 || rest[0] != '\\' || rest[1] != 'u' {
		return false
	}
	return utf16.DecodeRune(high, hex4(rest[2:])) != utf8.RuneError
}

// hex4 reads the four digits that valid JSON has after \u.
func hex4(b []byte) (r rune) {
	for _, c := range b[:4] {
		r <<= 4
		switch {
		case c >= 'a':
			r |= rune(c-'a') + 10
		case c >= 'A':
			r |= rune(c-'A') + 10
		default:
			r |= rune(c - '0')
		}
	}
	return r
}
