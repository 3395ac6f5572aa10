package secure

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"hash"
	"log/slog"
)

// SecretBytes is how long a Secret is.
const SecretBytes = 32

// Secret is what the processes of a cluster know and nobody else does. It never shows
// itself in a text: neither in an error nor in a log. The zero value is none.
type Secret struct{ key [SecretBytes]byte }

// NewSecret makes one at random.
func NewSecret() Secret {
	var s Secret
	rand.Read(s.key[:])
	return s
}

var errSecret = errors.New("want 64 hexadecimal digits, not all of them 0")

// ParseSecret reads what Reveal wrote. The error does not say what was there.
func ParseSecret(text string) (Secret, error) {
	var s Secret
	if len(text) != 2*SecretBytes {
		return Secret{}, errSecret
	}
	if _, err := hex.Decode(s.key[:], []byte(text)); err != nil || s == (Secret{}) {
		return Secret{}, errSecret
	}
	return s, nil
}

// Reveal is the secret in clear, for the one place that keeps it.
func (s Secret) Reveal() string { return hex.EncodeToString(s.key[:]) }

// Known says that it is not the zero value.
func (s Secret) Known() bool { return s != Secret{} }

// Hash is a fresh keyed hash, HMAC-SHA256 by the secret.
func (s Secret) Hash() hash.Hash { return hmac.New(sha256.New, s.key[:]) }

const hidden = "(secret)"

// String implements fmt.Stringer.
func (s Secret) String() string { return hidden }

// GoString implements fmt.GoStringer.
func (s Secret) GoString() string { return hidden }

// MarshalText implements encoding.TextMarshaler, and JSON with it.
func (s Secret) MarshalText() ([]byte, error) { return []byte(hidden), nil }

// LogValue implements slog.LogValuer.
func (s Secret) LogValue() slog.Value { return slog.StringValue(hidden) }
