package auth

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"go.uber.org/goleak"

	"github.com/xiaonanln/goverse/gate"
	"github.com/xiaonanln/goverse/internal/fault"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	rsaKey, _          = rsa.GenerateKey(rand.Reader, 2048)
	otherRSA, _        = rsa.GenerateKey(rand.Reader, 2048)
	ecKey, _           = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	edPublic, edKey, _ = ed25519.GenerateKey(rand.Reader)
)

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

func jwkOf(kid string, public crypto.PublicKey) map[string]any {
	switch k := public.(type) {
	case *rsa.PublicKey:
		return map[string]any{"kty": "RSA", "kid": kid, "n": b64(k.N.Bytes()), "e": b64(big.NewInt(int64(k.E)).Bytes())}
	case *ecdsa.PublicKey:
		point, _ := k.Bytes()
		return map[string]any{"kty": "EC", "crv": "P-256", "kid": kid, "x": b64(point[1:33]), "y": b64(point[33:])}
	case ed25519.PublicKey:
		return map[string]any{"kty": "OKP", "crv": "Ed25519", "kid": kid, "x": b64(k)}
	}
	panic("a key of another kind")
}

func setOf(keys ...map[string]any) []byte {
	b, _ := json.Marshal(map[string]any{"keys": keys})
	return b
}

// good are the claims of a token that is taken.
func good() jwt.MapClaims {
	return jwt.MapClaims{"iss": "https://issuer", "aud": []string{"other", "goverse"}, "sub": "ann", "roles": []string{"admin", "dev"},
		"exp": time.Now().Add(time.Hour).Unix(), "iat": time.Now().Unix()}
}

func with(change func(jwt.MapClaims)) jwt.MapClaims {
	c := good()
	change(c)
	return c
}

