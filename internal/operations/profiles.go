package operations

import (
	"encoding/json"
	"net/http"
	"runtime/pprof"
	"runtime/trace"
	"strconv"
	"time"

	"github.com/xiaonanln/goverse/internal/fault"
)

// maxRecording bounds how long one asks for a profile or a trace.
const maxRecording = 300 // seconds

// handleProfiles takes runtime/pprof, because importing net/http/pprof would hang profiles on
// http.DefaultServeMux, which a program may show to the world.
func handleProfiles(mux *http.ServeMux) {
	mux.HandleFunc("GET /debug/pprof/{$}", profileList)
	mux.HandleFunc("GET /debug/pprof/profile", cpuProfile)
	mux.HandleFunc("GET /debug/pprof/trace", executionTrace)
	mux.HandleFunc("GET /debug/pprof/{name}", namedProfile)
}

func profileList(w http.ResponseWriter, _ *http.Request) {
	names := []string{"profile", "trace"}
	for _, p := range pprof.Profiles() {
		names = append(names, p.Name())
	}
	body, _ := json.Marshal(names) // strings: it cannot fail
	write(w, http.StatusOK, body)
}

func namedProfile(w http.ResponseWriter, r *http.Request) {
	p := pprof.Lookup(r.PathValue("name"))
	if p == nil {
		fail(w, fault.New(fault.NotFound, "there is no such profile; /debug/pprof/ lists them"))
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
		fail(w, fault.New(fault.Overloaded, "%w", err))
		return
	}
	defer pprof.StopCPUProfile()
	record(r, 30)
}

func executionTrace(w http.ResponseWriter, r *http.Request) {
	if err := trace.Start(w); err != nil {
		fail(w, fault.New(fault.Overloaded, "%w", err))
		return
	}
	defer trace.Stop()
	record(r, 1)
}

// record waits for ?seconds=, at most maxRecording.
func record(r *http.Request, seconds int) {
	if asked, err := strconv.Atoi(r.FormValue("seconds")); err == nil && asked > 0 {
		seconds = min(asked, maxRecording)
	}
	select {
	case <-time.After(time.Duration(seconds) * time.Second):
	case <-r.Context().Done():
	}
}
