package goverseapi

import "github.com/xiaonanln/goverse/internal/access"

// Who may do what: ServerConfig.ObjectAccessRules and ObjectLifecycleRules, and of the same
// names at a gate, which only answers earlier.
type (
	// AccessRule is about calls of methods.
	AccessRule = access.Rule
	// LifecycleRule is about creating and deleting objects.
	LifecycleRule = access.LifecycleRule
	// Access says who may.
	Access = access.Access
	// Lifecycle says what a LifecycleRule is about.
	Lifecycle = access.Lifecycle
)

// The kinds of Access.
const (
	AccessReject   = access.Reject   // nobody
	AccessInternal = access.Internal // objects and nodes
	AccessExternal = access.External // clients
	AccessAllow    = access.Allow    // everybody
)

// The kinds of Lifecycle.
const (
	LifecycleCreate = access.Create
	LifecycleDelete = access.Delete
	LifecycleAll    = access.All // as empty
)
