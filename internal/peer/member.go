package peer

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	grpcpeer "google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/xiaonanln/goverse/internal/event"
	"github.com/xiaonanln/goverse/internal/secure"
)

// Membership is what a process proves to its peers, and they to it, at the beginning of
// each connection: that it belongs to the cluster, and that it is the member which it
// says it is. See docs/format/wire.md. It is not changed once it is used.
type Membership struct {
	Address string // by which this process is known in the cluster
	// Secret waits, within ctx, for what all members know. It may be called concurrently.
	Secret func(ctx context.Context) (secure.Secret, error)
	// TLS is this process's certificate, and the authority that all members' are from;
	// nil: the connections are not encrypted.
	TLS *secure.Files
	// Listener hears of those that were refused, once a second at most.
	Listener event.Listener

	doors  *Doors       // of this process's port; set before it is served
	told   atomic.Int64 // when it last heard of one; Unix nanoseconds
	untold atomic.Int64 // how many it did not hear of since
}

// greetWithin bounds the proofs of a connection.
const greetWithin = 10 * time.Second

// ServerOptions are the options of a gRPC server that answers members alone, beside the
// package's own ServerOptions. Who did not prove to be one may ask for its health, and
// is refused everything else.
func (m *Membership) ServerOptions() []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.Creds(memberCreds{m}), grpc.ConnectionTimeout(greetWithin),
		grpc.ChainUnaryInterceptor(func(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
			if err := m.admit(ctx, info.FullMethod); err != nil {
				return nil, err
			}
			return next(ctx, req)
		}),
		grpc.ChainStreamInterceptor(func(srv any, s grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) error {
			if err := m.admit(s.Context(), info.FullMethod); err != nil {
				return err
			}
			return next(srv, s)
		}),
	}
}

// Register is RegisterPeerService for a server with these ServerOptions. Members may make
// their calls over connections that gRPC does not see, so Wait for them, or Close them,
// when the server has stopped. It is called once.
func (m *Membership) Register(s grpc.ServiceRegistrar, svc Service, on event.Listener) *Doors {
	m.doors = register(s, svc, m, on)
	return m.doors
}

// Dialer is NewGRPCDialer among members.
func (m *Membership) Dialer(on event.Listener, opts ...grpc.DialOption) Dialer {
	return newGRPCDialer(on, m, append([]grpc.DialOption{grpc.WithTransportCredentials(memberCreds{m})}, opts...))
}

// admit refuses what is not a member's.
func (m *Membership) admit(ctx context.Context, method string) error {
	from, ok := grpcpeer.FromContext(ctx)
	if ok {
		if info, isMember := from.AuthInfo.(memberInfo); isMember && info.member != "" || method == healthpb.Health_Check_FullMethodName {
			return nil
		}
		m.refused(from.Addr, fmt.Errorf("it called %s without a proof that it is a member", method))
	}
	return status.Error(codes.Unauthenticated, "this port is for the nodes and gates of one cluster; clients call a gate")
}

// refused tells of somebody who was sent away. A flood of them does not fill the log: who
// writes denials bounds them, and the notice is here.
func (m *Membership) refused(who net.Addr, why error) {
	if on := m.Listener.AccessDenied; on != nil {
		on(event.AccessDenied{Where: event.AtMembers, Why: event.ByMembership, From: who.String(), Err: why})
	}
	last, now := m.told.Load(), time.Now().UnixNano()
	if m.Listener.Notice == nil || now-last < int64(time.Second) || !m.told.CompareAndSwap(last, now) {
		m.untold.Add(1)
		return
	}
	text := fmt.Sprintf("%v was refused at the port for nodes and gates", who)
	if more := m.untold.Swap(0); more > 0 {
		text += fmt.Sprintf(", as were %d others since the last word of this", more)
	}
	m.Listener.Notice(event.Notice{Severity: event.Warn, From: "peer", Text: text, Err: why})
}

// memberInfo is what is known of the other end of a connection.
type memberInfo struct {
	credentials.CommonAuthInfo
	member string // its advertised address; empty: it proved nothing
}

// AuthType implements credentials.AuthInfo.
func (memberInfo) AuthType() string { return "goverse member" }

func (m *Membership) info(member string) memberInfo {
	level := credentials.NoSecurity
	if m.TLS != nil {
		level = credentials.PrivacyAndIntegrity
	}
	return memberInfo{credentials.CommonAuthInfo{SecurityLevel: level}, member}
}

// memberCreds is the beginning of a connection between members.
type memberCreds struct{ m *Membership }

// Info implements credentials.TransportCredentials.
func (c memberCreds) Info() credentials.ProtocolInfo {
	if c.m.TLS != nil {
		return credentials.ProtocolInfo{SecurityProtocol: "tls"}
	}
	return credentials.ProtocolInfo{SecurityProtocol: "goverse member"}
}

