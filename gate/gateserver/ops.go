package gateserver

import (
	"context"
	"encoding/json"
	"net/http"

	"github.com/xiaonanln/goverse/internal/event"
	"github.com/xiaonanln/goverse/internal/operations"
	"github.com/xiaonanln/goverse/object"
)

// opsDoor is for operators: see operations.Port.
type opsDoor struct {
	guard    *guard
	problems func() []string
	counters http.Handler
	records  object.Records
	inside   func(context.Context) (any, error)
	on       event.Listener // of who is refused
}

func (d *opsDoor) handler() http.Handler {
	port := operations.Port{
		Open: map[string]http.HandlerFunc{
			"/healthz": func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, http.StatusOK, []byte(`{"alive":true}`)) },
			"/ready":   d.ready,
			"/metrics": d.counters.ServeHTTP,
		},
		Records: d.records, Inside: d.inside, Foreign: d.guard.check, Listener: d.on,
	}
	return port.Handler()
}

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
