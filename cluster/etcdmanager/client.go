package etcdmanager

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"
	"unicode"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	"github.com/xiaonanln/goverse/internal/secure"
)

// Defaults of Config.
const (
	DefaultDialTimeout    = 5 * time.Second
	DefaultRequestTimeout = 5 * time.Second
)

// Config says which etcd a Client speaks to. Zero durations mean the defaults.
type Config struct {
	// Endpoints are etcd's client addresses, host:port each; http:// is accepted, and with
	// Credentials https://.
	Endpoints []string
	// Credentials encrypt the connections, which are in plain text without.
	Credentials credentials.TransportCredentials
	// DialTimeout bounds how long Dial waits for the first answer.
	DialTimeout time.Duration
	// RequestTimeout bounds every request whose context ends later or never.
	RequestTimeout time.Duration
}

func (c Config) withDefaults() Config {
	if c.DialTimeout == 0 {
		c.DialTimeout = DefaultDialTimeout
	}
	if c.RequestTimeout == 0 {
		c.RequestTimeout = DefaultRequestTimeout
	}
	return c
}

// Validate says, joined, all that is wrong with c.
func (c Config) Validate() error {
	var problems []error
	if len(c.Endpoints) == 0 {
		problems = append(problems, errors.New("no etcd endpoint is given: want host:port"))
	}
	for _, e := range c.Endpoints {
		problems = append(problems, c.checkEndpoint(e))
	}
	if c.DialTimeout < 0 || c.RequestTimeout < 0 {
		problems = append(problems, errors.New("etcd: a negative timeout"))
	}
	return errors.Join(problems...)
}