// Clone implements credentials.TransportCredentials.
func (c memberCreds) Clone() credentials.TransportCredentials { return c }

// OverrideServerName implements credentials.TransportCredentials: nobody may.
func (memberCreds) OverrideServerName(string) error {
	return errors.New("a member's name is its address")
}

// ClientHandshake is the beginning of a connection that this process has made to the
// member at address. gRPC closes raw when ctx ends, and where there is an error.
func (c memberCreds) ClientHandshake(ctx context.Context, address string, raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	conn, err := c.m.call(ctx, raw, greeting{from: c.m.Address, to: address})
	if err != nil {
		return nil, nil, err
	}
	return conn, c.m.info(address), nil
}

// call is the beginning of a connection to the member that g is for.
func (m *Membership) call(ctx context.Context, raw net.Conn, g greeting) (net.Conn, error) {
	conn, binding, err := m.dialTLS(ctx, g.to, raw)
	if err != nil {
		return nil, err
	}
	secret, err := m.Secret(ctx)
	if err != nil {
		return nil, fmt.Errorf("the cluster's secret is not known here yet: %w", err)
	}
	return conn, g.call(conn, secret, binding)
}

func (m *Membership) dialTLS(ctx context.Context, address string, raw net.Conn) (net.Conn, []byte, error) {
	if m.TLS == nil {
		return raw, nil, nil
	}
	cfg := m.TLS.Dialing(hostOf(address))
	cfg.MinVersion = tls.VersionTLS13
	conn := tls.Client(raw, cfg)
	if err := conn.HandshakeContext(ctx); err != nil {
		return nil, nil, m.TLS.Explain(err)
	}
	binding, err := bindingOf(conn)
	return conn, binding, err
}

// ServerHandshake is the beginning of a connection that somebody has made to this
// process. gRPC bounds its time.
func (c memberCreds) ServerHandshake(raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	conn, g, err := c.answer(raw)
	if err == nil && g.lane {
		c.m.doors.take(conn)
		return nil, nil, credentials.ErrConnDispatched
	}
	if err != nil && err != errSpokeNot { // itself: an EOF later on is a refusal too
		c.m.refused(raw.RemoteAddr(), err)
	}
	return conn, c.m.info(g.from), err
}

// answer hears the greeting of a caller that is a member, or is taken for a stranger: then
// the greeting is of nobody.
func (c memberCreds) answer(raw net.Conn) (conn net.Conn, g greeting, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), greetWithin)
	defer cancel()
	conn, binding, err := c.acceptTLS(ctx, raw)
	if err != nil {
		return nil, g, err
	}
	g, begin, err := heedGreeting(conn)
	switch {
	case errors.Is(err, errStranger):
		return newStranger(conn, begin), greeting{}, nil
	case err == nil && g.lane && c.m.doors == nil:
		return nil, g, errForeign
	case err != nil:
		return nil, g, err
	}
	if why := c.m.misled(g, conn); why != nil {
		_ = refuse(conn, notForYou) // it is sent away in any case
		return nil, g, why
	}
	secret, err := c.m.Secret(ctx)
	if err != nil {
		return nil, g, fmt.Errorf("the cluster's secret is not known here yet: %w", err)
	}
	return conn, g, g.answer(conn, secret, binding)
}

func (c memberCreds) acceptTLS(ctx context.Context, raw net.Conn) (net.Conn, []byte, error) {
	if c.m.TLS == nil {
		return raw, nil, nil
	}
	conn := tls.Server(raw, c.m.TLS.Members())
	if err := conn.HandshakeContext(ctx); err != nil {
		return nil, nil, c.m.TLS.Explain(err)
	}
	binding, err := bindingOf(conn)
	return conn, binding, err
}

// misled says why a caller is at the wrong address, or is not whom it says it is.
func (m *Membership) misled(g greeting, conn net.Conn) error {
	if g.to != m.Address {
		return fmt.Errorf("%s looked for %s, and this is %s", g.from, g.to, m.Address)
	}
	encrypted, ok := conn.(*tls.Conn)
	if !ok {
		return nil
	}
	if err := secure.Names(encrypted.ConnectionState(), hostOf(g.from)); err != nil {
		return fmt.Errorf("it says that it is %s: %w", g.from, err)
	}
	return nil
}

// bindingOf is what both ends of an encrypted connection know of it and nobody else:
// a proof that names it is worth nothing on another one.
func bindingOf(conn *tls.Conn) ([]byte, error) {
	state := conn.ConnectionState()
	return state.ExportKeyingMaterial("EXPORTER-goverse-member", nil, 32)
}

func hostOf(address string) string {
	if host, _, err := net.SplitHostPort(address); err == nil {
		return host
	}
	return address
}
