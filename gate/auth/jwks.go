package auth

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"slices"
)

// key is one of an issuer's keys, and what may be signed with it: a key is for its own
// algorithms, whatever a token says.
type key struct {
	id         string
	public     any
	algorithms []string
}

// algorithms of each type of key. There are none for shared secrets: whoever can check
// such a token could have made it.
var algorithms = map[string][]string{
	"RSA":     {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"},
	"P-256":   {"ES256"},
	"P-384":   {"ES384"},
	"P-521":   {"ES512"},
	"Ed25519": {"EdDSA"},
}

func allMethods() (all []string) {
	for _, list := range algorithms {
		all = append(all, list...)
	}
	return all
}

// Bounds of a key set.
const (
	maxKeys     = 100
	maxKeyBytes = 1 << 20
)

// jwk is a key as RFC 7517 and 7518 write it.
type jwk struct {
	Kty string          `json:"kty"`
	Kid string          `json:"kid"`
	Use string          `json:"use"`
	Alg string          `json:"alg"`
	Crv string          `json:"crv"`
	N   string          `json:"n"`
	E   string          `json:"e"`
	X   string          `json:"x"`
	Y   string          `json:"y"`
	D   json.RawMessage `json:"d"`
	Ops []string        `json:"key_ops"`
}

// parseKeys reads a key set. Keys of types that are not known here, or for another use,
// are passed over; one that is wrong makes the set wrong.
func parseKeys(text []byte) ([]key, error) {
	if len(text) > maxKeyBytes {
		return nil, fmt.Errorf("it has more than %d bytes", maxKeyBytes)
	}
	var set struct {
		Keys []jwk `json:"keys"`
	}
	if err := json.Unmarshal(text, &set); err != nil {
		return nil, fmt.Errorf("it is no JSON Web Key Set: %w", err)
	}
	if len(set.Keys) > maxKeys {
		return nil, fmt.Errorf("it has %d keys; at most %d are allowed", len(set.Keys), maxKeys)
	}
	var keys []key
	for i := range set.Keys {
		j := &set.Keys[i]
		if j.Use != "" && j.Use != "sig" || j.Ops != nil && !slices.Contains(j.Ops, "verify") {
			continue
		}
		k, err := j.key()
		switch {
		case err != nil:
			return nil, fmt.Errorf("its key %d (%.100q): %w", i+1, j.Kid, err)
		case k == nil:
			continue
		case slices.ContainsFunc(keys, func(o key) bool { return o.id == k.id }):
			return nil, fmt.Errorf("it has two keys with the id %.100q", j.Kid)
		}
		keys = append(keys, *k)
	}
	if len(keys) == 0 {
		return nil, errors.New("it has no RSA, EC or Ed25519 key for signatures")
	}
	return keys, nil
}

// key is nil for a type that is not known here.
func (j *jwk) key() (k *key, err error) {
	if j.D != nil {
		return nil, errors.New("it is a private key, which does not belong here: make a new pair, and give the public one")
	}
	k = &key{id: j.Kid}
	kind := j.Kty
	switch j.Kty {
	case "RSA":
		k.public, err = j.rsa()
	case "EC":
		kind = j.Crv
		k.public, err = j.ec()
	case "OKP":
		kind = j.Crv
		if j.Crv == "Ed25519" {
			k.public, err = j.ed25519()
		}
	}
	if err != nil {
		return nil, err
	}
	if k.algorithms = algorithms[kind]; k.algorithms == nil || k.public == nil {
		return nil, nil
	}
	if j.Alg != "" {
		if !slices.Contains(k.algorithms, j.Alg) {
			return nil, fmt.Errorf("it is not for %.20q", j.Alg)
		}
		k.algorithms = []string{j.Alg}
	}
	return k, nil
}

func (j *jwk) rsa() (any, error) {
	n, err := number(j.N)
	if err != nil {
		return nil, fmt.Errorf("n: %w", err)
	}
	e, err := number(j.E)
	if err != nil {
		return nil, fmt.Errorf("e: %w", err)
	}
	switch bits := n.BitLen(); {
	case bits < 2048 || bits > 8192:
		return nil, fmt.Errorf("it has %d bits; 2048 to 8192 are taken", bits)
	case e.BitLen() > 31 || e.Int64() < 3 || e.Bit(0) == 0 || n.Bit(0) == 0:
		return nil, errors.New("it is no RSA key")
	}
	return &rsa.PublicKey{N: n, E: int(e.Int64())}, nil
}

var curves = map[string]elliptic.Curve{"P-256": elliptic.P256(), "P-384": elliptic.P384(), "P-521": elliptic.P521()}

func (j *jwk) ec() (any, error) {
	curve := curves[j.Crv]
	if curve == nil {
		return nil, nil
	}
	size := (curve.Params().BitSize + 7) / 8
	point := []byte{4} // uncompressed
	for _, text := range []string{j.X, j.Y} {
		b, err := base64.RawURLEncoding.DecodeString(text)
		if err != nil || len(b) != size {
			return nil, fmt.Errorf("its coordinates do not have %d bytes", size)
		}
		point = append(point, b...)
	}
	return ecdsa.ParseUncompressedPublicKey(curve, point)
}

func (j *jwk) ed25519() (any, error) {
	b, err := base64.RawURLEncoding.DecodeString(j.X)
	if err != nil || len(b) != ed25519.PublicKeySize {
		return nil, fmt.Errorf("x does not have %d bytes", ed25519.PublicKeySize)
	}
	return ed25519.PublicKey(b), nil
}

func number(text string) (*big.Int, error) {
	if len(text) > 2048 {
		return nil, errors.New("it is too long")
	}
	b, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		return nil, errors.New("it is not base64url without padding")
	}
	return new(big.Int).SetBytes(b), nil
}
