package goverseapi

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"

	"github.com/xiaonanln/goverse/cluster"
	"github.com/xiaonanln/goverse/gate/gateserver"
	"github.com/xiaonanln/goverse/inspector"
	"github.com/xiaonanln/goverse/internal/event"
	"github.com/xiaonanln/goverse/internal/secure"
	"github.com/xiaonanln/goverse/internal/telemetry"
	"github.com/xiaonanln/goverse/util/logger"
)

// Standalone is a whole service in one process: a node, a gate for its clients, and
// what both need.
type Standalone struct {
	Server ServerConfig
	Gate   gateserver.GateServerConfig // its Router is set by Run
	// Inspector is where the page is that shows the cluster, host:port; empty or "off" for
	// none. On a port that is taken there is none either, and a line in the log says so.
	Inspector string
}

// Run serves until ctx ends or the process gets SIGINT or SIGTERM, then stops
// cleanly and returns nil. ready, if not nil, is called once when calls are
// answered.
func (s Standalone) Run(ctx context.Context, ready func(gate *gateserver.GateServer)) error {
	cfg := s.Server
	cfg.Companions = append([]func(context.Context, *cluster.Cluster) error{}, cfg.Companions...)
	cfg.Companions = append(cfg.Companions, func(ctx context.Context, c *cluster.Cluster) error {
		return s.runGate(ctx, c, ready)
	})
	if s.Inspector != "" && s.Inspector != "off" {
		cfg.Companions = append(cfg.Companions, s.runInspector)
	}
	srv, err := NewServerWithConfig(&cfg)
	if err != nil {
		return err
	}
	return srv.Run(ctx)
}

// runGate runs the gate on the node's own cluster: a call to an object of this
// process crosses no wire.
func (s Standalone) runGate(ctx context.Context, c *cluster.Cluster, ready func(*gateserver.GateServer)) error {
	cfg := s.Gate
	cfg.Router = c
	s.shareKeys(&cfg)
	gate, err := gateserver.NewGateServer(&cfg)
	if err != nil {
		return err
	}
	if err := gate.Start(ctx); err != nil {
		return err
	}
	if ready != nil {
		select {
		case <-c.Ready():
			ready(gate)
		case <-ctx.Done():
		}
	}
	<-ctx.Done()
	return gate.Stop()
}

// runInspector shows the cluster until ctx ends. That it cannot fails nothing else.
func (s Standalone) runInspector(ctx context.Context, c *cluster.Cluster) error {
	log := logger.NewLogger("inspector")
	i, err := inspector.New(inspector.Config{
		ListenAddress: s.Inspector, KV: c.KV(), Prefix: s.Server.EtcdPrefix, Token: os.Getenv(inspector.TokenVariable),
		TLS: s.inspectorKeys(), RequireTLS: s.Server.RequireTLS, Dialer: c.Dialer(),
		Listener: event.Tee(telemetry.Log(log, telemetry.LogOptions{}), s.Server.Events),
	})
	if err == nil {
		err = i.Run(ctx, func(address string) { log.Infof("%s://%s/ shows the cluster", scheme(s.inspectorKeys()), address) })
	}
	if err != nil {
		log.Warnf("there is no inspector: %v (--inspector-listen)", err)
		<-ctx.Done()
	}
	return nil
}

// Option changes what Main runs.
type Option func(*Standalone)

// WithPages serves pages at "/" of the gate's HTTP port, beside the API.
func WithPages(pages http.Handler) Option {
	return func(s *Standalone) { s.Gate.Handler = pages }
}

// WithInspector has Main show the cluster at http://127.0.0.1:8080/, or where
// --inspector-listen says.
func WithInspector() Option {
	return func(s *Standalone) { s.Inspector = inspector.DefaultListenAddress }
}

// Main is a whole program: it reads the command line, runs a node and a gate in this
// process until SIGINT or SIGTERM, and ends the process, with 0 after a clean stop.
// Register the object types first.
func Main(opts ...Option) {
	var s Standalone
	for _, opt := range opts {
		opt(&s)
	}
	s.Gate.ListenFlag = "--gate-listen"
	fs := flag.CommandLine
	fs.StringVar(&s.Gate.HTTPListenAddress, "http-listen", "localhost:48000", "`host:port` on which clients speak HTTP and WebSocket")
	fs.StringVar(&s.Gate.ListenAddress, "gate-listen", "localhost:49000", "`host:port` on which clients speak gRPC")
	fs.StringVar(&s.Inspector, "inspector-listen", cmp.Or(s.Inspector, "off"), "`host:port` of a page that shows the living cluster; off for none")
	secure.DoorFlags(fs, &s.Gate.ClientTLS)
	l := newConfigLoader(fs, &s.Server)
	if _, err := l.Load(os.Args[1:]); err != nil {
		exitUsage(err)
	}
	l.setLog()
	l.follow(&s.Server)
	if err := s.validate(); err != nil {
		exitUsage(err)
	}
	if err := s.Run(context.Background(), s.announce); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", filepath.Base(os.Args[0]), err)
		os.Exit(1)
	}
}

