package main

import (
	"context"
	"flag"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/credentials"

	"github.com/xiaonanln/goverse/cluster/consensusmanager"
	"github.com/xiaonanln/goverse/cluster/diagnosis"
	"github.com/xiaonanln/goverse/cluster/etcdmanager"
	"github.com/xiaonanln/goverse/internal/secure"
)

const defaultEtcd = "localhost:2379"

// commonFlags is what every command understands.
type commonFlags struct {
	etcd    string
	prefix  string
	dataDir string
	output  string
	timeout time.Duration
	etcdTLS secure.TLSConfig
	gateTLS secure.TLSConfig // of commands that call a gate
	nodeTLS secure.TLSConfig // of commands that ask nodes

	etcdFrom    origin
	dataDirFrom origin
}

// origin is who gave a flag its value.
type origin uint8

const (
	byDefault origin = iota
	byEnvironment
	byFlag
)

func (f *commonFlags) define(root *cobra.Command) {
	fs := root.PersistentFlags()
	fs.StringVar(&f.etcd, "etcd", "", "the cluster's etcd, `host:port`, several separated by commas (default: $GOVERSE_ETCD, else the etcd of the program that uses --data-dir, else "+defaultEtcd+")")
	fs.StringVar(&f.prefix, "etcd-prefix", consensusmanager.DefaultPrefix, "what the cluster's `keys` in etcd begin with")
	fs.StringVar(&f.dataDir, "data-dir", ".goverse", "`directory` of a program with an etcd of its own")
	fs.StringVarP(&f.output, "output", "o", "table", "`format` of the output: table or json")
	fs.DurationVar(&f.timeout, "timeout", 10*time.Second, "how long to wait for etcd or a gate")
	goFlags(root.PersistentFlags(), func(fs *flag.FlagSet) {
		f.etcdTLS.Flags(fs, "etcd-tls", "that etcd is shown, if it wants one", "etcd's certificate is from; without it etcd is spoken to in plain text")
	})
	_ = root.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"table", "json"}, cobra.ShellCompDirectiveNoFileComp))
}

// variables is the flags that may come from the environment: --etcd-prefix from
// GOVERSE_ETCD_PREFIX.
var variables = []string{"etcd", "etcd-prefix", "etcd-tls-cert", "etcd-tls-key", "etcd-tls-ca", "data-dir", "gate", "ops", "gate-tls-cert", "gate-tls-key", "gate-tls-ca", "node-tls-cert", "node-tls-key", "node-tls-ca", "timeout"}

// prepare completes the flags from the environment and checks them.
func (p *program) prepare(c *cobra.Command) error {
	for _, name := range variables {
		f := c.Flag(name)
		if f == nil {
			continue
		}
		if f.Changed {
			if f.Value.String() == "" {
				return fmt.Errorf("--%s is given without a value; leave the flag out for its default", name)
			}
			p.flags.from(name, byFlag)
			continue
		}
		variable := "GOVERSE_" + strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
		value, _ := p.environment(variable)
		if value == "" {
			continue
		}
		if err := f.Value.Set(value); err != nil {
			return fmt.Errorf("%s=%q: %w", variable, value, err)
		}
		p.flags.from(name, byEnvironment)
	}
	return p.flags.check()
}

func (f *commonFlags) from(flag string, o origin) {
	switch flag {
	case "etcd":
		f.etcdFrom = o
	case "data-dir":
		f.dataDirFrom = o
	}
}

func (f *commonFlags) check() error {
	switch {
	case f.output != "table" && f.output != "json":
		return fmt.Errorf("--output %q: want table or json", f.output)
	case f.timeout <= 0:
		return fmt.Errorf("--timeout %v: want more than nothing, as 10s", f.timeout)
	case strings.TrimRight(f.prefix, "/") == "":
		return fmt.Errorf("--etcd-prefix %q: want a name, as %s", f.prefix, consensusmanager.DefaultPrefix)
	case f.etcd != "":
		cfg := etcdmanager.Config{Endpoints: etcdmanager.Endpoints(f.etcd)}
		if f.etcdTLS.Given() {
			cfg.Credentials = credentials.NewTLS(nil) // the files are read when etcd is dialled
		}
		return cfg.Validate()
	}
	return nil
}

