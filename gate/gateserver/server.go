package gateserver

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"

	"github.com/xiaonanln/goverse/gate"
	"github.com/xiaonanln/goverse/internal/callctx"
	"github.com/xiaonanln/goverse/internal/event"
	"github.com/xiaonanln/goverse/internal/peer"
	"github.com/xiaonanln/goverse/internal/telemetry"
	"github.com/xiaonanln/goverse/object"
)

// GateServer is a gate and its doors. What it runs, in the order in which it ends:
//
//  1. the listeners: gRPC, HTTP, operators
//  2. the sessions: each client is told, sent what waits for it, and let go
//  3. the calls under way: they get a moment, then their contexts end
//  4. the stream of pushes from the cluster
//  5. the cluster membership, if it is the gate's own
//
// It can be started once. All methods may be called concurrently.
type GateServer struct {
	cfg      GateServerConfig
	heard    event.Listener
	counters *telemetry.Metrics
	done     chan struct{} // closed when a started server has ended

	mu        sync.Mutex
	listen    listeners      // set by Start, then constant
	address   string         // advertised; likewise
	router    Router         // likewise
	keys      keys           // likewise
	tracer    callctx.Tracer // likewise
	started   bool
	stopped   bool
	end       context.CancelFunc // asks the running server to end
	setLimits func(*bounds)      // of one that serves
	failure   error              // why it ended unasked
}

// listeners are the open ports; http and ops may be nil.
type listeners struct{ grpc, http, ops net.Listener }

// A stopping server waits patience for clients to go, then cuts their connections
// and waits lastPatience for the calls that it cancelled.
const (
	patience     = 3 * time.Second
	lastPatience = time.Second
)

// NewGateServer checks cfg and makes a server of it; cfg is copied. It opens and
// dials nothing: Start and Run do.
func NewGateServer(cfg *GateServerConfig) (*GateServer, error) {
	if cfg == nil {
		cfg = &GateServerConfig{}
	}
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("gate configuration: %w", err)
	}
	s := &GateServer{cfg: *cfg, counters: telemetry.NewMetrics(cfg.MetricsRegistry), done: make(chan struct{})}
	s.cfg.withDefaults()
	s.heard = event.Tee(logs(s.cfg.Logger), telemetry.Limits(s.cfg.Logger), telemetry.Audit(s.cfg.Logger), s.counters.Listener(), s.cfg.Listener)
	return s, nil
}

// Run serves until ctx ends or a part fails, and leaves nothing behind. It
// returns nil when ctx ended.
func (s *GateServer) Run(ctx context.Context) error {
	if err := s.Start(ctx); err != nil {
		if ctx.Err() != nil {
			return nil // it was to end, and has
		}
		return err
	}
	select {
	case <-ctx.Done():
	case <-s.done:
	}
	return s.Stop()
}

// Start opens the ports and returns when clients are served. ctx bounds only the
// start; Stop ends the server.
func (s *GateServer) Start(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.started || s.stopped {
		return errors.New("a gate server can be started once; make a new one with NewGateServer")
	}
	if err := s.open(ctx); err != nil {
		return err
	}
	if err := s.unlock(); err != nil {
		return err
	}
	tracer, endTraces, err := s.cfg.Tracing.Open(s.cfg.TracerProvider, "gate", s.address, s.heard)
	if err != nil {
		s.listen.close()
		s.listen = listeners{}
		return err
	}
	s.tracer = tracer
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	s.end = end // a membership may fail at once
	leave, err := s.join(ctx)
	if err != nil {
		end()
		endTraces()
		s.listen.close()
		s.listen = listeners{}
		return err
	}
	s.started = true
	serving := s.serve(life)
	go func() {
		defer close(s.done)
		<-life.Done()
		serving.stop()
		leave()
		endTraces()
		s.notice(event.Info, "stopped", nil)
	}()
	s.notice(event.Info, "serving clients as "+s.address+": "+s.listen.String(), nil)
	return nil
}

// Stop ends the server: clients are told and let go, calls under way get a moment.
// It returns within 5 s, with the error of the part that failed. Idempotent.
func (s *GateServer) Stop() error {
	s.mu.Lock()
	s.stopped = true
	started, end := s.started, s.end
	s.mu.Unlock()
	if !started {
		return nil
	}
	end()
	<-s.done
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.failure
}

// GRPCAddr is the bound address for gRPC clients; empty before Start.
func (s *GateServer) GRPCAddr() string { return bound(s.listeners().grpc) }

// HTTPAddr is the bound address for HTTP; empty before Start and without HTTP.
func (s *GateServer) HTTPAddr() string { return bound(s.listeners().http) }

