package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/xiaonanln/goverse/cluster"
	"github.com/xiaonanln/goverse/internal/operations"
	"github.com/xiaonanln/goverse/node"
	"github.com/xiaonanln/goverse/object"
)

// operate opens the operations port.
func (r *assembly) operate(c *cluster.Cluster) error {
	l, err := net.Listen("tcp", r.cfg.MetricsListenAddress)
	if err != nil {
		return fmt.Errorf("the operations port cannot listen on %s: %w", r.cfg.MetricsListenAddress, err)
	}
	srv := &http.Server{Handler: r.operations(c), ReadHeaderTimeout: 5 * time.Second}
	r.run("operations port", func(ctx context.Context) error {
		stopped := context.AfterFunc(ctx, func() { srv.Close() })
		defer stopped()
		if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	})
	return nil
}

// operations is the node's port for its operators.
func (s *Server) operations(c *cluster.Cluster) http.Handler {
	name, _, _ := net.SplitHostPort(s.cfg.AdvertiseAddress)
	port := operations.Port{
		Open: map[string]http.HandlerFunc{
			"/healthz": func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") }, // the process lives
			"/ready":   func(w http.ResponseWriter, _ *http.Request) { ready(w, c) },           // it may get calls
			"/metrics": s.counted.ServeHTTP,
		},
		Records: s.Node, Foreign: operations.NewForeign(name), Listener: s.events,
		Push: func(ctx context.Context, o operations.PushOrder, push object.Push) error {
			return s.pushOrdered(ctx, c, o, push)
		},
		Inside: func(ctx context.Context) (any, error) { return inside(ctx, c, s.Node) },
	}
	return port.Handler()
}

func ready(w http.ResponseWriter, c *cluster.Cluster) {
	if problems := c.Problems(); len(problems) > 0 {
		http.Error(w, strings.Join(problems, "\n"), http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, "ready")
	for _, problem := range c.Degraded() {
		fmt.Fprintln(w, "degraded:", problem)
	}
}

// Inside is what /debug/goverse of a node shows: how it stands, as of now. Its lists are
// bounded, and it has no messages and no states.
type Inside struct {
	Node         string   `json:"node"`
	Registration string   `json:"registration"` // empty: it is not registered
	Version      string   `json:"version"`
	Problems     []string `json:"problems"` // none: it is ready
	Degraded     []string `json:"degraded"`
	*node.Condition
}

func inside(ctx context.Context, c *cluster.Cluster, n *node.Node) (*Inside, error) {
	condition, err := n.Condition(ctx)
	if err != nil {
		return nil, err
	}
	self := c.Self()
	i := &Inside{Node: self.Address, Registration: self.Registration, Version: version(), Problems: c.Problems(), Degraded: c.Degraded(), Condition: condition}
	for _, list := range []*[]string{&i.Problems, &i.Degraded} {
		if *list == nil {
			*list = []string{}
		}
	}
	return i, nil
}
