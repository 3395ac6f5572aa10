// Package inspectorcmd is the program that shows a living cluster in a browser, under the
// two names that it has: inspector, and goverse inspector.
package inspectorcmd

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/xiaonanln/goverse/cluster/consensusmanager"
	"github.com/xiaonanln/goverse/cluster/etcdmanager"
	"github.com/xiaonanln/goverse/inspector"
	"github.com/xiaonanln/goverse/internal/event"
	"github.com/xiaonanln/goverse/internal/secure"
	"github.com/xiaonanln/goverse/internal/telemetry"
	"github.com/xiaonanln/goverse/util/logger"
)

// options is the command line.
type options struct {
	listen, etcd, prefix, dataDir string
	tls, etcdTLS, memberTLS       secure.TLSConfig
	name                          string
	requireTLS                    bool
}

// Run is the program that was called by name, until ctx ends. Its exit code is 0 after
// that or --help, 2 for a command line that cannot be used, and 1 for an inspector that failed.
func Run(ctx context.Context, name string, args []string, stdout, stderr io.Writer) int {
	o, err := parse(name, args, stdout)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err != nil {
		fmt.Fprintf(stderr, "%s: %v; --help lists the flags\n", name, err)
		return 2
	}
	if err := o.serve(ctx, stdout); err != nil {
		fmt.Fprintf(stderr, "%s: %v\n", name, err)
		return 1
	}
	return 0
}

const help = `NAME shows a living Goverse cluster in a browser: its nodes, its shards and where they
move, and what happened when and why.

  NAME --etcd localhost:2379
  NAME                          # beside a program with an etcd of its own: no flags
  NAME --etcd etcd1:2379 --etcd-tls-ca certs/etcd-ca.pem --listen :8080 --tls-cert certs/ops.pem --tls-key certs/ops.key

It reads the cluster's etcd, and changes only what an operator tells it to. On loopback it
serves callers of this machine. To listen elsewhere set $` + inspector.TokenVariable + ` to a secret of 16
characters or more, and open the page once with ?token=<it>; encrypt the page with --tls-cert and
--tls-key, or the token can be read on its way.

SIGINT and SIGTERM end it with exit code 0.

Flags:
`

// Flags are what the command line may have.
func Flags() *flag.FlagSet { return new(options).flags() }

// flags defines the command line in a set that prints nothing.
func (o *options) flags() *flag.FlagSet {
	fs := flag.NewFlagSet("inspector", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.StringVar(&o.listen, "listen", inspector.DefaultListenAddress, "`host:port` of the page")
	fs.StringVar(&o.etcd, "etcd", "", "the cluster's etcd, `host:port`, several separated by commas (default: $GOVERSE_ETCD, else the etcd of the program that uses --data-dir)")
	fs.StringVar(&o.prefix, "etcd-prefix", consensusmanager.DefaultPrefix, "what the cluster's `keys` in etcd begin with")
	fs.StringVar(&o.dataDir, "data-dir", ".goverse", "`directory` of a program with an etcd of its own")
	o.tls.Flags(fs, "tls", "that the page is shown with", "every viewer must have a certificate from (default: viewers need none)")
	o.etcdTLS.Flags(fs, "etcd-tls", "that etcd is shown, if it wants one (default: $GOVERSE_ETCD_TLS_CERT)", "etcd's certificate is from (default: $GOVERSE_ETCD_TLS_CA; without it etcd is spoken to in plain text)")
	o.memberTLS.Flags(fs, "member-tls", "that the nodes are shown, if they have certificates", "all nodes' and gates' certificates are from")
	fs.StringVar(&o.name, "member-name", "inspector", "`host` that the certificate of --member-tls-cert names")
	fs.BoolVar(&o.requireTLS, "require-tls", false, "do not start where anything would be in plain text beyond this machine")
	return fs
}

func parse(name string, args []string, stdout io.Writer) (o options, err error) {
	fs := o.flags()
	if err := fs.Parse(args); errors.Is(err, flag.ErrHelp) {
		fmt.Fprint(stdout, strings.ReplaceAll(help, "NAME", name))
		fs.SetOutput(stdout)
		fs.PrintDefaults()
		return o, err
	} else if err != nil {
		return o, err
	}
	if fs.NArg() > 0 {
		return o, fmt.Errorf("unexpected argument %q", fs.Arg(0))
	}
	if strings.Trim(o.prefix, "/") == "" {
		return o, fmt.Errorf("--etcd-prefix %q: want a name, as %s", o.prefix, consensusmanager.DefaultPrefix)
	}
	return o, o.secure(fs)
}

func (o options) serve(ctx context.Context, stdout io.Writer) error {
	endpoints := etcdmanager.Endpoints(o.etcd)
	if o.etcd == "" {
		own, err := etcdmanager.EndpointIn(o.dataDir)
		if err != nil {
			return fmt.Errorf("no etcd to look at: neither --etcd nor GOVERSE_ETCD names one, and %w", err)
		}
		if o.etcdTLS.Given() {
			return fmt.Errorf("--etcd-tls-… is for an etcd elsewhere, and %s has the address of a program's own, on loopback and in plain text: leave it out, or name the etcd with --etcd", etcdmanager.LockFile(o.dataDir))
		}
		endpoints = []string{own}
	}
	counted := telemetry.NewMetrics(nil)
	listener := event.Tee(telemetry.Log(logger.NewLogger("inspector"), telemetry.LogOptions{}), counted.Listener())
	encrypt, err := o.etcdCredentials(listener)
	if err != nil {
		return err
	}
	kv, err := etcdmanager.Dial(etcdmanager.Config{Endpoints: endpoints, Credentials: encrypt})
	if err != nil {
		return err
	}
	defer kv.Close()
	i, err := inspector.New(inspector.Config{
		ListenAddress: o.listen, KV: kv, Prefix: o.prefix, Token: os.Getenv(inspector.TokenVariable), Listener: listener,
		TLS: o.tls, RequireTLS: o.requireTLS, Name: o.name, MemberTLS: o.memberTLS,
		Metrics: counted,
	})
	if err != nil {
		return err
	}
	err = i.Run(ctx, func(address string) {
		fmt.Fprintf(stdout, "open     %s://%s/\nCtrl-C stops it.\n", o.scheme(), address)
	})
	if err == nil {
		fmt.Fprintln(stdout, "stopped")
	}
	return err
}
