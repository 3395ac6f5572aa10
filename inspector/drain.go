package inspector

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/xiaonanln/goverse/cluster/consensusmanager"
	"github.com/xiaonanln/goverse/cluster/diagnosis"
	"github.com/xiaonanln/goverse/internal/event"
)

// drain carries out an operator's order.
func (i *Inspector) drain(w http.ResponseWriter, r *http.Request) {
	var order struct {
		Undo  bool `json:"undo"`
		Force bool `json:"force"`
	}
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<10))
	d.DisallowUnknownFields()
	if err := d.Decode(&order); err != nil {
		fail(w, http.StatusBadRequest, "the body is not {\"undo\": bool, \"force\": bool}: %v", err)
		return
	}
	address := r.PathValue("address")
	mark, err := i.order(r.Context(), address, order.Undo, order.Force, r.RemoteAddr)
	if err != nil {
		fail(w, statusOf(err), "%s", wordsOf(err, address))
		return
	}
	l := diagnosis.Loads(diagnosis.Of(mark.Before, i.cfg.Prefix))[address]
	write(w, http.StatusOK, encode(map[string]any{"address": address, "changed": mark.Changed, "held": l.Held, "target": l.Target}))
}

// order has a node drain for an operator, who is at from, or takes that back.
func (i *Inspector) order(ctx context.Context, address string, undo, force bool, from string) (consensusmanager.Mark, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	give, word := consensusmanager.Drain, "drain"
	if undo {
		give, word = consensusmanager.Undrain, "take shards again"
	}
	mark, err := give(ctx, i.cfg.KV, i.cfg.Prefix, address, force)
	if err != nil {
		i.audit(event.Warn, address, fmt.Sprintf("the order that %s %s was not carried out", address, word), from, err)
	}
	return mark, err
}

// audit tells of the action of an operator who is at from, and of an order that was not
// given: viewers, and who listens. Those that were given the cluster itself remembers.
func (i *Inspector) audit(s event.Severity, node, text, from string, err error) {
	c := Change{Kind: OfAction, Node: node, Text: text, Reason: "from " + from}
	if err != nil {
		c.Reason += ": " + err.Error()
	}
	i.feed.Tell(c)
	if heard := i.cfg.Listener.Notice; heard != nil {
		heard(event.Notice{Severity: s, From: "inspector", Text: text + ", from " + from, Err: err})
	}
}

func statusOf(err error) int {
	switch {
	case errors.Is(err, consensusmanager.ErrNoNode), errors.Is(err, consensusmanager.ErrNoCluster):
		return http.StatusNotFound
	case errors.Is(err, consensusmanager.ErrLastReady), errors.Is(err, consensusmanager.ErrStopping):
		return http.StatusConflict
	case errors.Is(err, consensusmanager.ErrUnknownOutcome):
		return http.StatusBadGateway
	}
	return http.StatusServiceUnavailable
}

func wordsOf(err error, address string) string {
	switch {
	case errors.Is(err, consensusmanager.ErrLastReady):
		return address + " is the last ready node: what it holds would have nowhere to go. Start another, or force it"
	case errors.Is(err, consensusmanager.ErrStopping):
		return "the process of " + address + " is stopping by itself; force it to be ready all the same"
	case errors.Is(err, consensusmanager.ErrUnknownOutcome):
		return "etcd did not answer in time: the order may be carried out later. Giving it again does no harm"
	}
	return err.Error()
}
