package consensusmanager

import (
	"strconv"
	"strings"

	"github.com/xiaonanln/goverse/cluster/sharding"
)

// keys names every key of a cluster. It is the prefix with a closing slash, so that
// no cluster sees another whose prefix begins alike. See docs/format/etcd.md.
type keys string

func newKeys(prefix string) keys { return keys(strings.TrimRight(prefix, "/") + "/") }

// reserved is a name in prefix that makes its keys look like those of a cluster whose
// prefix it continues, or "".
func reserved(prefix string) string {
	names := strings.Split(strings.Trim(prefix, "/"), "/")
	for _, name := range names[1:] {
		switch name {
		case "nodes", "gates", "reg", "shards", "orders":
			return name
		}
	}
	return ""
}

func (k keys) meta() string               { return string(k) + "meta" }
func (k keys) formed() string             { return string(k) + "formed" }
func (k keys) hold() string               { return string(k) + "hold" }
func (k keys) leader() string             { return string(k) + "leader" }
func (k keys) mapping() string            { return string(k) + "map" }
func (k keys) secret() string             { return string(k) + "secret" }
func (k keys) acts() string               { return string(k) + "acts" }
func (k keys) nodes() string              { return string(k) + "nodes/" }
func (k keys) node(address string) string { return string(k) + "nodes/" + address }
func (k keys) gate(address string) string { return string(k) + "gates/" + address }
func (k keys) reg(x string) string        { return string(k) + "reg/" + x }

func (k keys) shard(id sharding.ID) string { return string(k) + "shards/" + digits(id) }
func (k keys) order(id sharding.ID) string { return string(k) + "orders/" + digits(id) }

func digits(id sharding.ID) string {
	digits := strconv.Itoa(int(id))
	return "0000"[len(digits):] + digits
}

// family is the kind of a key, and name what follows in it.
type family uint8

const (
	foreign family = iota // a key of another version: not ours to judge
	metaKey
	formedKey
	holdKey
	leaderKey
	mappingKey
	secretKey
	nodeKey
	gateKey
	regKey
	shardKey
	orderKey
	actsKey
	allKeys
	numFamilies
)

func (k keys) parse(key string) (family, string) {
	rest, ok := strings.CutPrefix(key, string(k))
	if !ok {
		return foreign, ""
	}
	dir, name, within := strings.Cut(rest, "/")
	if !within {
		switch rest {
		case "meta":
			return metaKey, ""
		case "formed":
			return formedKey, ""
		case "hold":
			return holdKey, ""
		case "leader":
			return leaderKey, ""
		case "map":
			return mappingKey, ""
		case "secret":
			return secretKey, ""
		case "acts":
			return actsKey, ""
		}
		return foreign, ""
	}
	switch dir {
	case "nodes":
		return nodeKey, name
	case "gates":
		return gateKey, name
	case "reg":
		return regKey, name
	case "shards":
		return shardKey, name
	case "orders":
		return orderKey, name
	}
	return foreign, ""
}

// shardOf reads the name of a shard's or an order's key: four digits, below n.
func shardOf(name string, n int) (sharding.ID, bool) {
	id, err := strconv.ParseUint(name, 10, 16)
	if err != nil || len(name) != 4 || int(id) >= n {
		return 0, false
	}
	return sharding.ID(id), true
}
