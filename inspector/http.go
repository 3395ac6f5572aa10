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
//	GET  /api/v1/explain/shard/{n}, …/object/{type}/{id}, …/node/{address}
//	POST /api/v1/nodes/{address}/drain       {"undo": bool, "force": bool}
//	GET  /healthz
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
	mux.HandleFunc("GET /api/v1/explain/shard/{n}", i.explain(explainShard))
	mux.HandleFunc("GET /api/v1/explain/object/{type}/{id...}", i.explain(explainObject))
	mux.HandleFunc("GET /api/v1/explain/node/{address}", i.explain(explainNode))
	mux.HandleFunc("POST /api/v1/nodes/{address}/drain", i.drain)
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { write(w, http.StatusOK, []byte(`{"alive":true}`)) })
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", "default-src 'self'; style-src 'self'; img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cache-Control", "no-store")
		if status, why := i.admit(w, r); why != "" {
			fail(w, status, "%s", why)
			return
		}
		mux.ServeHTTP(w, r)
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
