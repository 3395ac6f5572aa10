package main

import (
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"google.golang.org/grpc/credentials"

	"github.com/xiaonanln/goverse/internal/event"
	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/internal/secure"
)

// goFlags adds to fs the flags that define makes in a set of Go's own package.
func goFlags(fs *pflag.FlagSet, define func(*flag.FlagSet)) {
	own := flag.NewFlagSet("", flag.ContinueOnError)
	define(own)
	fs.AddGoFlagSet(own)
}

// gateFlags is which gate a command calls, and how it is encrypted.
func (p *program) gateFlags(c *cobra.Command, gate *string) {
	c.Flags().StringVar(gate, "gate", "http://localhost:48000", "the gate's HTTP port, `URL` or host:port")
	goFlags(c.Flags(), func(fs *flag.FlagSet) {
		p.flags.gateTLS.Flags(fs, "gate-tls", "that the gate is shown, if it wants one", "the gate's certificate is from (default: those that this system trusts)")
	})
}

// etcdCredentials are nil for plain text.
func (p *program) etcdCredentials() (credentials.TransportCredentials, error) {
	if !p.flags.etcdTLS.Given() {
		return nil, nil
	}
	keys, err := p.keys("etcd", p.flags.etcdTLS)
	if err != nil {
		return nil, err
	}
	return keys.Credentials(), nil
}

// keys reads the files of the flags that begin with --LINK-tls.
func (p *program) keys(link string, c secure.TLSConfig) (*secure.Files, error) {
	keys, err := secure.Open(c, event.Listener{Notice: func(n event.Notice) { p.warn([]string{n.String()}) }})
	if err != nil {
		return nil, fmt.Errorf("--%s-tls-…: %w", link, err)
	}
	return keys, nil
}

// gateURL is the root of a gate's HTTP port, without a slash at its end.
func (p *program) gateURL(gate string) (string, error) { return p.portURL("--gate", gate) }

// portURL is the same of the port that a flag names.
func (p *program) portURL(flag, gate string) (string, error) {
	encrypt := p.flags.gateTLS.Given()
	if !strings.Contains(gate, "://") {
		scheme := "http://"
		if encrypt {
			scheme = "https://"
		}
		gate = scheme + gate
	}
	u, err := url.Parse(gate)
	switch {
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.Fragment != "":
		return "", usagef("%s %q: want a URL, as http://localhost:48000", flag, gate)
	case encrypt && u.Scheme == "http":
		return "", usagef("--gate %q is in plain text, and --gate-tls-… is given: leave that out, or write https://", gate)
	}
	return strings.TrimRight(u.String(), "/"), nil
}

// gateWay is a connection for one request to a gate; keys are what it shows and trusts.
func (p *program) gateWay(to *url.URL) (way *http.Transport, keys *secure.Files, err error) {
	if keys, err = p.keys("gate", p.flags.gateTLS); err != nil {
		return nil, nil, err
	}
	encrypt := keys.Dialing(to.Hostname()) // through a proxy
	encrypt.NextProtos = []string{"http/1.1"}
	direct := func(ctx context.Context, _, address string) (net.Conn, error) {
		return keys.Dial(ctx, address, "http/1.1")
	}
	return &http.Transport{Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true, TLSClientConfig: encrypt, DialTLSContext: direct}, keys, nil
}

// unshaken says whether a request ended before it was heard, in the handshake of TLS.
func unshaken(err error) bool {
	var throughProxy *tls.CertificateVerificationError
	return errors.As(err, new(secure.Unshaken)) || errors.As(err, &throughProxy) || secure.Alert(err)
}

// plainly adds to what a port has answered in no words of a gate's that it encrypts, and
// was spoken to in plain text.
func (p *program) plainly(ctx context.Context, r request, err error) error {
	u, _ := url.Parse(r.gate) // gateURL has
	var foreign notAGate
	if !errors.As(err, &foreign) || u.Scheme != "http" {
		return err
	}
	address := u.Host
	if u.Port() == "" {
		address = net.JoinHostPort(u.Hostname(), "80")
	}
	if !secure.Encrypts(ctx, address) {
		return err
	}
	return fmt.Errorf("%s encrypts its connections (%v): give --gate https://%s, with --gate-tls-ca if its certificate is not from an authority that this system trusts", r.gate, fault.NotExecuted, u.Host)
}
