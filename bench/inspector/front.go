package main

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strconv"
	"time"

	"github.com/coder/websocket"

	"github.com/xiaonanln/goverse/cluster/sharding"
	"github.com/xiaonanln/goverse/inspector"
)

// front stands before the inspector: what the inspector would have to ask nodes for comes
// from the traffic, all else from behind.
type front struct {
	behind  string // the inspector's address
	cluster *cluster
	traffic *traffic
	every   time.Duration // rates are told
}

func (f *front) handler() http.Handler {
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(&url.URL{Scheme: "http", Host: f.behind})
		r.Out.Header.Del("Origin") // it is this front's
	}}
	mux := http.NewServeMux()
	mux.Handle("/", proxy)
	mux.HandleFunc("GET /api/v1/feed", f.feed)
	mux.HandleFunc("GET /api/objects", f.objects)
	mux.HandleFunc("GET /api/object", f.object)
	mux.HandleFunc("POST /simulated/{what}", f.simulate)
	return mux
}

// feed is the inspector's, and rates.
func (f *front) feed(w http.ResponseWriter, r *http.Request) {
	from, _, err := websocket.Dial(r.Context(), "ws://"+f.behind+r.URL.RequestURI(), nil)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer from.CloseNow()
	from.SetReadLimit(16 << 20)
	to, err := websocket.Accept(w, r, &websocket.AcceptOptions{CompressionMode: websocket.CompressionContextTakeover})
	if err != nil {
		return // Accept has answered
	}
	defer to.CloseNow()
	ctx, cancel := context.WithCancel(to.CloseRead(r.Context()))
	defer cancel()
	rated := make(chan struct{})
	go func() {
		defer close(rated)
		defer cancel()
		f.rate(ctx, to)
	}()
	defer func() { cancel(); <-rated }()
	for {
		kind, frame, err := from.Read(ctx)
		if err != nil {
			return
		}
		if bytes.HasPrefix(frame, []byte(`{"op":"rates"`)) {
			continue // nobody answers the inspector
		}
		if to.Write(ctx, kind, frame) != nil {
			return
		}
	}
}

// rate tells rates until it cannot.
func (f *front) rate(ctx context.Context, to *websocket.Conn) {
	ticks := time.NewTicker(f.every)
	defer ticks.Stop()
	for {
		frame, err := json.Marshal(struct {
			Op string `json:"op"`
			*inspector.Rates
		}{"rates", f.traffic.rates(time.Now())})
		if err != nil || to.Write(ctx, websocket.MessageText, frame) != nil {
			return
		}
		select {
		case <-ticks.C:
		case <-ctx.Done():
			return
		}
	}
}

func (f *front) objects(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	limit, err := strconv.Atoi(q.Get("limit"))
	if err != nil || limit < 1 || limit > 1000 {
		limit = 100
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(inspector.ObjectPage{Objects: f.traffic.list(q.Get("type"), q.Get("node"), q.Get("prefix"), limit)}) // the reader may have left
}

// object is an object that lives and is at rest.
func (f *front) object(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	none := []string{}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{ // the reader may have left
		"type": q.Get("type"), "id": q.Get("id"), "node": "a simulated one", "live": true, "phase": "live", "shard": sharding.Of(q.Get("id"), sharding.NumShards), "epoch": 1,
		"mode": "Sequential", "durability": "Volatile", "running": none, "queue": none, "queued": 0, "recent": none, "noState": "it is simulated",
	})
}

// simulate has something happen to the cluster.
func (f *front) simulate(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	var err error
	switch r.PathValue("what") {
	case "join":
		err = f.cluster.join(r.Context())
	case "kill":
		err = f.cluster.kill(r.Context(), q.Get("node"))
	case "drain":
		err = f.cluster.drain(r.Context(), q.Get("node"))
	case "move":
		count, _ := strconv.Atoi(q.Get("count"))
		err = f.cluster.move(r.Context(), max(1, count))
	default:
		http.NotFound(w, r)
		return
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusConflict)
	}
}
