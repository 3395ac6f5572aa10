// Command inspector shows a living Goverse cluster in a browser.
//
//	inspector --etcd localhost:2379        # http://127.0.0.1:8080/
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/xiaonanln/goverse/cluster/consensusmanager"
	"github.com/xiaonanln/goverse/cluster/etcdmanager"
	"github.com/xiaonanln/goverse/inspector"
	"github.com/xiaonanln/goverse/internal/telemetry"
	"github.com/xiaonanln/goverse/util/logger"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// options is the command line.
type options struct{ listen, etcd, prefix, dataDir string }

// run is the program: its exit code is 0 after a signal or --help, 2 for a command line
// that cannot be used, and 1 for an inspector that failed.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	o, err := parse(args, stdout)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err != nil {
		fmt.Fprintf(stderr, "inspector: %v; --help lists the flags\n", err)
		return 2
	}
	if err := o.serve(ctx, stdout); err != nil {
		fmt.Fprintf(stderr, "inspector: %v\n", err)
		return 1
	}
	return 0
}

const help = `inspector shows a living Goverse cluster in a browser: its nodes, its shards and where they
move, and what happened when and why.

  inspector --etcd localhost:2379
  inspector                          # beside a program with an etcd of its own: no flags

It reads the cluster's etcd, and changes only what an operator tells it to. On loopback it
serves callers of this machine. To listen elsewhere set $` + inspector.TokenVariable + ` to a secret of 16
characters or more, and open the page once with ?token=<it>.

Flags:
`

func parse(args []string, stdout io.Writer) (o options, err error) {
	fs := flag.NewFlagSet("inspector", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.StringVar(&o.listen, "listen", inspector.DefaultListenAddress, "`host:port` of the page")
	fs.StringVar(&o.etcd, "etcd", os.Getenv("GOVERSE_ETCD"), "the cluster's etcd, `host:port`, several separated by commas (default: $GOVERSE_ETCD, else the etcd of the program that uses --data-dir)")
	fs.StringVar(&o.prefix, "etcd-prefix", consensusmanager.DefaultPrefix, "what the cluster's `keys` in etcd begin with")
	fs.StringVar(&o.dataDir, "data-dir", ".goverse", "`directory` of a program with an etcd of its own")
	if err := fs.Parse(args); errors.Is(err, flag.ErrHelp) {
		fmt.Fprint(stdout, help)
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
	return o, nil
}

func (o options) serve(ctx context.Context, stdout io.Writer) error {
	endpoints := etcdmanager.Endpoints(o.etcd)
	if o.etcd == "" {
		own, err := etcdmanager.EndpointIn(o.dataDir)
		if err != nil {
			return fmt.Errorf("no etcd to look at: neither --etcd nor GOVERSE_ETCD names one, and %w", err)
		}
		endpoints = []string{own}
	}
	kv, err := etcdmanager.Dial(etcdmanager.Config{Endpoints: endpoints})
	if err != nil {
		return err
	}
	defer kv.Close()
	i, err := inspector.New(inspector.Config{
		ListenAddress: o.listen, KV: kv, Prefix: o.prefix, Token: os.Getenv(inspector.TokenVariable),
		Listener: telemetry.Log(logger.NewLogger("inspector"), telemetry.LogOptions{}),
	})
	if err != nil {
		return err
	}
	return i.Run(ctx, func(address string) {
		fmt.Fprintf(stdout, "open     http://%s/\nCtrl-C stops it.\n", address)
	})
}