func sign(t testing.TB, m jwt.SigningMethod, kid string, key any, claims jwt.Claims, header ...string) string {
	t.Helper()
	token := jwt.NewWithClaims(m, claims)
	if kid != "" {
		token.Header["kid"] = kid
	}
	for i := 0; i < len(header); i += 2 {
		token.Header[header[i]] = header[i+1]
	}
	text, err := token.SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func ask(h gate.EventHandler, token string) (*gate.CallerIdentity, error) {
	return h.OnClientAuthorise(context.Background(), map[string][]string{"authorization": {"Bearer " + token}})
}

func config(t testing.TB, set []byte) JWTConfig {
	t.Helper()
	file := filepath.Join(t.TempDir(), "keys.json")
	if err := os.WriteFile(file, set, 0o600); err != nil {
		t.Fatal(err)
	}
	return JWTConfig{Issuer: "https://issuer", Audience: "goverse", KeysFile: file}
}

func allKeys() []byte {
	return setOf(jwkOf("r", &rsaKey.PublicKey), jwkOf("e", &ecKey.PublicKey), jwkOf("d", edPublic))
}

func newJWT(t testing.TB, cfg JWTConfig) *JWT {
	t.Helper()
	j, err := NewJWT(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return j
}

func TestTokensThatAreTaken(t *testing.T) {
	j := newJWT(t, config(t, allKeys()))
	for kid, by := range map[string]struct {
		method jwt.SigningMethod
		key    any
	}{
		"r": {jwt.SigningMethodRS256, rsaKey}, "e": {jwt.SigningMethodES256, ecKey}, "d": {jwt.SigningMethodEdDSA, edKey},
	} {
		claims := good()
		who, err := ask(j, sign(t, by.method, kid, by.key, claims))
		if err != nil {
			t.Errorf("%s: %v", kid, err)
			continue
		}
		exp := time.Unix(claims["exp"].(int64), 0)
		if who.UserID != "ann" || !slices.Equal(who.Roles, []string{"admin", "dev"}) || !who.Expires.Equal(exp.Add(30*time.Second)) {
			t.Errorf("%s: %+v", kid, who)
		}
	}
	if who, err := ask(j, sign(t, jwt.SigningMethodPS512, "r", rsaKey, with(func(c jwt.MapClaims) { c["exp"] = time.Now().Add(-10 * time.Second).Unix() }))); err != nil || who.UserID != "ann" {
		t.Errorf("within the leeway: %v, %v", who, err)
	}
}

// Every forged, foreign or stale token is refused, in so many words, none of which are its
// own.
func TestTokensThatAreRefused(t *testing.T) {
	j := newJWT(t, config(t, allKeys()))
	der, _ := x509.MarshalPKIXPublicKey(&rsaKey.PublicKey)
	public := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	rs := func(kid string, key any, claims jwt.Claims, header ...string) string {
		return sign(t, jwt.SigningMethodRS256, kid, key, claims, header...)
	}
	sound := rs("r", rsaKey, good())
	cut := strings.Split(sound, ".")
	forged := b64([]byte(`{"iss":"https://issuer","aud":"goverse","sub":"root","exp":99999999999}`))
	for name, c := range map[string]struct{ token, says string }{
		"expired":                      {rs("r", rsaKey, with(func(c jwt.MapClaims) { c["exp"] = time.Now().Add(-time.Minute).Unix() })), "has expired"},
		"without an end":               {rs("r", rsaKey, with(func(c jwt.MapClaims) { delete(c, "exp") })), "lacks a claim"},
		"not yet":                      {rs("r", rsaKey, with(func(c jwt.MapClaims) { c["nbf"] = time.Now().Add(time.Hour).Unix() })), "not valid yet"},
		"made tomorrow":                {rs("r", rsaKey, with(func(c jwt.MapClaims) { c["iat"] = time.Now().Add(time.Hour).Unix() })), "not valid yet"},
		"another audience":             {rs("r", rsaKey, with(func(c jwt.MapClaims) { c["aud"] = "bank" })), "another audience"},
		"no audience":                  {rs("r", rsaKey, with(func(c jwt.MapClaims) { delete(c, "aud") })), "lacks a claim"},
		"another issuer":               {rs("r", rsaKey, with(func(c jwt.MapClaims) { c["iss"] = "https://evil" })), "another issuer"},
		"no issuer":                    {rs("r", rsaKey, with(func(c jwt.MapClaims) { delete(c, "iss") })), "lacks a claim"},
		"another's key":                {rs("r", otherRSA, good()), "signature"},
		"another's key under its name": {rs("x", otherRSA, good()), "not known"},
		"no key named, of several":     {rs("", rsaKey, good()), "not known"},
		"alg none":                     {sign(t, jwt.SigningMethodNone, "r", jwt.UnsafeAllowNoneSignatureType, good()), "signature"},
		"HS256 with the public PEM":    {sign(t, jwt.SigningMethodHS256, "r", public, good()), "signature"},
		"HS256 with the modulus":       {sign(t, jwt.SigningMethodHS256, "r", rsaKey.N.Bytes(), good()), "signature"},
		"another key's algorithm":      {sign(t, jwt.SigningMethodES256, "r", ecKey, good()), "another way"},
		"claims that were changed":     {cut[0] + "." + forged + "." + cut[2], "signature"},
		"no signature":                 {cut[0] + "." + cut[1] + ".", "signature"},
		"a crit header":                {rs("r", rsaKey, good(), "crit", "b64"), "crit"},
		"no token":                     {"not-a-token-at-all", "no JSON Web Token"},
		"two of three":                 {cut[0] + "." + cut[1], "no JSON Web Token"},
		"endless":                      {strings.Repeat("a", maxToken+1), "too long"},
		"nobody":                       {rs("r", rsaKey, with(func(c jwt.MapClaims) { delete(c, "sub") })), `"sub" does not name a user`},
		"nobody's name":                {rs("r", rsaKey, with(func(c jwt.MapClaims) { c["sub"] = "a\nb" })), `"sub" does not name a user`},
		"roles that are none":          {rs("r", rsaKey, with(func(c jwt.MapClaims) { c["roles"] = 7 })), `"roles" is no list`},
		"too many roles":               {rs("r", rsaKey, with(func(c jwt.MapClaims) { c["roles"] = strings.Repeat("x ", maxRoles+1) })), `"roles" is no list`},
	} {
		who, err := ask(j, c.token)
		if who != nil || fault.KindOf(err) != fault.Unauthenticated || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, %v; want %q", name, who, err, c.says)
		}
		if err != nil && (strings.Contains(err.Error(), "evil") || strings.Contains(err.Error(), "bank") || strings.Contains(err.Error(), cut[0])) {
			t.Errorf("%s: the error says what stands in the token: %v", name, err)
		}
	}
	if _, err := ask(j, sound); err != nil {
		t.Error("a sound one is refused:", err)
	}
}

func TestHeadersThatAreRefused(t *testing.T) {
	j := newJWT(t, config(t, allKeys()))
	s, err := NewStaticTokens(StaticToken{Token: "0123456789abcdef", UserID: "ann", Roles: []string{"dev"}})
	if err != nil {
		t.Fatal(err)
	}
	cfg := config(t, allKeys())
	cfg.AllowAnonymous = true
	for _, h := range []struct {
		gate.EventHandler
		anonymous bool
	}{{j, false}, {s, false}, {newJWT(t, cfg), true}, {s.OrAnonymous(), true}} {
		for _, values := range [][]string{nil, {""}, {"Bearer"}, {"Bearer "}, {"Basic 0123456789abcdef"}, {"0123456789abcdef"}, {"Bearer a", "Bearer b"}, {"Bearer 0123456789abcdeF"}} {
			who, err := h.OnClientAuthorise(t.Context(), map[string][]string{"authorization": values})
			if nobody := h.anonymous && values == nil; who != nil || (err == nil) != nobody || !nobody && fault.KindOf(err) != fault.Unauthenticated {
				t.Errorf("%T %q: %v, %v", h.EventHandler, values, who, err)
			}
		}
	}
	if who, err := s.OnClientAuthorise(t.Context(), map[string][]string{"authorization": {"bearer 0123456789abcdef"}}); err != nil || who.UserID != "ann" || who.Roles[0] != "dev" {
		t.Error(who, err)
	}
}

func TestStaticTokensThatAreWrong(t *testing.T) {
	for _, tokens := range [][]StaticToken{
		nil, {{Token: "short", UserID: "a"}}, {{Token: "0123456789abcdef"}}, {{Token: "0123456789 abcdef", UserID: "a"}},
		{{Token: "0123456789abcdef", UserID: "a"}, {Token: "0123456789abcdef", UserID: "b"}},
	} {
		if _, err := NewStaticTokens(tokens...); err == nil || strings.Contains(err.Error(), "0123456789") {
			t.Errorf("%v: %v", tokens, err)
		}
	}
}

func TestClaimsAreWhereTheyAreSaidToBe(t *testing.T) {
	for path, claims := range map[string]jwt.MapClaims{
		"realm_access.roles":    {"realm_access": map[string]any{"roles": []string{"dev"}}},
		"https://x.example/ro.": {"https://x.example/ro.": "dev"},
		"scope":                 {"scope": " dev "},
	} {
		cfg := config(t, setOf(jwkOf("", edPublic)))
		cfg.UserClaim, cfg.RolesClaim = "email", path
		all := with(func(c jwt.MapClaims) { c["email"] = "ann@x"; c["roles"] = "other" })
		for name, value := range claims {
			all[name] = value
		}
		who, err := ask(newJWT(t, cfg), sign(t, jwt.SigningMethodEdDSA, "", edKey, all))
		if err != nil || who.UserID != "ann@x" || !slices.Equal(who.Roles, []string{"dev"}) {
			t.Errorf("%s: %+v, %v", path, who, err)
		}
	}
}

// issuer is a URL of keys, without a network.
type issuer struct {
	set  atomic.Pointer[[]byte] // nil: it is down
	gets atomic.Int64
}

func (i *issuer) RoundTrip(*http.Request) (*http.Response, error) {
	i.gets.Add(1)
	set := i.set.Load()
	if set == nil {
		return nil, errors.New("it is down")
	}
	return &http.Response{StatusCode: 200, Status: "200 OK", Body: body{strings.NewReader(string(*set))}}, nil
}

type body struct{ *strings.Reader }

func (body) Close() error { return nil }

func (i *issuer) publish(set []byte) { i.set.Store(&set) }

// Keys come and go: a new one is found as soon as a token names it, one that was taken back
// is refused, and an issuer that is down changes nothing.
func TestKeysRotate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var from issuer
		var warned int
		j := newJWT(t, JWTConfig{Issuer: "https://issuer", Audience: "goverse", KeysURL: "https://issuer/keys", Client: &http.Client{Transport: &from},
			Warn: func(string, error) { warned++ }})
		old, next := sign(t, jwt.SigningMethodES256, "old", ecKey, good()), sign(t, jwt.SigningMethodEdDSA, "new", edKey, good())
		want := func(what, token string, kind fault.Kind, gets int64) {
			t.Helper()
			before := from.gets.Load()
			if _, err := ask(j, token); fault.KindOf(err) != kind || from.gets.Load()-before != gets {
				t.Errorf("%s: %v after %d fetches, want %v after %d", what, err, from.gets.Load()-before, kind, gets)
			}
		}
		want("the issuer is down", old, fault.NotReady, 1)
		want("and is left in peace", old, fault.NotReady, 0)
		from.publish(setOf(jwkOf("old", &ecKey.PublicKey)))
		time.Sleep(betweenGets)
		want("it is up", old, 0, 1)
		want("its keys are known", old, 0, 0)
		want("a key that is not known, in the same moment", next, fault.Unauthenticated, 0)
		time.Sleep(betweenGets)
		want("a key that is not there", next, fault.Unauthenticated, 1)
		for i := range 100 {
			want("many of them", sign(t, jwt.SigningMethodEdDSA, fmt.Sprint(i), edKey, good()), fault.Unauthenticated, 0)
		}
		from.publish(setOf(jwkOf("old", &ecKey.PublicKey), jwkOf("new", edPublic)))
		time.Sleep(betweenGets)
		want("the new key", next, 0, 1)
		from.publish(setOf(jwkOf("new", edPublic)))
		want("the old key, taken back a moment ago", old, 0, 0)
		time.Sleep(urlAge)
		want("the old key, taken back", old, fault.Unauthenticated, 1)
		from.set.Store(nil)
		time.Sleep(urlAge)
		want("the issuer is down again", next, 0, 1)
		time.Sleep(betweenGets)
		want("the old key, while it is down", old, fault.Unauthenticated, 1)
		from.publish([]byte(`{"keys":[]}`))
		time.Sleep(betweenGets)
		want("the issuer publishes nonsense", next, 0, 1)
		if warned != 4 {
			t.Errorf("warned %d times", warned)
		}
	})
}

