package gateserver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
	"time"
)

// port is one thing that the gate listens for.
type port struct {
	purpose string // "gRPC"
	address string
	flag    string // how to choose another address
}

// listen opens the port. A connection whose other end vanished without a word is
// noticed within half a minute.
func (p port) listen(ctx context.Context) (net.Listener, error) {
	lc := net.ListenConfig{KeepAliveConfig: net.KeepAliveConfig{
		Enable: true, Idle: 15 * time.Second, Interval: 5 * time.Second, Count: 3,
	}}
	l, err := lc.Listen(ctx, "tcp", p.address)
	switch {
	case err == nil:
		return l, nil
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("the %s port %s is taken by another program: stop that program, or choose another port with %s: %w", p.purpose, p.address, p.flag, err)
	case errors.Is(err, os.ErrPermission):
		return nil, fmt.Errorf("this user may not open the %s port %s: choose a port above 1023 with %s: %w", p.purpose, p.address, p.flag, err)
	}
	return nil, fmt.Errorf("the %s port %s cannot be opened; choose another address with %s: %w", p.purpose, p.address, p.flag, err)
}

// advertised is the address in client ids: the configured one, else the one that
// was bound, under a name that means something outside this process.
func (c *GateServerConfig) advertised(bound net.Addr) string {
	if c.AdvertiseAddress != "" {
		return c.AdvertiseAddress
	}
	_, number, _ := net.SplitHostPort(bound.String())
	host, _, _ := net.SplitHostPort(c.ListenAddress)
	if unspecified(host) {
		host = c.ownName()
	}
	return net.JoinHostPort(host, number)
}

func (c *GateServerConfig) ownName() string {
	if name, err := os.Hostname(); c.Router == nil && err == nil && name != "" {
		return name
	}
	return "localhost"
}