// OpsAddr is the bound address for operators; empty before Start and without one.
func (s *GateServer) OpsAddr() string { return bound(s.listeners().ops) }

// AdvertiseAddress is what this gate's client ids begin with; empty before Start.
func (s *GateServer) AdvertiseAddress() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.address
}

func (s *GateServer) listeners() listeners {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.listen
}

func bound(l net.Listener) string {
	if l == nil {
		return ""
	}
	return l.Addr().String()
}

func (s *GateServer) open(ctx context.Context) (err error) {
	defer func() {
		if err != nil {
			s.listen.close()
			s.listen = listeners{}
		}
	}()
	for _, p := range []struct {
		port
		to *net.Listener
	}{
		{port{"gRPC", s.cfg.ListenAddress, s.cfg.ListenFlag + " (ListenAddress)"}, &s.listen.grpc},
		{port{"HTTP", s.cfg.HTTPListenAddress, "--http-listen (HTTPListenAddress)"}, &s.listen.http},
		{port{"operations", s.cfg.OpsListenAddress, "--ops-listen (OpsListenAddress)"}, &s.listen.ops},
	} {
		if p.address == off {
			continue
		}
		if *p.to, err = p.listen(ctx); err != nil {
			return err
		}
	}
	s.address = s.cfg.advertised(s.listen.grpc.Addr())
	return nil
}

func (l listeners) close() {
	for _, one := range []net.Listener{l.grpc, l.http, l.ops} {
		if one != nil {
			_ = one.Close() // a server may have closed it
		}
	}
}

func (l listeners) String() string {
	text := "gRPC on " + bound(l.grpc)
	if l.http != nil {
		text += ", HTTP on " + bound(l.http)
	}
	if l.ops != nil {
		text += ", operations on " + bound(l.ops)
	}
	return text
}

// running is the doors at work.
type running struct {
	server *GateServer
	gate   *gate.Gate
	asks   *authority
	health *health.Server
	grpc   *grpc.Server
	http   []*http.Server
	busy   *crowd             // everyone who works for a client
	hurry  context.CancelFunc // ends what is still connected, and the pushes
	parts  sync.WaitGroup
}

// serve builds the doors and sets them to work. s.mu is held.
func (s *GateServer) serve(life context.Context) *running {
	hard, hurry := context.WithCancel(context.WithoutCancel(life))
	asks := newAuthority(s.cfg.EventHandler, s.cfg.RequestHeaders, &s.heard)
	g := gate.New(gate.Config{Ended: asks.ended(), Address: s.address, MaxSessions: s.cfg.MaxSessions, ResumeWindow: s.cfg.ResumeWindow, Listener: s.heard})
	busy := newCrowd()
	c := newCalls(&s.cfg, s.router, g, busy)
	c.on, c.authority, c.tracer = s.heard, asks, newTracer(s.tracer)
	s.setLimits = func(b *bounds) { c.visitors.change(b); g.SetMaxSessions(b.sessions) }
	c.feeds = gate.NewFeeds(gate.FeedsConfig{Address: s.address, Ask: c.ask, Listener: s.heard})
	r := &running{server: s, gate: g, asks: asks, health: health.NewServer(), busy: busy, hurry: hurry}
	r.health.SetServingStatus("", grpc_health_v1.HealthCheckResponse_NOT_SERVING)
	door, types := &grpcDoor{calls: c, busy: busy, patient: s.cfg.WriteTimeout}, newDescriber(s.router)
	r.grpc = newGRPCServer(door, r.health, s.keys.grpc()...)
	r.parts.Go(func() { s.fail("the gRPC listener", r.grpc.Serve(c.counted(s.listen.grpc, s.cfg.WriteTimeout))) })

	name, _, _ := net.SplitHostPort(s.address)
	guard := newGuard(s.cfg.AllowedOrigins, name)
	if s.listen.http != nil {
		r.serveHTTP(hard, "HTTP", c.counted(s.listen.http, s.cfg.WriteTimeout), c.visitors, &httpDoor{
			calls: c, guard: guard, describer: types, web: newWebDoor(door, types), pages: s.pages(), heartbeat: s.cfg.HeartbeatInterval, patient: s.cfg.WriteTimeout,
			sockets: &socketDoor{calls: c, life: hard, heartbeat: s.cfg.HeartbeatInterval, patient: s.cfg.WriteTimeout},
		}, s.keys.https())
	}
	if s.listen.ops != nil {
		problems := func() []string { return s.problems(life) }
		r.serveHTTP(hard, "operations", uncounted(s.listen.ops, s.cfg.WriteTimeout), c.visitors, (&opsDoor{
			guard: guard, problems: problems, counters: s.counters, records: s.router, on: s.heard,
			inside: func(context.Context) (any, error) { return r.inside(life, c), nil },
		}).handler(), nil)
	}
	r.parts.Go(func() { s.follow(hard, g, c.feeds) })
	r.parts.Go(func() { s.fail("following objects", c.feeds.Run(hard)) })
	r.parts.Go(func() { r.announce(life) })
	r.parts.Go(func() { r.report(life, c) })
	return r
}