// validate finds what is wrong before anything is opened, in the command line's words.
func (s *Standalone) validate() error {
	ports := []struct{ flag, address string }{
		{"--listen", s.Server.ListenAddress}, {"--gate-listen", s.Gate.ListenAddress},
		{"--http-listen", s.Gate.HTTPListenAddress}, {"--ops-listen", s.Server.MetricsListenAddress}, {"--inspector-listen", s.Inspector},
	}
	var errs []error
	for i, a := range ports {
		if !listenable(a.address) {
			errs = append(errs, fmt.Errorf("%s is %q; give host:port, as in localhost:47000", a.flag, a.address))
		}
		for _, b := range ports[:i] {
			if samePort(a.address, b.address) {
				errs = append(errs, fmt.Errorf("%s %s and %s %s name the same port; give each its own", b.flag, b.address, a.flag, a.address))
			}
		}
	}
	if len(errs) > 0 {
		return errors.Join(errs...)
	}
	gate := s.Gate
	gate.Router = (*cluster.Cluster)(nil) // Run sets it
	s.shareKeys(&gate)
	return errors.Join(s.Server.Validate(), gate.Validate())
}

// shareKeys makes the gate show its clients the node's certificate, if it has none of its
// own for them.
func (s *Standalone) shareKeys(gate *gateserver.GateServerConfig) {
	gate.TLS, gate.RequireTLS = s.Server.TLS, s.Server.RequireTLS
	gate.Tracing, gate.TracerProvider = s.Server.Tracing, s.Server.TracerProvider
}

// doorKeys is what clients are shown.
func (s *Standalone) doorKeys() secure.TLSConfig {
	keys := s.Gate.ClientTLS
	if keys.CertFile == "" && keys.KeyFile == "" {
		keys.CertFile, keys.KeyFile = s.Server.TLS.CertFile, s.Server.TLS.KeyFile
	}
	return keys
}

// inspectorKeys is what those who look at the cluster are shown: the same as clients,
// without the need for a certificate, because they have a token. On loopback it is
// nothing, like what the page is at without certificates.
func (s *Standalone) inspectorKeys() secure.TLSConfig {
	if len(secure.Exposed(secure.Link{Address: s.Inspector})) == 0 {
		return secure.TLSConfig{}
	}
	keys := s.doorKeys()
	return secure.TLSConfig{CertFile: keys.CertFile, KeyFile: keys.KeyFile}
}

func scheme(keys secure.TLSConfig) string {
	if keys.Given() {
		return "https"
	}
	return "http"
}

func listenable(address string) bool {
	if address == "" || address == "off" {
		return true // the default, or nothing; where that may not be, Validate says so
	}
	_, port, err := net.SplitHostPort(address)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	return err == nil
}

// samePort tells whether both cannot be listened on at once. Port 0 is any free one.
func samePort(a, b string) bool {
	hostA, portA, errA := net.SplitHostPort(a)
	hostB, portB, errB := net.SplitHostPort(b)
	if errA != nil || errB != nil || portA != portB || portA == "0" {
		return false
	}
	everywhere := func(host string) bool { return host == "" || net.ParseIP(host).IsUnspecified() }
	local := func(host string) bool { return host == "localhost" || net.ParseIP(host).IsLoopback() }
	return hostA == hostB || everywhere(hostA) || everywhere(hostB) || local(hostA) && local(hostB)
}

// announce tells a person where to go.
func (s *Standalone) announce(gate *gateserver.GateServer) {
	scheme := scheme(s.doorKeys())
	if s.Gate.Handler != nil {
		fmt.Printf("open     %s://%s/\n", scheme, gate.HTTPAddr())
	}
	fmt.Printf("HTTP     %s://%s/api/v1/objects/TYPE/ID/METHOD\n", scheme, gate.HTTPAddr())
	fmt.Printf("gRPC     %s (gate.GateService)\n", gate.GRPCAddr())
	fmt.Printf("data     %s\n", s.Server.DataDir)
	fmt.Printf("Ctrl-C stops it.\n")
}
