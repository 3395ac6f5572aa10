package inspector

import (
	"embed"
	"fmt"
	"io/fs"
	"net/http"
)

//go:embed web
var web embed.FS

// handler is all that the port serves:
//
//	GET  /                                   the page
//	GET  /api/v1/feed?after=life.number      WebSocket: a snapshot or what followed, then deltas
//	GET  /api/v1/feed/events                 the same as Server-Sent Events
//	GET  /api/v1/snapshot                    the snapshot
//	GET  /api/v1/shards?at=1764000000000     the map of shards as it was at a moment, in unix milliseconds
//	GET  /api/v1/explain/shard/{n}, …/object/{type}/{id}, …/node/{address}
//	POST /api/v1/nodes/{address}/drain       {"undo": bool, "force": bool}
//	POST /api/v1/shards/{n}/move             {"node": "", "pin": bool, "seconds": n} or {"unpin": true}; n is a number, or up to 100 as in 3-9,131
//	GET  /api/objects?type=&node=&prefix=&after=&limit=    a page of the live objects
//	GET  /api/object?type=&id=&state=true                  one of them
//	POST /api/object/deactivate              {"type": "", "id": "", "force": bool}
//	GET  /healthz
//	GET  /metrics                            if Config.Metrics is set
//
// gRPC is served there, too, with and without TLS: inspector/proto/inspector.proto.
func (i *Inspector) handler() http.Handler {
	pages, err := fs.Sub(web, "web")
	if err != nil {
		panic(err) // the folder is in the program
	}
	mux := http.NewServeMux()
	mux.Handle("GET /", http.FileServerFS(pages))
	mux.HandleFunc("GET /api/v1/feed", i.socket)
	mux.HandleFunc("GET /api/v1/feed/events", i.events)
	mux.HandleFunc("GET /api/v1/snapshot", func(w http.ResponseWriter, _ *http.Request) { write(w, http.StatusOK, i.feed.Snapshot()) })
	mux.HandleFunc("GET /api/v1/shards", i.shardsAt)
	mux.HandleFunc("GET /api/v1/explain/shard/{n}", i.explain(explainShard))
	mux.HandleFunc("GET /api/v1/explain/object/{type}/{id...}", i.explain(explainObject))
	mux.HandleFunc("GET /api/v1/explain/node/{address}", i.explain(explainNode))
	mux.HandleFunc("POST /api/v1/nodes/{address}/drain", i.drain)
	mux.HandleFunc("POST /api/v1/shards/{n}/move", i.move)
	mux.HandleFunc("GET /api/objects", i.objects)
	mux.HandleFunc("GET /api/object", i.object)
	mux.HandleFunc("POST /api/object/deactivate", i.deactivate)
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { write(w, http.StatusOK, []byte(`{"alive":true}`)) })
	if i.cfg.Metrics != nil {
		mux.Handle("GET /metrics", i.cfg.Metrics)
	}
	calls := newService(i)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if isCall(r) {
			if status, why := i.admit(w, r); why != "" {
				fail(w, status, "%s", why)
				return
			}
			calls.ServeHTTP(w, withControl(signed(r), w))
			return
		}
		h := w.Header()
		h.Set("Content-Security-Policy", "default-src 'self'; style-src 'self'; img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cache-Control", "no-store")
		if status, why := i.admit(w, r); why != "" {
			i.deny(r, status, why)
			fail(w, status, "%s", why)
			return
		}
		mux.ServeHTTP(w, signed(r))
	})
}

func write(w http.ResponseWriter, status int, body []byte) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(body) // the reader may have left
}

func fail(w http.ResponseWriter, status int, format string, args ...any) {
	write(w, status, encode(map[string]string{"error": fmt.Sprintf(format, args...)}))
}
