// Package callctx carries through a context what a call is part of: who asked,
// the call's id, the chain of turns that are held for it, and its place in a trace. Values are immutable;
// each hop makes a new one. Bounded is a context that ends with its call.
package callctx

import (
	"context"
	"encoding/hex"
	"math/rand/v2"
)

// Caller is who asked: a client through a gate, an object, or the program itself.
type Caller struct {
	ClientID string // the session, if the client registered one
	UserID   string
	Roles    []string
	Client   bool // the chain began at a gate
}

// Info is all that travels with a call.
type Info struct {
	Caller Caller
	CallID string
	Chain  Chain
	Trace  *Trace // nil: there is none
}

// ByClient says that a client itself asks, and not an object or a node, for it or not. A
// gate never names a chain; whoever calls from within the cluster for a client does, also
// where no turn is held for it.
func (i *Info) ByClient() bool { return i.Caller.Client && i.Chain.ID == ChainID{} }

// Behind is who asks from within the cluster for a caller, without a turn of theirs, and
// where in a trace.
func Behind(c Caller, t *Trace) *Info {
	return &Info{Caller: c, Chain: Chain{ID: NewChainID()}, Trace: t}
}

// ChainID names one root call and all nested calls below it. It is minted by the
// node that starts the root call and is not the call's id: a root call that is
// tried again joins its first attempt, and never re-enters it.
type ChainID [16]byte

// NewChainID mints a random id. Zero is no chain.
func NewChainID() ChainID {
	var id ChainID
	a, b := rand.Uint64(), rand.Uint64()|1
	for i := range 8 {
		id[i], id[8+i] = byte(a>>(8*i)), byte(b>>(8*i))
	}
	return id
}

// String is the id in hex.
func (id ChainID) String() string { return hex.EncodeToString(id[:]) }

// Chain is a root call and the turns that its running branch holds.
type Chain struct {
	ID   ChainID
	Path []Turn // outermost first; never changed in place
}

// Turn is one turn in a chain's path.
type Turn struct {
	Type, ID, Method string
	Shard            int
	Epoch            uint64
	Shared           bool
}

// String is how a path is printed: Type/id.Method.
func (t Turn) String() string { return t.Type + "/" + t.ID + "." + t.Method }

// Enter is the chain with one more turn held.
func (c Chain) Enter(t Turn) Chain {
	path := make([]Turn, len(c.Path), len(c.Path)+1)
	copy(path, c.Path)
	return Chain{ID: c.ID, Path: append(path, t)}
}

// Key is the context key of an Info: a context of ours may answer it itself.
type Key struct{}

// With returns a context that carries info.
func With(ctx context.Context, info *Info) context.Context {
	return context.WithValue(ctx, Key{}, info)
}

// From returns what ctx carries; an empty Info when it carries nothing.
func From(ctx context.Context) *Info {
	if info, ok := ctx.Value(Key{}).(*Info); ok {
		return info
	}
	return &none
}

var none Info // never written