// A file of keys is replaced while the gate runs.
func TestAFileOfKeysIsReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := config(t, setOf(jwkOf("old", &ecKey.PublicKey)))
		j := newJWT(t, cfg)
		old, next := sign(t, jwt.SigningMethodES256, "old", ecKey, good()), sign(t, jwt.SigningMethodEdDSA, "new", edKey, good())
		if err := os.WriteFile(cfg.KeysFile, setOf(jwkOf("new", edPublic)), 0o600); err != nil {
			t.Fatal(err)
		}
		time.Sleep(fileAge)
		if _, err := ask(j, next); err != nil {
			t.Error(err)
		}
		if _, err := ask(j, old); fault.KindOf(err) != fault.Unauthenticated {
			t.Error(err)
		}
		if err := os.WriteFile(cfg.KeysFile, []byte("half a fi"), 0o600); err != nil {
			t.Fatal(err)
		}
		time.Sleep(fileAge)
		if _, err := ask(j, next); err != nil {
			t.Error("a file that is being written takes its keys:", err)
		}
	})
}

func TestConfigurationsThatAreWrong(t *testing.T) {
	for says, c := range map[string]JWTConfig{
		"Issuer is empty":     {Audience: "a", KeysFile: "x"},
		"Audience is empty":   {Issuer: "i", KeysFile: "x"},
		"one of KeysFile and": {Issuer: "i", Audience: "a"},
		"one of KeysFile":     {Issuer: "i", Audience: "a", KeysFile: "x", KeysURL: "https://x"},
		"give an https URL":   {Issuer: "i", Audience: "a", KeysURL: "http://issuer.example/keys"},
		"at most 5m":          {Issuer: "i", Audience: "a", KeysFile: "x", Leeway: time.Hour},
		"no such file":        {Issuer: "i", Audience: "a", KeysFile: filepath.Join(t.TempDir(), "none")},
	} {
		if _, err := NewJWT(c); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("want %q: %v", says, err)
		}
	}
	if err := (JWTConfig{Issuer: "i", Audience: "a", KeysURL: "http://127.0.0.1:8080/keys"}).Validate(); err != nil {
		t.Error(err)
	}
}

