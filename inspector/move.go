package inspector

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/xiaonanln/goverse/cluster/consensusmanager"
	"github.com/xiaonanln/goverse/cluster/etcdmanager"
	"github.com/xiaonanln/goverse/cluster/sharding"
	"github.com/xiaonanln/goverse/internal/event"
)

// move carries out an operator's order about shards.
func (i *Inspector) move(w http.ResponseWriter, r *http.Request) {
	var order moveOrder
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<10))
	d.DisallowUnknownFields()
	shards, wrong := parseShards(r.PathValue("n"))
	if err := errors.Join(d.Decode(&order), wrong); err != nil || (order.Node == "") != order.Unpin || order.Pin && order.Unpin {
		fail(w, http.StatusBadRequest, "the path names a shard's number, or up to %d as in 3-9,131, and the body is {\"node\": host:port, \"pin\": bool, \"seconds\": number} or {\"unpin\": true}", consensusmanager.MaxOrdered)
		return
	}
	if err := order.check(); err != nil {
		fail(w, http.StatusBadRequest, "%v", err)
		return
	}
	mark, err := i.place(r.Context(), order, shards, r.PathValue("n"), r.RemoteAddr)
	if err != nil {
		fail(w, orderStatus(err), "%s", wordsOf(err, order.Node))
		return
	}
	holder, _ := mark.Before.Holder(shards[0])
	write(w, http.StatusOK, encode(map[string]any{"shard": shards[0], "shards": len(shards), "node": order.Node, "changed": mark.Changed, "holder": holder}))
}

// place gives an order about shards, which list names, for an operator, who is at from.
func (i *Inspector) place(ctx context.Context, order moveOrder, shards []sharding.ID, list, from string) (consensusmanager.Mark, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	mark, err := order.give(ctx, i.cfg.KV, i.cfg.Prefix, shards)
	if err != nil {
		i.audit(event.Warn, order.Node, "the order to "+order.words(list, len(shards))+" was not given", from, err)
	}
	return mark, err
}

// moveOrder is what an operator wants of shards.
type moveOrder struct {
	Node    string `json:"node"`
	Pin     bool   `json:"pin"`
	Unpin   bool   `json:"unpin"`
	Seconds int    `json:"seconds"` // of a move: how long it stays; 0: an hour
}

// check says what is wrong with how long the shards are to stay.
func (o *moveOrder) check() error {
	if stay := o.stay(); stay < consensusmanager.MinStay || stay > consensusmanager.MaxStay {
		return fmt.Errorf("a moved shard stays for %v to %v", consensusmanager.MinStay, consensusmanager.MaxStay)
	}
	return nil
}

func (o *moveOrder) stay() time.Duration {
	if o.Seconds == 0 {
		return consensusmanager.DefaultStay
	}
	return time.Duration(o.Seconds) * time.Second
}

func (o *moveOrder) give(ctx context.Context, kv etcdmanager.KV, prefix string, shards []sharding.ID) (consensusmanager.Mark, error) {
	switch {
	case o.Unpin:
		return consensusmanager.UnpinAll(ctx, kv, prefix, shards)
	case o.Pin:
		return consensusmanager.PinAll(ctx, kv, prefix, shards, o.Node)
	}
	return consensusmanager.MoveAll(ctx, kv, prefix, shards, o.Node, o.stay())
}

const namedShards = 60 // characters of a list of shards that are told

// words is the order in words; list is its shards as they were named.
func (o *moveOrder) words(list string, many int) string {
	what := "shard " + list
	if len(list) > namedShards {
		list = list[:namedShards] + "…"
	}
	if many != 1 {
		what = fmt.Sprintf("%d shards (%s)", many, list)
	}
	switch {
	case o.Unpin:
		return "take back what was ordered of " + what
	case o.Pin:
		return "pin " + what + " to " + o.Node
	}
	return "move " + what + " to " + o.Node
}

// parseShards reads numbers of shards as they stand in an address: 17, or 3-9,131.
func parseShards(text string) ([]sharding.ID, error) {
	var list []sharding.ID
	for part := range strings.SplitSeq(text, ",") {
		first, last, several := strings.Cut(part, "-")
		if !several {
			last = first
		}
		from, err := strconv.ParseUint(first, 10, 16)
		to, wrong := strconv.ParseUint(last, 10, 16)
		if err := errors.Join(err, wrong); err != nil {
			return nil, err
		}
		if from > to || to-from >= uint64(consensusmanager.MaxOrdered-len(list)) {
			return nil, fmt.Errorf("%s: %w", part, consensusmanager.ErrTooMany)
		}
		for n := sharding.ID(from); n <= sharding.ID(to); n++ {
			if slices.Contains(list, n) {
				return nil, fmt.Errorf("%d is named twice", n)
			}
			list = append(list, n)
		}
	}
	return list, nil
}

func orderStatus(err error) int {
	switch {
	case errors.Is(err, consensusmanager.ErrNoShard):
		return http.StatusNotFound
	case errors.Is(err, consensusmanager.ErrDraining), errors.Is(err, consensusmanager.ErrTooMany):
		return http.StatusConflict
	}
	return statusOf(err)
}
