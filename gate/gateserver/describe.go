package gateserver

import (
	"context"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/internal/openapi"
	"github.com/xiaonanln/goverse/object"
)

// describer is what the gate knows of the cluster's types: it has no messages of its own,
// and asks the nodes.
type describer struct {
	router Router
	turn   chan struct{} // held by who asks the nodes
	last   atomic.Pointer[described]
}

// described is what the nodes said, and when.
type described struct {
	types *openapi.Types
	at    time.Time
}

// What the nodes said is good for describedFor: they are asked by its digest then, and
// members that have come meanwhile are among them.
const (
	describedFor   = 2 * time.Second
	describeWithin = 10 * time.Second
)

func newDescriber(router Router) *describer {
	return &describer{router: router, turn: make(chan struct{}, 1)}
}

// types is what the nodes have, as of now or of a moment ago. One caller asks, others
// wait for that.
func (d *describer) types(ctx context.Context) (*openapi.Types, error) {
	if last := d.last.Load(); last.fresh() {
		return last.types, nil
	}
	ctx, cancel := context.WithTimeout(ctx, describeWithin)
	defer cancel()
	select {
	case d.turn <- struct{}{}:
		defer func() { <-d.turn }()
	case <-ctx.Done():
		return nil, fault.Waited(ctx, "the nodes are being asked what types they have")
	}
	last := d.last.Load()
	if last.fresh() {
		return last.types, nil
	}
	list, silent, err := d.router.Catalogs(ctx)
	if err != nil {
		return nil, err
	}
	types, err := openapi.NewTypes(list, silent)
	if err != nil {
		return nil, fault.New(fault.NotReady, "what the nodes say of their types is not to be understood: %w", err)
	}
	d.last.Store(&described{types, time.Now()})
	return types, nil
}

func (d *described) fresh() bool { return d != nil && time.Since(d.at) < describedFor }

// openapi answers with the OpenAPI document of what is registered now.
func (d *httpDoor) openapi(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		writeFailure(w, notAllowed("GET, HEAD"), object.OpCall)
		return
	}
	types, err := d.describer.types(r.Context())
	if err != nil {
		writeFailure(w, err, object.OpCall)
		return
	}
	writeJSON(w, http.StatusOK, types.Document(openapi.Options{Authenticated: d.calls.authority != nil}))
}
