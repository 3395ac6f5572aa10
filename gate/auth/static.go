// Package auth has event handlers for gates: who a client is by a token that the gate was
// told, or by a JWT that somebody else has signed.
package auth

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/xiaonanln/goverse/gate"
	"github.com/xiaonanln/goverse/internal/fault"
)

// StaticToken is who has a token.
type StaticToken struct {
	Token  string // at least 16 bytes, which nobody can guess
	UserID string
	Roles  []string
}

// StaticTokens knows clients by "Authorization: Bearer <token>". It may be used
// concurrently, and embedded to hear of disconnects.
type StaticTokens struct {
	noFarewell
	anonymous bool
	known     []knownToken
}

type knownToken struct {
	digest [sha256.Size]byte
	who    *gate.CallerIdentity
}

// NewStaticTokens is a handler for tokens. Who has none is refused.
func NewStaticTokens(tokens ...StaticToken) (*StaticTokens, error) {
	if len(tokens) == 0 {
		return nil, errors.New("there are no tokens, and so nobody could come in")
	}
	s := new(StaticTokens)
	var errs []error
	for i, t := range tokens {
		k := knownToken{sha256.Sum256([]byte(t.Token)), &gate.CallerIdentity{UserID: t.UserID, Roles: slices.Clone(t.Roles)}}
		switch {
		case len(t.Token) < 16:
			errs = append(errs, fmt.Errorf("token %d has %d bytes; give it at least 16 random ones", i+1, len(t.Token)))
		case strings.ContainsAny(t.Token, " \t\r\n"):
			errs = append(errs, fmt.Errorf("token %d has a space in it, which no header carries", i+1))
		case t.UserID == "":
			errs = append(errs, fmt.Errorf("token %d is nobody's: give it a user id", i+1))
		case slices.ContainsFunc(s.known, func(o knownToken) bool { return o.digest == k.digest }):
			errs = append(errs, fmt.Errorf("token %d is there twice", i+1))
		}
		s.known = append(s.known, k)
	}
	return s, errors.Join(errs...)
}

// OrAnonymous also lets clients in that give no token, as nobody. A wrong one is refused.
func (s *StaticTokens) OrAnonymous() *StaticTokens {
	c := *s
	c.anonymous = true
	return &c
}

// OnClientAuthorise implements gate.EventHandler. How long it takes tells nothing of the
// tokens.
func (s *StaticTokens) OnClientAuthorise(_ context.Context, headers map[string][]string) (*gate.CallerIdentity, error) {
	token, err := bearer(headers)
	if err != nil || token == "" {
		return nil, missing(err, s.anonymous)
	}
	digest := sha256.Sum256([]byte(token))
	var who *gate.CallerIdentity
	for _, k := range s.known {
		if subtle.ConstantTimeCompare(digest[:], k.digest[:]) == 1 {
			who = k.who
		}
	}
	if who == nil {
		return nil, refuse("the token is not known here")
	}
	return who, nil
}

// noFarewell is a handler's other half where nothing is to be done.
type noFarewell struct{}

// OnClientDisconnect implements gate.EventHandler.
func (noFarewell) OnClientDisconnect(context.Context, string, *gate.CallerIdentity) {}

// maxToken bounds a token, in bytes.
const maxToken = 16 << 10

// bearer is the token in the headers; "" if there is none.
func bearer(headers map[string][]string) (string, error) {
	values := headers["authorization"]
	switch len(values) {
	case 0:
		return "", nil
	case 1:
	default:
		return "", refuse("there are several Authorization headers; give one")
	}
	scheme, token, ok := strings.Cut(values[0], " ")
	token = strings.Trim(token, " ")
	switch {
	case !ok || !strings.EqualFold(scheme, "Bearer") || token == "":
		return "", refuse(`the Authorization header is not "Bearer <token>"`)
	case len(token) > maxToken:
		return "", refuse("the token is too long")
	}
	return token, nil
}

// missing is what becomes of a client without a token.
func missing(err error, anonymous bool) error {
	switch {
	case err != nil:
		return err
	case anonymous:
		return nil
	}
	return refuse(`no token was given; send the header "Authorization: Bearer <token>"`)
}

func refuse(format string, args ...any) error {
	return fault.New(fault.Unauthenticated, format, args...)
}
