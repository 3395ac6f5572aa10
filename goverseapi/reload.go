package goverseapi

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/xiaonanln/goverse/cluster"
	"github.com/xiaonanln/goverse/internal/access"
	"github.com/xiaonanln/goverse/internal/conf"
	"github.com/xiaonanln/goverse/util/logger"
)

// follow lets a server of cfg, while it runs, take up what changes in the cluster's file:
// within 2 s, and on SIGHUP. Without a file SIGHUP ends the process, as ever.
func (l *ConfigLoader) follow(cfg *ServerConfig) {
	if l.document == nil {
		return
	}
	out := cfg.Logger
	if out == nil {
		out = logger.NewLogger("config")
	}
	live := &conf.Live{
		Started: l.document, Settings: l.settings, Flags: l.flags, Say: out.Say,
		Values: func(d *conf.Document) ([]conf.Value, error) { return d.Node(l.id) },
		Apply: func(d *conf.Document, changes []conf.Change) error {
			if err := l.ownRules(d); err != nil {
				return err
			}
			return apply(std.server.Load(), d, changes)
		},
	}
	cfg.Companions = append(cfg.Companions, func(ctx context.Context, _ *cluster.Cluster) error {
		again := make(chan os.Signal, 1)
		signal.Notify(again, syscall.SIGHUP)
		defer signal.Stop(again)
		return live.Run(ctx, conf.Every, again)
	})
}

// apply takes up changes that count now. Nothing is changed where it fails.
func apply(s *Server, d *conf.Document, changes []conf.Change) error {
	rules, err := access.Compile(d.Rules())
	if err != nil {
		return err
	}
	for _, c := range changes {
		switch {
		case c.Flag == "log-level":
			level, err := logger.ParseLevel(c.New)
			if err != nil {
				return err
			}
			logger.SetLevel(level)
		case c.Flag == "":
			s.Node.SetAccess(rules)
		}
	}
	return nil
}