func (c Config) checkEndpoint(endpoint string) error {
	address, plain := strings.CutPrefix(endpoint, "http://")
	address, secure := strings.CutPrefix(address, "https://")
	switch {
	case secure && c.Credentials == nil:
		return fmt.Errorf("etcd endpoint %q: to encrypt the connection name the authority of etcd's certificate (--etcd-tls-ca)", endpoint)
	case plain && c.Credentials != nil:
		return fmt.Errorf("etcd endpoint %q: it is to be in plain text, and there are certificates for etcd: leave out http:// or them", endpoint)
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil || host == "" || port == "" || strings.ContainsAny(address, " /@") {
		return fmt.Errorf("etcd endpoint %q: want host:port, as in 127.0.0.1:2379", endpoint)
	}
	return nil
}

// Client is the KV that a real etcd keeps. All methods may be called concurrently.
type Client struct {
	cfg  Config
	name string // "etcd <endpoints>", for errors
	v3   *clientv3.Client

	ctx  context.Context // ends with Close
	stop context.CancelFunc

	mu      sync.Mutex // protects following fields, and closed against watches.Add
	closed  bool
	broken  chan struct{} // closed, and replaced, when a connection ends
	watches sync.WaitGroup
}

var _ KV = (*Client)(nil)

// Dial connects to etcd and waits until one of the endpoints answers. An error
// names them all.
func Dial(cfg Config) (*Client, error) {
	c, err := open(cfg)
	if err != nil {
		return nil, err
	}
	if err := c.probe(); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// DialEach connects to every endpoint on its own, one client each, and waits for
// none of them: Lease hedges its renewals over them.
func DialEach(cfg Config) ([]KV, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	clients := make([]KV, 0, len(cfg.Endpoints))
	for _, endpoint := range cfg.Endpoints {
		one := cfg
		one.Endpoints = []string{endpoint}
		c, err := open(one)
		if err != nil {
			for _, c := range clients {
				c.Close()
			}
			return nil, err
		}
		clients = append(clients, c)
	}
	return clients, nil
}

// DialAll waits until one of the endpoints answers. The first KV goes to whichever
// does; where there are several, each has one of its own behind it, for Lease.
func DialAll(cfg Config) ([]KV, error) {
	whichever, err := Dial(cfg)
	if err != nil || len(cfg.Endpoints) == 1 {
		return []KV{whichever}, err
	}
	each, err := DialEach(cfg)
	if err != nil {
		whichever.Close()
		return nil, err
	}
	return append([]KV{whichever}, each...), nil
}

// Endpoints splits a list of endpoints as it stands in a flag: separated by commas.
func Endpoints(list string) []string {
	return strings.FieldsFunc(list, func(r rune) bool { return r == ',' || unicode.IsSpace(r) })
}

func open(cfg Config) (*Client, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	c := &Client{cfg: cfg.withDefaults(), name: "etcd " + strings.Join(cfg.Endpoints, ", "), broken: make(chan struct{})}
	options := []grpc.DialOption{grpc.WithStatsHandler(connHandler{c.disconnected}), grpc.WithConnectParams(reconnect())}
	if cfg.Credentials != nil {
		options = append(options, grpc.WithTransportCredentials(cfg.Credentials))
	}
	v3, err := clientv3.New(clientv3.Config{
		Endpoints:            cfg.Endpoints,
		DialKeepAliveTime:    10 * time.Second, // etcd closes on pings more often than every 5 s
		DialKeepAliveTimeout: 3 * time.Second,
		Logger:               zap.NewNop(),
		// One attempt. The stock client sends a transaction again when the server
		// cancels it, although the first may be applied: the guards of the second would
		// then fail and an applied transaction would be reported as refused.
		MaxUnaryRetries: 1,
		DialOptions:     options,
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", c.name, err)
	}
	c.v3 = v3
	c.ctx, c.stop = context.WithCancel(context.Background())
	return c, nil
}

// reconnect is quick, because a lease is running: gRPC's own default waits up to
// two minutes between attempts.
func reconnect() grpc.ConnectParams {
	return grpc.ConnectParams{
		Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: time.Second},
		MinConnectTimeout: 2 * time.Second,
	}
}

// disconnected tells every watch that a connection has ended.
func (c *Client) disconnected() {
	c.mu.Lock()
	defer c.mu.Unlock()
	close(c.broken)
	c.broken = make(chan struct{})
}

// nextBreak is closed when a connection ends after now.
func (c *Client) nextBreak() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.broken
}

// probe waits until an endpoint answers that has a leader and is new enough.
func (c *Client) probe() error {
	ctx, cancel := context.WithTimeout(c.ctx, c.cfg.DialTimeout)
	defer cancel()
	leaderless := func() error {
		return fmt.Errorf("%s: %w within %v: most of its members are down or cut off; start them again", c.name, ErrNoLeader, c.cfg.DialTimeout)
	}
	for attempt := 0; ; attempt++ {
		// The bare stub's error says why no connection came about.
		resp, err := pb.NewMaintenanceClient(c.v3.ActiveConnection()).Status(ctx, &pb.StatusRequest{}, grpc.WaitForReady(true))
		switch {
		case err != nil && attempt > 0 && (ctx.Err() != nil || status.Code(err) == codes.DeadlineExceeded): // it did answer; the time is over
			return leaderless()
		case err != nil:
			return c.unanswered(err)
		}
		if err := checkVersion(resp.Version); err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
		if resp.Leader != 0 {
			return nil
		}
		if !retry.Wait(ctx, attempt) {
			return leaderless()
		}
	}
}

// unanswered says what to do about an etcd that has not answered.
func (c *Client) unanswered(err error) error {
	if c.cfg.Credentials == nil {
		for _, e := range c.cfg.Endpoints {
			if secure.Encrypts(c.ctx, e) {
				return fmt.Errorf("%s: %s encrypts its connections, and this end speaks in plain text: name the authority of its certificate (--etcd-tls-ca), and if it wants one a certificate (--etcd-tls-cert, --etcd-tls-key): %w", c.name, e, err)
			}
		}
	}
	return fmt.Errorf("%s: no answer within %v: is it running, and is the address right? %w", c.name, c.cfg.DialTimeout, err)
}

// Close lets go of the connections and ends every watch; it returns when nothing
// of the client is left. Requests under way fail. It may be called twice.
func (c *Client) Close() error {
	c.mu.Lock()
	closed := c.closed
	c.closed = true
	c.mu.Unlock()
	c.stop()
	c.watches.Wait()
	if closed {
		return nil
	}
	if err := c.v3.Close(); err != nil && !errors.Is(err, context.Canceled) {
		return fmt.Errorf("%s: close: %w", c.name, err)
	}
	return nil
}
