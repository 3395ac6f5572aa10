package inspector

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/xiaonanln/goverse/cluster/census"
	"github.com/xiaonanln/goverse/internal/event"
	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/internal/peer"
	"github.com/xiaonanln/goverse/object"
)

// lookPatience is how long a node may take to say what it knows of an object, and
// endPatience how long to end it.
const (
	lookPatience = 3 * time.Second
	endPatience  = 15 * time.Second
)

// defaultPage is how many objects a page has unless its reader says otherwise.
const defaultPage = 100

// ObjectRow is a live object on a page of them.
type ObjectRow struct {
	Type     string `json:"type"`
	ID       string `json:"id"`
	Node     string `json:"node"`
	Shard    int    `json:"shard"`
	LastUsed int64  `json:"lastUsed"` // unix milliseconds, of the node's clock
	Queued   int    `json:"queued"`
}

// ObjectPage is a page of live objects, in the order of their types and ids.
type ObjectPage struct {
	Objects []ObjectRow     `json:"objects"`
	Next    string          `json:"next,omitempty"` // for after; "": that was all
	Silent  []census.Silent `json:"silent,omitempty"`
}

// objects answers with a page of what lives on the nodes now.
func (i *Inspector) objects(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	after, err := parseAfter(q.Get("after"))
	limit := defaultPage
	if text := q.Get("limit"); err == nil && text != "" {
		limit, err = strconv.Atoi(text)
	}
	if err != nil || limit < 1 || limit > peer.MaxLive {
		fail(w, http.StatusBadRequest, "after is what the page before gave as next, and limit 1 to %d", peer.MaxLive)
		return
	}
	page, err := i.pageOf(r.Context(), q.Get("node"), peer.LiveQuery{Type: q.Get("type"), Prefix: q.Get("prefix"), After: after, Limit: limit})
	if err != nil {
		fail(w, httpStatus(err), "%v", err)
		return
	}
	write(w, http.StatusOK, encode(page))
}

// pageOf asks one node, or with "" all of them.
func (i *Inspector) pageOf(ctx context.Context, node string, q peer.LiveQuery) (*ObjectPage, error) {
	p := i.picture()
	if p == nil {
		return nil, errNothingSeen
	}
	nodes := p.Addresses()
	if node != "" {
		if !p.Members().Has(node) {
			return nil, fault.New(fault.NotFound, "%s is no live node", node)
		}
		nodes = []string{node}
	}
	list, silent, err := i.peers.Objects(ctx, nodes, q)
	if err != nil {
		return nil, fault.New(fault.Invalid, "%w", err)
	}
	page := &ObjectPage{Objects: make([]ObjectRow, len(list)), Silent: silent}
	for n, o := range list {
		page.Objects[n] = ObjectRow{Type: o.Ref.Type, ID: o.Ref.ID, Node: o.Node, Shard: o.Shard, LastUsed: o.LastUsed.UnixMilli(), Queued: o.Queued}
	}
	if len(list) == q.Limit {
		page.Next = formatAfter(list[len(list)-1].Ref)
	}
	return page, nil
}

var errNothingSeen = fault.New(fault.NotReady, "nothing was seen of the cluster yet")

// An object's place in the list, as viewers pass it back: no type or id has a NUL.
func formatAfter(ref object.Ref) string {
	return base64.RawURLEncoding.EncodeToString([]byte(ref.Type + "\x00" + ref.ID))
}

func parseAfter(s string) (object.Ref, error) {
	if s == "" {
		return object.Ref{}, nil
	}
	b, err := base64.RawURLEncoding.DecodeString(s)
	typ, id, ok := strings.Cut(string(b), "\x00")
	if err != nil || !ok {
		return object.Ref{}, errors.New("no place in the list")
	}
	return object.Ref{Type: typ, ID: id}, nil
}

// objectSight is all that is known of one object.
type objectSight struct {
	Type       string          `json:"type"`
	ID         string          `json:"id"`
	Node       string          `json:"node"`
	Live       bool            `json:"live"`
	Phase      string          `json:"phase,omitempty"`
	Shard      int             `json:"shard"` // -1: the id is pinned to the node
	Epoch      uint64          `json:"epoch"`
	Version    uint64          `json:"version"`
	Unsaved    bool            `json:"unsaved"`
	Mode       string          `json:"mode"`
	Durability string          `json:"durability"`
	Created    int64           `json:"created,omitempty"` // unix milliseconds, here and below; 0: not known
	LastUsed   int64           `json:"lastUsed,omitempty"`
	Running    []objectCall    `json:"running"`
	Queue      []objectCall    `json:"queue"` // the first of them
	Queued     int             `json:"queued"`
	Recent     []objectCall    `json:"recent"` // the newest first
	State      json.RawMessage `json:"state,omitempty"`
	Hidden     []string        `json:"hidden,omitempty"` // fields that are not to be shown
	NoState    string          `json:"noState,omitempty"`
}

