package goverseclient

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strconv"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/xiaonanln/goverse/internal/callctx"
	"github.com/xiaonanln/goverse/internal/secure"
)

// Option sets one property of a client.
type Option func(*config)

type config struct {
	connectionTimeout time.Duration
	callTimeout       time.Duration
	reconnectInterval time.Duration
	unary             bool // each call by itself
	passing           bool // sessions end with their connections
	onReset           func(Reset)
	follow            func(address string) bool // whether a gate that another names may be used
	tls               *TLSConfig                // nil: plain text
	keys              *secure.Files             // what it says; set by NewClient
	dialOptions       []grpc.DialOption
	log               *slog.Logger
	tracer            callctx.Tracer // nil: nothing is traced
	onConnect         func(clientID string)
	onDisconnect      func(error)
	onMessage         func(proto.Message)
}

// The defaults. A gate that has just started may itself wait some seconds for its
// cluster before it takes a client in, hence the long patience with a connection.
const (
	defaultConnectionTimeout = 10 * time.Second
	defaultCallTimeout       = 30 * time.Second
	defaultReconnectInterval = 100 * time.Millisecond
)

// WithConnectionTimeout bounds one attempt to connect to one gate, from the dial to
// the gate's welcome; default 10 s.
func WithConnectionTimeout(d time.Duration) Option {
	return func(c *config) { c.connectionTimeout = d }
}

// WithCallTimeout bounds each call whose context has no deadline, its repetitions
// included; default 30 s.
func WithCallTimeout(d time.Duration) Option { return func(c *config) { c.callTimeout = d } }

// WithReconnectInterval is the pause after every gate has been tried in vain once;
// default 100 ms. It doubles each time up to 5 s (or to d, if that is longer), and a
// random half of it is left out, so that clients do not come back all at once.
func WithReconnectInterval(d time.Duration) Option {
	return func(c *config) { c.reconnectInterval = d }
}

// WithGRPCDialOptions adds options of the connection. They come after the
// client's own and win over them. Interceptors of unary calls see each call, also where
// it then goes over the stream that all share.
func WithGRPCDialOptions(opts ...grpc.DialOption) Option {
	return func(c *config) { c.dialOptions = append(c.dialOptions, opts...) }
}

// WithUnaryCalls makes each call a unary call of gRPC, with pushes on a stream beside them.
// By default all share one stream, which carries several times as many calls. It is for
// proxies that do not pass streams on, and for credentials that change from call to call:
// those in the dial options are asked when the stream is opened. At a gate of an older
// version calls are made so by themselves, and so is one whose context has outgoing gRPC
// metadata.
func WithUnaryCalls() Option { return func(c *config) { c.unary = true } }

// WithoutResume ends the client's session with each connection. By default it goes on when
// the client comes back to the same gate in time, under the same client id, and nothing
// that was pushed meanwhile is missed.
func WithoutResume() Option { return func(c *config) { c.passing = true } }

// WithOnReset has f told, in order with WithOnMessage and WithOnConnect, that pushes are
// lost: what they told of is to be read anew. Without such a word none is missing and none
// came twice, as long as Dropped does not change. With gates of older versions, and with
// WithUnaryCalls or WithoutResume, what is lost within a connection is not noticed.
func WithOnReset(f func(Reset)) Option { return func(c *config) { c.onReset = f } }

// WithNamedGates lets the client use gates that it was not given. A gate that leaves names
// others of its cluster; those for which allow says yes, by their advertised address, are
// tried as well from then on, for as long as no other gate names others. Without this
// option only those that NewClient was given are used, so that nobody who can speak as a
// gate leads the client elsewhere; of these the named ones come first.
func WithNamedGates(allow func(address string) bool) Option {
	return func(c *config) { c.follow = allow }
}

// WithLogger makes the client log when its connection comes and goes, and what it
// drops. Without it the client logs nothing.
func WithLogger(l *slog.Logger) Option { return func(c *config) { c.log = l } }

// WithOnConnect has f told of each new connection, with the client id that holds as
// long as it lasts. Here a program subscribes, anew each time, to what it wants to be
// pushed.
//
// f, like the other two callbacks, runs apart from the client's own work: it may call
// any method of the client, Close too. The callbacks of one client run one after the
// other and in order.
func WithOnConnect(f func(clientID string)) Option { return func(c *config) { c.onConnect = f } }

// WithOnDisconnect has f told of each connection that was lost, and why. Pushes may
// have been missed since. It is not told of Close.
func WithOnDisconnect(f func(error)) Option { return func(c *config) { c.onDisconnect = f } }

// WithOnMessage hands each pushed message to f, in order. One whose type the program
// does not link comes as the *anypb.Any that it was in. If f falls 1,024 behind, the
// oldest are dropped; Dropped counts them.
func WithOnMessage(f func(proto.Message)) Option { return func(c *config) { c.onMessage = f } }

func newConfig(opts []Option) (config, error) {
	c := config{
		connectionTimeout: defaultConnectionTimeout, callTimeout: defaultCallTimeout, reconnectInterval: defaultReconnectInterval,
		log: slog.New(slog.DiscardHandler),
	}
	for _, o := range opts {
		if o != nil {
			o(&c)
		}
	}
	if c.log == nil {
		c.log = slog.New(slog.DiscardHandler)
	}
	positive := func(name string, d time.Duration) error {
		if d > 0 {
			return nil
		}
		return fmt.Errorf("%s(%v): it must be above zero; leave it out for the default", name, d)
	}
	return c, errors.Join(
		positive("WithConnectionTimeout", c.connectionTimeout),
		positive("WithCallTimeout", c.callTimeout),
		positive("WithReconnectInterval", c.reconnectInterval),
		c.openKeys(),
	)
}

// checkAddresses says everything that is wrong with a list of gates, and returns it
// without repetitions.
func checkAddresses(addresses []string) ([]string, error) {
	if len(addresses) == 0 {
		return nil, ErrNoAddresses
	}
	var good []string
	var problems []error
	for i, a := range addresses {
		if err := checkAddress(a); err != nil {
			problems = append(problems, fmt.Errorf("gate address %d, %q: %w", i+1, a, err))
		} else if !slices.Contains(good, a) {
			good = append(good, a)
		}
	}
	return good, errors.Join(problems...)
}

func checkAddress(a string) error {
	host, port, err := net.SplitHostPort(a)
	if err != nil {
		var reason *net.AddrError
		if errors.As(err, &reason) {
			return fmt.Errorf("%s; write host:port, as in gate.example.com:49000", reason.Err)
		}
		return err
	}
	if host == "" {
		return errors.New("no host; write host:port, as in gate.example.com:49000")
	}
	for _, r := range host {
		if r <= ' ' || r == '/' || r == '?' || r == '#' || r == '@' || r == 0x7f {
			return fmt.Errorf("%q does not belong in a host's name; write host:port, without a scheme or a path", r)
		}
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return fmt.Errorf("%q is no port; a port is a number from 1 to 65535", port)
	}
	return nil
}
