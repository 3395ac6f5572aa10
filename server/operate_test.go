package server

import (
	"context"
	"encoding/json"
	"log/slog"
	"net"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/xiaonanln/goverse/internal/event"
	"github.com/xiaonanln/goverse/node"
	"github.com/xiaonanln/goverse/util/logger"
)

// Whoever is on another machine sees health and metrics, and nothing else; a web page of
// others not even these. Each refusal is told of.
func TestTheOperationsPortIsForOperators(t *testing.T) {
	var denied []event.AccessDenied
	s, err := New(ServerConfig{Logger: logger.New(slog.New(slog.DiscardHandler)), Events: event.Listener{AccessDenied: func(e event.AccessDenied) { denied = append(denied, e) }}})
	if err != nil {
		t.Fatal(err)
	}
	port := s.operations(nil)
	for _, path := range []string{
		"/debug/pprof/", "/debug/pprof/goroutine", "/debug/pprof/heap", "/debug/pprof/profile", "/debug/pprof/trace", "/debug/goverse", "/debug/loglevel",
		"/api/v1/objects/Room", "/api/v1/objects/Room/x", "/debug/../debug/pprof/", "//metrics", "/",
	} {
		w := httptest.NewRecorder()
		port.ServeHTTP(w, httptest.NewRequest("GET", path, nil)) // from 192.0.2.1
		if w.Code != 403 || !strings.Contains(w.Body.String(), `192.0.2.1","code":"ACCESS_DENIED","outcome":"NotExecuted"}`) {
			t.Errorf("from elsewhere, %s: %d %s", path, w.Code, w.Body)
		}
		if n := len(denied); n == 0 || denied[n-1].Where != event.AtOperations || denied[n-1].Why != event.ByAddress || denied[n-1].From == "" {
			t.Errorf("%s: told of %+v", path, denied)
		}
		denied = nil
	}
	for _, path := range []string{"/healthz", "/metrics"} {
		r, w := httptest.NewRequest("GET", path, nil), httptest.NewRecorder()
		if port.ServeHTTP(w, r); w.Code != 200 {
			t.Errorf("from elsewhere, %s: %d %s", path, w.Code, w.Body)
		}
		r.Header.Set("Origin", "https://evil.example")
		w = httptest.NewRecorder()
		if port.ServeHTTP(w, r); w.Code != 403 || len(denied) != 1 || denied[0].Why != event.ByOrigin {
			t.Errorf("a page of others, %s: %d, told of %+v", path, w.Code, denied)
		}
		denied = nil
	}
	local := httptest.NewRequest("GET", "/debug/pprof/heap", nil)
	local.RemoteAddr = "[::1]:1"
	w := httptest.NewRecorder()
	if port.ServeHTTP(w, local); w.Code != 200 || w.Body.Len() == 0 {
		t.Errorf("from here: %d %s", w.Code, w.Body)
	}
}

// A node that runs says how it stands.
func TestInside(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s, err := New(ServerConfig{Listener: l, DataDir: t.TempDir(), NumShards: 8, NodeStabilityDuration: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	defer func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	select {
	case <-s.ClusterReady():
	case err := <-ended:
		ended <- err
		return
	}
	r, w := httptest.NewRequest("GET", "/debug/goverse", nil), httptest.NewRecorder()
	r.RemoteAddr = "127.0.0.1:1"
	s.operations(s.Cluster()).ServeHTTP(w, r)
	var got Inside
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || w.Code != 200 {
		t.Fatalf("%v: %d %s", err, w.Code, w.Body)
	}
	if got.Node != l.Addr().String() || got.Registration == "" || got.Shards.Open != 8 || got.Objects.Max != node.DefaultMaxActivations {
		t.Errorf("%s", w.Body)
	}
	for _, empty := range []string{`"problems": []`, `"degraded": []`, `"types": []`, `"running": []`, `"queues": []`, `"outlets": []`, `"moving": []`} {
		if !strings.Contains(w.Body.String(), empty) {
			t.Errorf("it does not have %s:\n%s", empty, w.Body)
		}
	}
}
