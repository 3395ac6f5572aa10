package object

import (
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// MaxIDLen bounds an object's id and its type's name, in bytes.
const MaxIDLen = 512

// ValidName checks a type's or a method's name.
func ValidName(name string) error {
	if name == "" {
		return errors.New("the name is empty")
	}
	return valid("name", name)
}

// ValidID checks an object's id: 1 to 512 bytes of UTF-8 without control characters.
func ValidID(id string) error {
	if id == "" {
		return errors.New("the object id is empty")
	}
	return valid("object id", id)
}

func valid(what, s string) error {
	if len(s) > MaxIDLen {
		return fmt.Errorf("the %s has %d bytes; at most %d are allowed", what, len(s), MaxIDLen)
	}
	if plain(s) {
		return nil
	}
	if !utf8.ValidString(s) {
		return fmt.Errorf("the %s is not valid UTF-8: %q", what, s)
	}
	for _, r := range s {
		if unicode.IsControl(r) {
			return fmt.Errorf("the %s has a control character: %q", what, s)
		}
	}
	return nil
}

// plain says that s is of printable ASCII, as most are.
func plain(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// NewID returns a random object id: 128 bits in 26 lower-case letters and digits.
func NewID() string {
	return strings.ToLower(rand.Text())
}
