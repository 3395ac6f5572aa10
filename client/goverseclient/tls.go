package goverseclient

import (
	"context"
	"fmt"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/xiaonanln/goverse/internal/event"
	"github.com/xiaonanln/goverse/internal/secure"
)

// TLSConfig names files, in PEM. CAFile has the authorities of the gates' certificates;
// without it they are those that the system trusts. CertFile and KeyFile are the client's
// own, for gates that want one.
type TLSConfig = secure.TLSConfig

// WithTLS encrypts the client's connections. A gate's certificate names the host by which
// the client reaches it. The files may be replaced at any time: the next connection uses
// what they say then, and if that makes no sense what they said before. Certificates that
// are in no file go into WithGRPCDialOptions.
func WithTLS(files TLSConfig) Option { return func(c *config) { c.tls = &files } }

// openKeys reads the files of WithTLS.
func (c *config) openKeys() (err error) {
	if c.tls == nil {
		return nil
	}
	told := event.Listener{Notice: func(n event.Notice) { c.log.Warn(n.String()) }}
	if c.keys, err = secure.Open(*c.tls, told); err != nil {
		return fmt.Errorf("WithTLS: %w", err)
	}
	return nil
}

func (c *config) credentials() credentials.TransportCredentials {
	if c.keys == nil {
		return insecure.NewCredentials()
	}
	return c.keys.Credentials()
}

// explain adds to why a gate did not take the client in that the gate encrypts and the
// client does not.
func (c *config) explain(ctx context.Context, address string, err error) error {
	if c.tls != nil || len(c.dialOptions) > 0 || ctx.Err() != nil || !secure.Encrypts(ctx, address) {
		return err
	}
	return fmt.Errorf("%w (the gate encrypts its connections: give the client the authority of its certificate, with WithTLS)", err)
}
