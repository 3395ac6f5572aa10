package goverseapi

import (
	"context"
	"slices"

	"github.com/xiaonanln/goverse/internal/callctx"
)

// CallerClientID is the id of the client whose request led to this call, through
// however many objects; empty when it came from no registered client.
func CallerClientID(ctx context.Context) string { return callctx.From(ctx).Caller.ClientID }

// CallerIsClient tells whether this call began at a gate.
func CallerIsClient(ctx context.Context) bool { return callctx.From(ctx).Caller.Client }

// CallerUserID is the authenticated user of the client, or empty.
func CallerUserID(ctx context.Context) string { return callctx.From(ctx).Caller.UserID }

// CallerRoles are the authenticated user's roles.
func CallerRoles(ctx context.Context) []string {
	return slices.Clone(callctx.From(ctx).Caller.Roles)
}

// CallerHasRole tells whether the authenticated user has the role.
func CallerHasRole(ctx context.Context, role string) bool {
	return slices.Contains(callctx.From(ctx).Caller.Roles, role)
}
