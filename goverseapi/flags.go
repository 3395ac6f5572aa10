package goverseapi

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"time"
)

// addNodeFlags adds the flags of a node program.
func addNodeFlags(fs *flag.FlagSet, cfg *ServerConfig) {
	fs.StringVar(&cfg.ListenAddress, "listen", "localhost:47000", "`host:port` on which other nodes and gates reach this node")
	fs.StringVar(&cfg.AdvertiseAddress, "advertise", "", "`host:port` that they are told, if it differs from --listen")
	fs.StringVar(&cfg.EtcdAddress, "etcd", "", "the cluster's etcd, `host:port`, several separated by commas (default: an etcd inside this process)")
	fs.StringVar(&cfg.EtcdPrefix, "etcd-prefix", "/goverse", "what this cluster's `keys` in etcd begin with")
	fs.StringVar(&cfg.DataDir, "data-dir", ".goverse", "`directory` for the embedded etcd and the SQLite store")
	fs.IntVar(&cfg.MinQuorum, "min-quorum", 1, "`nodes` that must be there before the cluster forms")
	fs.StringVar(&cfg.QuorumLoss, "quorum-loss", "continue", "what a formed cluster does with fewer: continue, freeze (nothing is taken over) or stop (and clients are refused)")
	fs.StringVar(&cfg.DegradedMode, "degraded-mode", "", "whether durable objects are served while etcd does not answer: on or off (default: on where the store is on a server of its own)")
	fs.DurationVar(&cfg.NodeStabilityDuration, "stability", 10*time.Second, "for how long the nodes must have been the same before objects are moved to even them out")
	fs.BoolVar(&cfg.CopyMessages, "copy-messages", false, "give each side of a call its own copy of the messages, and name the objects that change what would be shared: for finding mistakes")
	fs.BoolVar(&cfg.LogOperations, "log-operations", false, "write a line for each call")
	if fs.Lookup("ops-listen") == nil {
		fs.StringVar(&cfg.MetricsListenAddress, "ops-listen", "", "`host:port` of the operations port: /healthz, /ready, profiles, /api/v1/objects/TYPE (default: none)")
	}
}

// parseFlags parses args; a flag that is not among them may come from the
// environment: --etcd-prefix from GOVERSE_ETCD_PREFIX. --help ends the process.
func parseFlags(fs *flag.FlagSet, args []string) error {
	if !fs.Parsed() {
		if err := fs.Parse(args); err != nil {
			if errors.Is(err, flag.ErrHelp) {
				os.Exit(0)
			}
			return err
		}
	}
	if fs.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q", fs.Arg(0))
	}
	given := map[string]bool{}
	fs.Visit(func(f *flag.Flag) { given[f.Name] = true })
	var errs []error
	fs.VisitAll(func(f *flag.Flag) {
		name := "GOVERSE_" + strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_"))
		value, ok := os.LookupEnv(name)
		if !ok || given[f.Name] {
			return
		}
		if err := fs.Set(f.Name, value); err != nil {
			errs = append(errs, fmt.Errorf("%s=%q: %w", name, value, err))
		}
	})
	return errors.Join(errs...)
}
