package etcdmanager

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/status"
)

// refusals are etcd's answers that surely left nothing behind: they are given
// before a transaction is proposed, or in place of applying it.
//
// "Database space exceeded" is not among them: etcd's quota applier
// (server/etcdserver/apply/quota.go) applies the transaction and then says so.
var refusals = []error{
	rpctypes.ErrLeaseNotFound, rpctypes.ErrTooManyOps, rpctypes.ErrDuplicateKey, rpctypes.ErrEmptyKey,
	rpctypes.ErrKeyNotFound, rpctypes.ErrRequestTooLarge, rpctypes.ErrTooManyRequests, rpctypes.ErrPermissionDenied,
	rpctypes.ErrUserEmpty, rpctypes.ErrInvalidAuthToken, rpctypes.ErrAuthOldRevision,
}

// commitError says what is known of a transaction that failed with err; sent tells
// whether any of it may have left this process.
func (c *Client) commitError(ctx context.Context, err error, sent bool) error {
	if !sent {
		return c.fail(ctx, "commit", errors.Join(ErrNotApplied, err))
	}
	plain := rpctypes.Error(err)
	for _, refusal := range refusals {
		if errors.Is(plain, refusal) {
			return c.fail(ctx, "commit", errors.Join(ErrNotApplied, plain))
		}
	}
	return c.fail(ctx, "commit", err)
}

// fail gives err its place and, where there is one, its name in this package.
func (c *Client) fail(ctx context.Context, op string, err error) error {
	switch {
	case c.ctx.Err() != nil:
		return &failure{c.name + ": " + op, ErrClosed, err}
	case hasRefusal(err, rpctypes.ErrLeaseNotFound):
		return &failure{c.name + ": " + op, ErrLeaseNotFound, err}
	case hasRefusal(err, rpctypes.ErrNoSpace):
		return &failure{c.name + ": " + op, ErrNoSpace, err}
	case ctx.Err() != nil:
		return &failure{c.name + ": " + op + ": no answer in time", ctx.Err(), err}
	case status.Code(err) == codes.DeadlineExceeded: // the server was the first to look at the clock
		return &failure{c.name + ": " + op + ": no answer in time", context.DeadlineExceeded, err}
	}
	return &failure{c.name + ": " + op, nil, err}
}

// hasRefusal also looks below joined errors, whose parts rpctypes.Error does not see.
func hasRefusal(err, refusal error) bool {
	return errors.Is(err, refusal) || errors.Is(rpctypes.Error(err), refusal)
}

// failure is one error that is both its name here and what etcd or gRPC said.
type failure struct {
	where string
	name  error // nil: it has none
	cause error
}

func (f *failure) Error() string {
	if f.name == nil || errors.Is(f.cause, f.name) {
		return fmt.Sprintf("%s: %v", f.where, oneLine{f.cause})
	}
	return fmt.Sprintf("%s: %v: %v", f.where, f.name, oneLine{f.cause})
}

func (f *failure) Unwrap() []error {
	if f.name == nil {
		return []error{f.cause}
	}
	return []error{f.name, f.cause}
}

// oneLine prints joined errors side by side.
type oneLine struct{ err error }

func (o oneLine) String() string {
	joined, ok := o.err.(interface{ Unwrap() []error })
	if !ok {
		return o.err.Error()
	}
	text := ""
	for i, err := range joined.Unwrap() {
		if i > 0 {
			text += ": "
		}
		text += err.Error()
	}
	return text
}

// passing says whether err is of the moment: another attempt may succeed.
func passing(err error) bool {
	var etcd rpctypes.EtcdError
	if errors.As(rpctypes.Error(err), &etcd) {
		return etcd.Code() == codes.Unavailable
	}
	code := status.Code(err)
	return code == codes.Unavailable || code == codes.Internal
}

// sentKey finds, in a request's context, the flag that connHandler raises.
type sentKey struct{}

func withSent(ctx context.Context) (context.Context, *atomic.Bool) {
	sent := new(atomic.Bool)
	return context.WithValue(ctx, sentKey{}, sent), sent
}

// connHandler raises the flag when the header of a request is given to a
// connection, which is before any of its body is: while the flag is down, the
// server surely knows nothing of the request. And it tells of connections that end.
type connHandler struct{ ended func() }

func (connHandler) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context { return ctx }

func (connHandler) HandleRPC(ctx context.Context, s stats.RPCStats) {
	if _, header := s.(*stats.OutHeader); !header {
		return
	}
	if sent, ok := ctx.Value(sentKey{}).(*atomic.Bool); ok {
		sent.Store(true)
	}
}

func (connHandler) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }

func (h connHandler) HandleConn(_ context.Context, s stats.ConnStats) {
	if _, ended := s.(*stats.ConnEnd); ended {
		h.ended()
	}
}
