package auth

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/xiaonanln/goverse/gate"
	"github.com/xiaonanln/goverse/object"
)

// JWTConfig says whose tokens are taken, and what is read in them.
type JWTConfig struct {
	Issuer   string // what "iss" has to be
	Audience string // what "aud" has to have

	// The issuer's public keys, as a JSON Web Key Set (RFC 7517): one of the two. A file is
	// looked at anew every few seconds. A URL is https, or on this machine; it is fetched
	// anew every 5 minutes, and when a token names a key that is not known, but not more
	// often than every 5 seconds. While that fails the keys stay as they are.
	KeysFile string
	KeysURL  string

	Leeway     time.Duration // by how much clocks may differ; default 30 s, at most 5 min
	UserClaim  string        // where the user id is; default "sub"
	RolesClaim string        // where the roles are: a list, or a text with spaces between; default "roles". Dots lead into objects: "realm_access.roles"

	AllowAnonymous bool // clients without a token come in as nobody

	Client *http.Client                 // for KeysURL; default: one with a timeout that follows no redirect to plain HTTP
	Warn   func(text string, err error) // hears of keys that cannot be read; optional
}

// maxLeeway bounds JWTConfig.Leeway.
const maxLeeway = 5 * time.Minute

func (c JWTConfig) withDefaults() JWTConfig {
	if c.Leeway == 0 {
		c.Leeway = 30 * time.Second
	}
	if c.UserClaim == "" {
		c.UserClaim = "sub"
	}
	if c.RolesClaim == "" {
		c.RolesClaim = "roles"
	}
	if c.Warn == nil {
		c.Warn = func(string, error) {}
	}
	return c
}

// Validate says everything that is wrong with c.
func (c JWTConfig) Validate() error {
	c = c.withDefaults()
	var errs []error
	if c.Issuer == "" {
		errs = append(errs, errors.New("the Issuer is empty: say whose tokens are taken"))
	}
	if c.Audience == "" {
		errs = append(errs, errors.New("the Audience is empty: without it a token that was made for another service would be taken here"))
	}
	if (c.KeysFile == "") == (c.KeysURL == "") {
		errs = append(errs, errors.New("give the issuer's keys as one of KeysFile and KeysURL"))
	}
	if c.Leeway < 0 || c.Leeway > maxLeeway {
		errs = append(errs, fmt.Errorf("the Leeway is %v; it is at most %v", c.Leeway, maxLeeway))
	}
	if c.KeysURL != "" {
		errs = append(errs, checkURL(c.KeysURL))
	}
	return errors.Join(errs...)
}

// JWT knows clients by "Authorization: Bearer <JSON Web Token>". It may be used
// concurrently, and embedded to hear of disconnects.
type JWT struct {
	noFarewell
	cfg    JWTConfig
	keys   *keyring
	parser *jwt.Parser
}

// NewJWT is a handler for the tokens of an issuer. A file of keys is read at once; a URL
// with the first token, so that a gate starts without its issuer.
func NewJWT(cfg JWTConfig) (*JWT, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("JWT configuration: %w", err)
	}
	cfg = cfg.withDefaults()
	j := &JWT{cfg: cfg, keys: newKeyring(cfg), parser: jwt.NewParser(
		jwt.WithValidMethods(allMethods()), jwt.WithIssuer(cfg.Issuer), jwt.WithAudience(cfg.Audience),
		jwt.WithExpirationRequired(), jwt.WithLeeway(cfg.Leeway), jwt.WithIssuedAt(), jwt.WithStrictDecoding(), jwt.WithJSONNumber(),
	)}
	if cfg.KeysFile != "" {
		if err := j.keys.refresh(context.Background(), 0); err != nil {
			return nil, err
		}
	}
	return j, nil
}