type objectCall struct {
	Method  string `json:"method"`
	Caller  string `json:"caller"`
	At      int64  `json:"at,omitempty"`
	Took    int64  `json:"took,omitempty"` // microseconds
	Outcome string `json:"outcome,omitempty"`
}

// object answers with what the object's node knows of it.
func (i *Inspector) object(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	state := q.Get("state") == "true"
	ref := object.Ref{Type: q.Get("type"), ID: q.Get("id")}
	s, err := i.sight(r.Context(), ref, state)
	if err != nil {
		fail(w, httpStatus(err), "%v", err)
		return
	}
	if state {
		i.heardOf(event.OperatorReads, ref, r.RemoteAddr)
	}
	write(w, http.StatusOK, encode(s))
}

// sight asks the object's node.
func (i *Inspector) sight(ctx context.Context, ref object.Ref, state bool) (*objectSight, error) {
	ctx, cancel := context.WithTimeout(ctx, lookPatience)
	defer cancel()
	node, conn, err := i.holder(ref)
	if err != nil {
		return nil, err
	}
	s, err := conn.Look(ctx, ref, state)
	if err != nil {
		return nil, err
	}
	o := &objectSight{
		Type: ref.Type, ID: ref.ID, Node: node, Live: s.Live, Phase: s.Phase, Shard: s.Shard, Epoch: s.Epoch, Version: s.Version, Unsaved: s.Unsaved,
		Mode: s.Mode, Durability: s.Durability, Created: millis(s.Created), LastUsed: millis(s.LastUsed),
		Running: callsOf(s.Running), Queue: callsOf(s.Queue), Queued: s.Queued, Recent: callsOf(s.Recent), Hidden: s.Hidden, NoState: s.NoState,
	}
	if s.Pinned {
		o.Shard = -1
	}
	if json.Valid(s.State) {
		o.State = s.State
	}
	return o, nil
}

// holder is the node that an object is, or would be, on.
func (i *Inspector) holder(ref object.Ref) (address string, conn peer.Census, err error) {
	if err := validRef(ref); err != nil {
		return "", nil, err
	}
	p := i.picture()
	if p == nil {
		return "", nil, errNothingSeen
	}
	address, err = census.Holder(p.View, ref)
	if err != nil {
		return "", nil, fault.New(fault.NotReady, "%w", err)
	}
	conn, err = i.peers.To(address)
	return address, conn, err
}

func validRef(ref object.Ref) error {
	if err := errors.Join(object.ValidName(ref.Type), object.ValidID(ref.ID)); err != nil {
		return fault.New(fault.Invalid, "%w", err)
	}
	return nil
}

func callsOf(list []peer.LookedCall) []objectCall {
	calls := make([]objectCall, len(list))
	for n, c := range list {
		calls[n] = objectCall{Method: c.Method, Caller: c.Caller, At: millis(c.At), Took: c.Took.Microseconds(), Outcome: c.Outcome}
	}
	return calls
}

func millis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

// deactivate carries out an operator's order and puts it on the timeline.
func (i *Inspector) deactivate(w http.ResponseWriter, r *http.Request) {
	var order struct {
		Type  string `json:"type"`
		ID    string `json:"id"`
		Force bool   `json:"force"`
	}
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, 8<<10))
	d.DisallowUnknownFields()
	if err := d.Decode(&order); err != nil {
		fail(w, http.StatusBadRequest, "the body is not {\"type\": string, \"id\": string, \"force\": bool}: %v", err)
		return
	}
	was, err := i.end(r.Context(), object.Ref{Type: order.Type, ID: order.ID}, order.Force, r.RemoteAddr)
	if err != nil {
		fail(w, httpStatus(err), "%v", err)
		return
	}
	write(w, http.StatusOK, encode(map[string]bool{"wasLive": was}))
}

// end ends an object's activation for an operator, who is at from.
func (i *Inspector) end(ctx context.Context, ref object.Ref, force bool, from string) (wasLive bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, endPatience)
	defer cancel()
	node, conn, err := i.holder(ref)
	if err == nil {
		wasLive, err = conn.Deactivate(ctx, ref, force)
	}
	switch {
	case err != nil:
		i.audit(event.Warn, node, fmt.Sprintf("the order to deactivate %s was not carried out", ref), from, err)
	case wasLive:
		i.audit(event.Info, node, fmt.Sprintf("an operator deactivated %s", ref), from, nil)
	}
	return wasLive, err
}

// heardOf tells of what shows more than a call does.
func (i *Inspector) heardOf(what event.Sensitive, ref object.Ref, from string) {
	if heard := i.cfg.Listener.SensitiveOperation; heard != nil {
		heard(event.SensitiveOperation{Where: event.AtOperations, What: what, From: from, Type: ref.Type, ID: ref.ID})
	}
}

// httpStatus is what a node's answer is called in HTTP.
func httpStatus(err error) int { return fault.KindOf(err).Row().HTTP }
