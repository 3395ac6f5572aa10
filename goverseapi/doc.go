// Package goverseapi is the face of Goverse: all that a program needs to define
// objects, to call them and to run a node. It holds shorthands, no logic; each name
// here leads to the room that does the work.
//
// The package functions act on the runtime that their context carries: inside an
// object's method that of the node which hosts the object, else the process's
// default server, which is the one that was made last.
package goverseapi

import (
	"context"
	"sync/atomic"

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
	// TypeOption changes how the objects of a type live.
	TypeOption = object.TypeOption
	// Caller makes calls: what a typed reference needs of its world.
	Caller = object.Caller
	// CallOption says how one call is to be made, by name or through a typed reference.
	CallOption = object.CallOption
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
