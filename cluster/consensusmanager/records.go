package consensusmanager

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	mathrand "math/rand/v2"
	"slices"

	"github.com/xiaonanln/goverse/cluster/sharding"
)

// NoStore stands in Meta and Member for a node without a store.
const NoStore = "none"

// Meta is P/meta: what a cluster is. It is written once, and its exact bytes are
// part of every transaction.
type Meta struct {
	Cluster string `json:"cluster"` // its name for ever
	Boot    string `json:"boot"`    // this life of its keys in etcd
	Store   string `json:"store"`   // the one store that its nodes share, or NoStore
	Shards  int    `json:"shards"`

	raw []byte
}

func decodeMeta(raw []byte) (*Meta, error) {
	m := &Meta{raw: raw}
	if err := decodeJSON(raw, m); err != nil {
		return nil, err
	}
	switch {
	case m.Cluster == "" || m.Boot == "" || m.Store == "":
		return nil, errors.New("it names no cluster, boot or store")
	case m.Shards < 1 || m.Shards > sharding.NumShards:
		return nil, fmt.Errorf("%d shards: possible are 1 to %d", m.Shards, sharding.NumShards)
	}
	return m, nil
}

// Same says whether both are the same life of the same cluster. Neither may be nil.
func (m *Meta) Same(other *Meta) bool { return bytes.Equal(m.raw, other.raw) }

// The states of a member.
const (
	StateReady    = "ready"
	StateDraining = "draining"
)

// Member is P/nodes/<address>: a live node.
type Member struct {
	Address      string   `json:"-"`
	Registration string   `json:"reg"`
	State        string   `json:"state"`
	Store        string   `json:"store"`
	Version      string   `json:"ver"`
	Weight       int      `json:"weight"`
	Types        []string `json:"types"`

	raw []byte
}

func decodeMember(address string, raw []byte) (*Member, error) {
	m := &Member{Address: address, raw: raw}
	if err := decodeJSON(raw, m); err != nil {
		return nil, err
	}
	if address == "" || m.Registration == "" {
		return nil, errors.New("it names no registration")
	}
	return m, nil
}

// Gate is P/gates/<address>: a live gate.
type Gate struct {
	Address      string `json:"-"`
	Registration string `json:"reg"`
	HTTP         string `json:"http,omitempty"` // the root of its port for HTTP, if it has one that it tells
}

func decodeGate(address string, raw []byte) (*Gate, error) {
	g := &Gate{Address: address}
	if err := decodeJSON(raw, g); err != nil {
		return nil, err
	}
	if address == "" || g.Registration == "" {
		return nil, errors.New("it names no registration")
	}
	return g, nil
}

// Leader is P/leader. Its zero value is that there is no leader.
type Leader struct {
	Address      string `json:"node"`
	Registration string `json:"reg"`
	Term         int64  `json:"-"` // the revision at which the leadership was taken; 0: nobody leads
}

func decodeLeader(raw []byte, term int64) (Leader, error) {
	l := Leader{Term: term}
	if err := decodeJSON(raw, &l); err != nil {
		return Leader{Term: term}, err
	}
	if l.Address == "" || l.Registration == "" {
		return Leader{Term: term}, errors.New("it names no node")
	}
	return l, nil
}

// Mapping is P/map: it changes with every write of a leader.
type Mapping struct {
	Epoch uint64 `json:"epoch"`
	Nonce string `json:"n"`

	raw []byte // nil: the key does not exist
}

func decodeMapping(raw []byte) (Mapping, error) {
	m := Mapping{raw: raw}
	err := decodeJSON(raw, &m)
	return m, err
}

// next is the mapping after one more write. Members that this version does not know
// stay.
func (m Mapping) next() Mapping {
	next := Mapping{Epoch: m.Epoch + 1, Nonce: nonce()}
	next.raw = rewrite(m.raw, &next)
	return next
}

func decodeJSON(raw []byte, into any) error {
	if !json.Valid(raw) {
		return errors.New("not JSON")
	}
	return json.Unmarshal(raw, into)
}

func encodeJSON(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // the records of this file always marshal
	}
	return b
}

// rewrite is the JSON of v together with the members of old that v does not have.
// An old value that is no object is forgotten.
func rewrite(old []byte, v any) []byte {
	fresh := encodeJSON(v)
	var kept, mine map[string]json.RawMessage
	if json.Unmarshal(old, &kept) != nil || json.Unmarshal(fresh, &mine) != nil {
		return fresh
	}
	var extra []byte
	for _, name := range sortedKeys(kept) {
		if _, ok := mine[name]; !ok {
			extra = append(append(append(append(extra, ','), encodeJSON(name)...), ':'), kept[name]...)
		}
	}
	return append(append(fresh[:len(fresh)-1:len(fresh)-1], extra...), '}')
}

// nonce makes a value unlike all that were written before.
func nonce() string { return fmt.Sprintf("%08x", mathrand.Uint32()) }

// newRegistration is 128 random bits.
func newRegistration() string {
	var b [16]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

func sortedKeys(m map[string]json.RawMessage) []string {
	return slices.Sorted(maps.Keys(m))
}
