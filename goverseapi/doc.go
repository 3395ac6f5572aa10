// Package goverseapi is the face of Goverse: all that a program needs to define
// objects, to call them and to run a node. It holds shorthands, no logic; each name
// here leads to the room that does the work.
//
// The package functions act on the runtime that their context carries: inside an
// object's method that of the node which hosts the object, else the process's
// default server, which is the one that was made last.
//
// Messages are shared: between objects of one process a request and a reply go from hand
// to hand, and are not copied. So nobody changes a message that came with a call or left
// with one, neither during the call nor later; who wants to change it, or keeps it beside
// something that changes, makes a copy (proto.Clone). ServerConfig.CopyMessages
// (--copy-messages, GOVERSE_COPY_MESSAGES) finds those who do not: each side then has a
// copy of its own, as if the other were elsewhere, and an object that changes what would
// be shared is named. Tests of goversetest fail by it, where they choose so.
package goverseapi

import (
	"context"
	"sync/atomic"

	"github.com/xiaonanln/goverse/client"
	"github.com/xiaonanln/goverse/cluster"
	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/node"
	"github.com/xiaonanln/goverse/object"
	"github.com/xiaonanln/goverse/server"
)

// The parts of a program.
type (
	// ServerConfig says how a node runs; its zero value works.
	ServerConfig = server.ServerConfig
	// Server is a node in this process.
	Server = server.Server
	// Node hosts objects.
	Node = node.Node
	// Cluster is a process's view of its cluster and its way to every object.
	Cluster = cluster.Cluster
	// Object is what a user's type becomes by embedding BaseObject.
	Object = object.Object
	// BaseObject is embedded by every object type.
	BaseObject = object.BaseObject
	// BaseClient is embedded by older programs' client objects, in its place.
	BaseClient = client.BaseClient
	// TypeOption changes how the objects of a type live.
	TypeOption = object.TypeOption
	// Caller makes calls: what a typed reference needs of its world.
	Caller = object.Caller
	// CallOption says how one call is to be made, by name or through a typed reference.
	CallOption = object.CallOption
	// Interceptor runs around the methods of a node's objects; give it to
	// ServerConfig.Interceptors, or to one type with Intercept.
	Interceptor = object.Interceptor
	// CallInfo is a call as interceptors see it.
	CallInfo = object.CallInfo
	// Next is the rest of a call for an interceptor.
	Next = object.Next
	// Upgrader is a type whose stored state has changed its shape.
	Upgrader = object.Upgrader
	// PersistenceProvider keeps the state of objects.
	PersistenceProvider = object.PersistenceProvider
)

// defaultRuntime is the process's one global: the types that RegisterObjectType
// collects and the server that calls outside of objects go to.
type defaultRuntime struct {
	types  *object.Types
	server atomic.Pointer[server.Server]
}

var std = defaultRuntime{types: object.NewTypes()}

// runtimeOf is the runtime that ctx carries, or the default server.
func runtimeOf(ctx context.Context) (object.Runtime, error) {
	if rt, ok := object.RuntimeFrom(ctx); ok {
		return rt, nil
	}
	if s := std.server.Load(); s != nil {
		return s, nil
	}
	return nil, errNoServer
}

var errNoServer = fault.New(fault.NotReady, "this process has no server yet; make one with goverseapi.NewServer or NewServerWithConfig")