// OnClientAuthorise implements gate.EventHandler. Identities expire with their tokens.
func (j *JWT) OnClientAuthorise(ctx context.Context, headers map[string][]string) (*gate.CallerIdentity, error) {
	text, err := bearer(headers)
	if err != nil || text == "" {
		return nil, missing(err, j.cfg.AllowAnonymous)
	}
	claims := jwt.MapClaims{}
	if _, err := j.parser.ParseWithClaims(text, claims, func(t *jwt.Token) (any, error) { return j.key(ctx, t) }); err != nil {
		return nil, plain(err)
	}
	return j.identity(claims)
}

// key finds the key that a token names, if it may be used the way that the token says.
func (j *JWT) key(ctx context.Context, t *jwt.Token) (any, error) {
	if _, has := t.Header["crit"]; has {
		return nil, refuse("the token demands what is not known here (crit)")
	}
	kid, _ := t.Header["kid"].(string)
	k, err := j.keys.find(ctx, kid)
	if err != nil {
		return nil, err
	}
	for _, alg := range k.algorithms {
		if alg == t.Method.Alg() {
			return k.public, nil
		}
	}
	return nil, refuse("the token is signed in another way than its key is for")
}

// plain is what a client hears of its token: nothing of what stands in it.
func plain(err error) error {
	for _, known := range []struct {
		is   error
		text string
	}{
		{jwt.ErrTokenExpired, "the token has expired"},
		{jwt.ErrTokenNotValidYet, "the token is not valid yet"},
		{jwt.ErrTokenUsedBeforeIssued, "the token is not valid yet"},
		{jwt.ErrTokenInvalidAudience, "the token is for another audience"},
		{jwt.ErrTokenInvalidIssuer, "the token is of another issuer"},
		{jwt.ErrTokenRequiredClaimMissing, "the token lacks a claim: it needs exp, iss and aud"},
		{jwt.ErrTokenMalformed, "the token is no JSON Web Token"},
	} {
		if errors.Is(err, known.is) {
			return refuse("%s", known.text)
		}
	}
	if own := ownFault(err); own != nil { // of key
		return own
	}
	return refuse("the token's signature is not valid")
}

// Bounds of an identity.
const (
	maxRoles = 100
	maxRole  = 256 // bytes
)

func (j *JWT) identity(claims jwt.MapClaims) (*gate.CallerIdentity, error) {
	who := new(gate.CallerIdentity)
	who.UserID, _ = claims[j.cfg.UserClaim].(string)
	if object.ValidID(who.UserID) != nil {
		return nil, refuse("the token's claim %q does not name a user", j.cfg.UserClaim)
	}
	expires, err := claims.GetExpirationTime()
	if err != nil || expires == nil {
		return nil, refuse("the token does not say when it expires")
	}
	who.Expires = expires.Add(j.cfg.Leeway)
	var ok bool
	if who.Roles, ok = rolesIn(claims, j.cfg.RolesClaim); !ok {
		return nil, refuse("the token's claim %q is no list of at most %d roles", j.cfg.RolesClaim, maxRoles)
	}
	return who, nil
}

// rolesIn reads the roles at path; none, if nothing is there.
func rolesIn(claims map[string]any, path string) (roles []string, ok bool) {
	var at any = claims
	if whole, has := claims[path]; has { // a name of a URL has dots
		at, path = whole, ""
	}
	for name := range strings.SplitSeq(path, ".") {
		if path == "" {
			break
		}
		inner, isObject := at.(map[string]any)
		if !isObject {
			return nil, false
		}
		if at = inner[name]; at == nil {
			return nil, true
		}
	}
	switch list := at.(type) {
	case string:
		roles = strings.Fields(list)
	case []any:
		for _, r := range list {
			text, isText := r.(string)
			if !isText {
				return nil, false
			}
			roles = append(roles, text)
		}
	case nil:
	default:
		return nil, false
	}
	for _, r := range roles {
		if len(r) > maxRole || object.ValidName(r) != nil {
			return nil, false
		}
	}
	return roles, len(roles) <= maxRoles
}
