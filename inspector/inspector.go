// Package inspector shows a living cluster to people, in a browser, and to tools. It
// reads the cluster's etcd as any of its processes does, so what it shows is what they
// act by, and what it costs them does not grow with those who look.
package inspector

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/xiaonanln/goverse/cluster/census"
	"github.com/xiaonanln/goverse/cluster/consensusmanager"
	"github.com/xiaonanln/goverse/cluster/diagnosis"
	"github.com/xiaonanln/goverse/cluster/etcdmanager"
	"github.com/xiaonanln/goverse/internal/event"
	"github.com/xiaonanln/goverse/internal/peer"
)

// Config is what an inspector needs to know. Zero values mean the defaults.
type Config struct {
	// ListenAddress is where the page is; "127.0.0.1:8080" by default. Beyond loopback it
	// needs a Token.
	ListenAddress string
	// KV is the cluster's etcd. The inspector does not close it.
	KV etcdmanager.KV
	// Prefix begins every key of the cluster: "/goverse" by default.
	Prefix string
	// Token lets in who gives it, as a bearer or by ?token= once. Empty: callers on this
	// machine are let in, and nobody else.
	Token string
	// TLS encrypts the port: with an authority, viewers must have a certificate of it.
	// RequireTLS: do not run where the port is in plain text beyond this machine.
	TLS        TLSConfig
	RequireTLS bool

	// Dialer reaches the nodes as one of the cluster's processes. Nil: with the secret that
	// is in etcd, as Name and with MemberTLS.
	Dialer peer.Dialer
	// Name is the host that the nodes know this process by. With MemberTLS, which nodes
	// demand that have certificates themselves, its certificate has to name it.
	Name      string
	MemberTLS TLSConfig

	Listener event.Listener
	// Metrics answers GET /metrics, to those whom the page is shown. Nil: nothing is there.
	Metrics http.Handler
}

// TokenVariable names the environment variable from which programs take Config.Token: a
// flag would be seen by every user of the machine.
const TokenVariable = "GOVERSE_INSPECTOR_TOKEN"

// DefaultListenAddress is where the page is by default.
const DefaultListenAddress = "127.0.0.1:8080"

func (c Config) withDefaults() Config {
	if c.ListenAddress == "" {
		c.ListenAddress = DefaultListenAddress
	}
	if c.Name == "" {
		c.Name = "inspector"
	}
	if c.Prefix == "" {
		c.Prefix = consensusmanager.DefaultPrefix
	}
	return c
}

// Validate reports everything that is wrong with c, each with what to do about it.
func (c Config) Validate() error {
	c = c.withDefaults()
	var errs []error
	host, _, err := net.SplitHostPort(c.ListenAddress)
	switch {
	case err != nil:
		errs = append(errs, fmt.Errorf("the inspector's address is %q; give host:port, as in 127.0.0.1:8080", c.ListenAddress))
	case !isLoopback(host) && c.Token == "":
		errs = append(errs, fmt.Errorf("the inspector on %s would show the cluster, and let it be changed, to whoever reaches that port: listen on loopback, or set a token with "+TokenVariable, c.ListenAddress))
	}
	if c.Token != "" && len(c.Token) < minToken {
		errs = append(errs, fmt.Errorf("the inspector's token has %d characters; give at least %d", len(c.Token), minToken))
	}
	if c.KV == nil {
		errs = append(errs, errors.New("an inspector needs the cluster's etcd"))
	}
	return errors.Join(append(errs, c.checkTLS())...)
}

const minToken = 16

func isLoopback(host string) bool {
	return host == "localhost" || net.ParseIP(host).IsLoopback()
}

// Inspector serves the page and its feed. What it runs, in the order in which it ends:
// the port; the viewers; the watch on etcd.
type Inspector struct {
	cfg     Config
	feed    *Feed
	peers   *census.Peers // set by Run
	viewers atomic.Int64
	looked  chan struct{}                     // holds a token when a viewer has come
	view    atomic.Pointer[diagnosis.Picture] // what is explained; nil: nothing was seen yet
}

// New checks cfg. It opens nothing: Run does.
func New(cfg Config) (*Inspector, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	life := make([]byte, 8)
	_, _ = rand.Read(life) // never fails
	return &Inspector{cfg: cfg.withDefaults(), feed: NewFeed(hex.EncodeToString(life)), looked: make(chan struct{}, 1)}, nil
}

// Run serves until ctx ends or the port fails, and leaves nothing behind. It returns nil
// when ctx ended. ready, if not nil, is called once with the address that was opened.
func (i *Inspector) Run(ctx context.Context, ready func(address string)) error {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", i.cfg.ListenAddress)
	if err != nil {
		return fmt.Errorf("the inspector's port cannot be opened; choose another address: %w", err)
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	server := &http.Server{
		Handler: i.handler(), ReadHeaderTimeout: 10 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10,
		BaseContext: func(net.Listener) context.Context { return ctx }, Protocols: new(http.Protocols),
	}
	server.Protocols.SetHTTP1(true)
	server.Protocols.SetHTTP2(true)
	server.Protocols.SetUnencryptedHTTP2(true) // gRPC, on this machine
	serve, err := i.serving(server)
	if err != nil {
		_ = l.Close()
		return err
	}
	dialer, err := i.dialer()
	if err != nil {
		_ = l.Close()
		return err
	}
	i.peers = census.NewPeers(dialer)
	defer i.peers.Close()
	var parts sync.WaitGroup
	defer parts.Wait()
	parts.Go(func() { i.follow(ctx) })
	parts.Go(func() { i.measure(ctx) })
	failed := make(chan error, 1)
	parts.Go(func() { failed <- serve(l) })
	if ready != nil {
		ready(l.Addr().String())
	}
	select {
	case err = <-failed:
	case <-ctx.Done():
	}
	stop() // the viewers' requests end by it
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastRequests)
	defer cancel()
	if server.Shutdown(last) != nil {
		_ = server.Close() // who has not ended by then is cut off
	}
	if err != nil {
		return fmt.Errorf("the inspector's port failed: %w", err)
	}
	return nil
}

const lastRequests = 2 * time.Second

// The pace of the feed: viewers get what is new so often at most, and after a failure
// etcd is asked again.
const (
	pace    = 100 * time.Millisecond
	respite = time.Second
)

// follow shows every view of the cluster, at the feed's pace.
func (i *Inspector) follow(ctx context.Context) {
	latest := make(chan *consensusmanager.View, 1)
	var show sync.WaitGroup
	defer show.Wait()
	show.Go(func() { i.show(ctx, latest) })
	for ctx.Err() == nil {
		err := consensusmanager.Follow(ctx, i.cfg.KV, i.cfg.Prefix, func(v *consensusmanager.View) bool {
			select { // the newest takes the place of one that was not shown yet
			case <-latest:
			default:
			}
			latest <- v
			return ctx.Err() == nil
		})
		if err != nil && ctx.Err() == nil {
			i.feed.Stale(fmt.Sprintf("etcd does not answer, so this is not of now: %v", err))
		}
		wait(ctx, respite)
	}
}

// show hands views on to the feed.
func (i *Inspector) show(ctx context.Context, latest <-chan *consensusmanager.View) {
	for {
		select {
		case v := <-latest:
			p := diagnosis.Of(v, i.cfg.Prefix)
			i.view.Store(p)
			i.feed.Show(sceneOf(p))
		case <-ctx.Done():
			return
		}
		wait(ctx, pace)
	}
}

func wait(ctx context.Context, d time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	<-ctx.Done()
}
