package gateserver

import (
	"encoding/json"
	"net"
	"net/http"
	"runtime/pprof"
	"runtime/trace"
	"strconv"
	"time"

	"github.com/xiaonanln/goverse/internal/archive"
	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/object"
)

// opsDoor is for operators: /healthz, /ready and /metrics, and for callers on this machine
// /debug/pprof/ and what is stored (see archive.Archive). It takes runtime/pprof, because
// importing net/http/pprof would hang profiles on http.DefaultServeMux, which a program
// may show to the world.
type opsDoor struct {
	guard    *guard
	problems func() []string
	counters http.Handler
	records  object.Records
}

func (d *opsDoor) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusOK, []byte(`{"alive":true}`))
	})
	mux.HandleFunc("GET /ready", d.ready)
	mux.Handle("GET /metrics", d.counters)
	archive.Archive{Records: d.records}.Handle(mux)
	mux.HandleFunc("GET /debug/pprof/{$}", profileList)
	mux.HandleFunc("GET /debug/pprof/profile", cpuProfile)
	mux.HandleFunc("GET /debug/pprof/trace", executionTrace)
	mux.HandleFunc("GET /debug/pprof/{name}", namedProfile)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := d.check(r); err != nil {
			writeFailure(w, err, object.OpCall)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

// check keeps web pages out, and profiles and states for callers on this machine.
func (d *opsDoor) check(r *http.Request) error {
	if err := d.guard.check(r); err != nil {
		return err
	}
	host, _, _ := net.SplitHostPort(r.RemoteAddr)
	if ip := net.ParseIP(host); !open[r.URL.Path] && !ip.IsLoopback() {
		return forbidden("profiles and what is stored are for callers on this machine; this one is at %s", host)
	}
	return nil
}

// open is what callers on other machines may see.
var open = map[string]bool{"/healthz": true, "/ready": true, "/metrics": true}

func (d *opsDoor) ready(w http.ResponseWriter, _ *http.Request) {
	status, state := http.StatusOK, struct {
		Ready    bool     `json:"ready"`
		Problems []string `json:"problems"`
	}{true, []string{}}
	if problems := d.problems(); len(problems) > 0 {
		status, state.Ready, state.Problems = http.StatusServiceUnavailable, false, problems
	}
	body, _ := json.Marshal(state) // strings: it cannot fail
	writeJSON(w, status, body)
}

func profileList(w http.ResponseWriter, _ *http.Request) {
	names := []string{"profile", "trace"}
	for _, p := range pprof.Profiles() {
		names = append(names, p.Name())
	}
	body, _ := json.Marshal(names) // strings: it cannot fail
	writeJSON(w, http.StatusOK, body)
}

func namedProfile(w http.ResponseWriter, r *http.Request) {
	p := pprof.Lookup(r.PathValue("name"))
	if p == nil {
		writeFailure(w, &refusal{status: http.StatusNotFound, code: "OBJECT_NOT_FOUND", text: "there is no such profile; /debug/pprof/ lists them"}, object.OpCall)
		return
	}
	debug, _ := strconv.Atoi(r.FormValue("debug")) // 0, the binary form, for anything else
	w.Header().Set("Content-Type", "application/octet-stream")
	if debug > 0 {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	}
	_ = p.WriteTo(w, debug) // the reader has left
}

func cpuProfile(w http.ResponseWriter, r *http.Request) {
	if err := pprof.StartCPUProfile(w); err != nil {
		writeFailure(w, fault.New(fault.Overloaded, "%w", err), object.OpCall)
		return
	}
	defer pprof.StopCPUProfile()
	record(r, 30)
}

func executionTrace(w http.ResponseWriter, r *http.Request) {
	if err := trace.Start(w); err != nil {
		writeFailure(w, fault.New(fault.Overloaded, "%w", err), object.OpCall)
		return
	}
	defer trace.Stop()
	record(r, 1)
}

// record waits for ?seconds=, at most five minutes.
func record(r *http.Request, seconds int) {
	if asked, err := strconv.Atoi(r.FormValue("seconds")); err == nil && asked > 0 {
		seconds = min(asked, 300)
	}
	select {
	case <-time.After(time.Duration(seconds) * time.Second):
	case <-r.Context().Done():
	}
}
