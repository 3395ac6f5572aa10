package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"strings"
	"time"

	"github.com/xiaonanln/goverse/cluster"
	"github.com/xiaonanln/goverse/internal/archive"
	"github.com/xiaonanln/goverse/object"
)

// operate opens the operations port.
func (r *assembly) operate(c *cluster.Cluster) error {
	l, err := net.Listen("tcp", r.cfg.MetricsListenAddress)
	if err != nil {
		return fmt.Errorf("the operations port cannot listen on %s: %w", r.cfg.MetricsListenAddress, err)
	}
	srv := &http.Server{Handler: operations(c, r.Node, r.counted), ReadHeaderTimeout: 5 * time.Second}
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

// operations answers /healthz (the process lives), /ready (it may get calls), /metrics,
// the profiler, and what is stored.
func operations(c *cluster.Cluster, records object.Records, counters http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", counters)
	archive.Archive{Records: records}.Handle(mux)
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /ready", func(w http.ResponseWriter, _ *http.Request) {
		if problems := c.Problems(); len(problems) > 0 {
			http.Error(w, strings.Join(problems, "\n"), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ready")
		for _, problem := range c.Degraded() {
			fmt.Fprintln(w, "degraded:", problem)
		}
	})
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	return mux
}