// endpoints is where etcd should be, and how that is known. A data directory that
// was named on the command line wins over an etcd that the environment names.
func (f *commonFlags) endpoints() (list []string, why string, err error) {
	if f.etcd != "" && f.etcdFrom >= f.dataDirFrom {
		if f.etcdFrom == byEnvironment {
			why = "GOVERSE_ETCD says so"
		}
		return etcdmanager.Endpoints(f.etcd), why, nil
	}
	own, err := etcdmanager.EndpointIn(f.dataDir)
	switch {
	case err == nil && f.etcdTLS.Given():
		return nil, "", fmt.Errorf("--etcd-tls-… is for an etcd elsewhere, and %s has the address of a program's own, on loopback and in plain text: leave it out, or name the etcd with --etcd", etcdmanager.LockFile(f.dataDir))
	case err == nil:
		return []string{own}, "its address is in " + etcdmanager.LockFile(f.dataDir), nil
	case f.dataDirFrom != byDefault:
		return nil, "", err
	}
	return []string{defaultEtcd}, fmt.Sprintf("that is the default: neither --etcd nor GOVERSE_ETCD names one, and %v", err), nil
}

// connect reaches etcd. The caller closes the KV.
func (p *program) connect() (etcdmanager.KV, error) {
	list, why, err := p.flags.endpoints()
	if err != nil {
		return nil, err
	}
	cfg := etcdmanager.Config{Endpoints: list, DialTimeout: p.flags.timeout, RequestTimeout: p.flags.timeout}
	if cfg.Credentials, err = p.etcdCredentials(); err != nil {
		return nil, err
	}
	kv, err := p.dial(cfg)
	switch {
	case err == nil:
		return kv, nil
	case why != "":
		return nil, fmt.Errorf("%w (%s; name another with --etcd host:port)", err, why)
	}
	return nil, err
}

// picture is the cluster as commands see it.
type picture = diagnosis.Picture

// withView hands the cluster as it stands to a command that only reads.
func (p *program) withView(ctx context.Context, use func(*picture) error) error {
	kv, err := p.connect()
	if err != nil {
		return err
	}
	defer kv.Close()
	v, err := p.read(ctx, kv)
	if err != nil {
		return err
	}
	return use(v)
}

// read is the cluster as it stands. That there is none is an error.
func (p *program) read(ctx context.Context, kv etcdmanager.KV) (*picture, error) {
	ctx, cancel := context.WithTimeout(ctx, p.flags.timeout)
	defer cancel()
	v, err := consensusmanager.Read(ctx, kv, p.flags.prefix)
	switch {
	case err != nil:
		return nil, err
	case v.Meta == nil && len(v.Damage()) == 0:
		return nil, p.nothingThere(ctx, kv)
	}
	return p.picture(v), nil
}

func (p *program) picture(v *consensusmanager.View) *picture { return diagnosis.Of(v, p.flags.prefix) }

func (p *program) nothingThere(ctx context.Context, kv etcdmanager.KV) error {
	others, err := consensusmanager.Clusters(ctx, kv, p.flags.prefix)
	others = slices.DeleteFunc(others, func(o string) bool { return o == strings.TrimRight(p.flags.prefix, "/") })
	if err != nil || len(others) == 0 {
		return fmt.Errorf("%w under the prefix %s: start a node with this etcd, or name the right --etcd-prefix", consensusmanager.ErrNoCluster, p.flags.prefix)
	}
	return fmt.Errorf("%w under the prefix %s, but under %s: name it with --etcd-prefix", consensusmanager.ErrNoCluster, p.flags.prefix, strings.Join(others, ", "))
}

// warn says on standard error what else there is to know.
func (p *program) warn(warnings []string) {
	for _, w := range warnings {
		fmt.Fprintln(p.err, "note:", clean(w))
	}
}