func TestKeySetsThatAreWrong(t *testing.T) {
	change := func(j map[string]any, name string, value any) map[string]any { j[name] = value; return j }
	for says, set := range map[string][]byte{
		"no JSON Web Key Set":    []byte("-----BEGIN PUBLIC KEY-----"),
		"no RSA, EC or Ed25519":  setOf(map[string]any{"kty": "oct", "k": "c2VjcmV0"}),
		"for signatures":         setOf(change(jwkOf("a", edPublic), "use", "enc")),
		"private key":            setOf(change(jwkOf("a", edPublic), "d", "c2VjcmV0")),
		"two keys with the id":   setOf(jwkOf("a", edPublic), jwkOf("a", &ecKey.PublicKey)),
		`not for "HS256"`:        setOf(change(jwkOf("a", &rsaKey.PublicKey), "alg", "HS256")),
		`not for "none"`:         setOf(change(jwkOf("a", &rsaKey.PublicKey), "alg", "none")),
		"coordinates":            setOf(change(jwkOf("a", &ecKey.PublicKey), "x", "AAAA")),
		"point not on":           setOf(change(jwkOf("a", &ecKey.PublicKey), "x", b64(make([]byte, 32)))),
		"base64url":              setOf(change(jwkOf("a", &rsaKey.PublicKey), "n", "+/=")),
		"no RSA key":             setOf(change(jwkOf("a", &rsaKey.PublicKey), "e", "AQ")),
		"bits; 2048":             setOf(map[string]any{"kty": "RSA", "n": b64(rsaKey.N.Bytes()[:100]), "e": "AQAB"}),
		"does not have 32 bytes": setOf(change(jwkOf("a", edPublic), "x", "AAAA")),
		"more than":              make([]byte, maxKeyBytes+1),
		"at most 100":            setOf(make([]map[string]any, maxKeys+1)...),
	} {
		if _, err := parseKeys(set); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("want %q: %v", says, err)
		}
	}
	if keys, err := parseKeys(setOf(change(jwkOf("a", &rsaKey.PublicKey), "alg", "PS256"), map[string]any{"kty": "new"})); err != nil || len(keys) != 1 || !slices.Equal(keys[0].algorithms, []string{"PS256"}) {
		t.Error(keys, err)
	}
}

// Whatever a key set says, it is refused, or its keys are for their own algorithms.
func FuzzKeySet(f *testing.F) {
	f.Add(string(allKeys()))
	f.Add(`{"keys":[{"kty":"RSA","n":"AQAB","e":"AQAB"}]}`)
	f.Add(`{"keys":[{"kty":"EC","crv":"P-521","x":"","y":""},null]}`)
	f.Add(`{"keys":[{"kty":"oct","k":"","alg":"HS256"}]}`)
	f.Fuzz(func(t *testing.T, text string) {
		keys, err := parseKeys([]byte(text))
		if err == nil && len(keys) == 0 {
			t.Fatal("no key, and no error")
		}
		for _, k := range keys {
			for _, alg := range k.algorithms {
				ok := false
				switch k.public.(type) {
				case *rsa.PublicKey:
					ok = alg[0] == 'R' || alg[0] == 'P'
				case *ecdsa.PublicKey:
					ok = alg[:2] == "ES"
				case ed25519.PublicKey:
					ok = alg == "EdDSA"
				}
				if !ok {
					t.Fatalf("a %T for %s", k.public, alg)
				}
			}
		}
	})
}