func (r *running) serveHTTP(life context.Context, name string, l net.Listener, v *guests, h http.Handler, encrypt *tls.Config) {
	counted := http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if !r.busy.enter() {
			writeFailure(w, errStopping, object.OpCall)
			return
		}
		defer r.busy.leave()
		h.ServeHTTP(w, req)
	})
	server := newHTTPServer(life, counted, func(text string) { r.server.notice(event.Warn, text, nil) })
	v.bound(server)
	r.http = append(r.http, server)
	serve := server.Serve
	if encrypt != nil {
		server.TLSConfig = encrypt
		serve = func(l net.Listener) error { return server.ServeTLS(l, "", "") }
	}
	r.parts.Go(func() { r.server.fail("the "+name+" listener", serve(l)) })
}

// announce turns the health service to serving when the cluster is ready.
func (r *running) announce(life context.Context) {
	select {
	case <-r.server.router.Ready():
		r.health.SetServingStatus("", grpc_health_v1.HealthCheckResponse_SERVING)
	case <-life.Done():
	}
}

// stop ends the doors in the order of GateServer's list.
func (r *running) stop() {
	r.health.Shutdown() // for good: a late announce changes nothing
	deadline, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	gone := r.close(deadline)
	r.gate.Close(errStopping)
	select {
	case <-gone:
	case <-deadline.Done():
	}
	r.hurry()
	r.grpc.Stop()
	for _, h := range r.http {
		_ = h.Close() // its listener is closed already
	}
	select {
	case <-gone:
	case <-time.After(lastPatience):
		r.server.notice(event.Alarm, "calls or pages that were cancelled do not end; the gate no longer waits for them", nil)
	}
	r.parts.Wait()
	moment, cancel := context.WithTimeout(context.Background(), lastPatience)
	defer cancel()
	r.asks.close(moment)
}

// close closes the listeners and takes no new work; the channel says when the last
// work is done.
func (r *running) close(deadline context.Context) <-chan struct{} {
	var closing sync.WaitGroup
	closing.Go(r.grpc.GracefulStop)
	for _, h := range r.http {
		closing.Go(func() { _ = h.Shutdown(deadline) }) // who is late is cut off by stop
	}
	idle, gone := r.busy.close(), make(chan struct{})
	go func() {
		defer close(gone)
		closing.Wait()
		<-idle
	}()
	return gone
}

// follow keeps the stream of pushes open.
func (s *GateServer) follow(ctx context.Context, g *gate.Gate, feeds *gate.Feeds) {
	for ctx.Err() == nil {
		err := s.router.FollowPushes(ctx, s.address, func(f peer.PushFrame) error {
			f.At = time.Now()
			if !feeds.Deliver(f) {
				g.Deliver(f)
			}
			return nil
		})
		if ctx.Err() != nil {
			return
		}
		s.notice(event.Warn, "the stream of pushes broke off and is opened again", err)
		select {
		case <-time.After(250 * time.Millisecond):
		case <-ctx.Done():
		}
	}
}

// problems says why the gate is not ready.
func (s *GateServer) problems(life context.Context) []string {
	problems := s.router.Problems()
	if life.Err() != nil {
		problems = append([]string{"the gate is stopping"}, problems...)
	}
	select {
	case <-s.router.Ready():
	default:
		if len(problems) == 0 {
			problems = []string{"the cluster is not ready yet"}
		}
	}
	return problems
}

// fail ends the server when a part of it ends unasked.
func (s *GateServer) fail(part string, err error) {
	if err == nil || errors.Is(err, http.ErrServerClosed) || errors.Is(err, grpc.ErrServerStopped) {
		return
	}
	s.mu.Lock()
	if s.failure == nil {
		s.failure = fmt.Errorf("%s failed: %w", part, err)
	}
	end := s.end
	s.mu.Unlock()
	end()
}

func (s *GateServer) pages() http.Handler {
	if s.cfg.Handler != nil {
		return s.cfg.Handler
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Error(w, "This is a Goverse gate. Its API is at "+objectsRoot+"{type}/{id}/{method}; the program that runs it serves no pages.", http.StatusNotFound)
	})
}

func (s *GateServer) notice(severity event.Severity, text string, err error) {
	if heard := s.heard.Notice; heard != nil {
		heard(event.Notice{Severity: severity, From: "gate", Text: text, Err: err})
	}
}
