package gateserver

import (
	"embed"
	"net/http"
	"strings"

	"github.com/xiaonanln/goverse/object"
)

//go:embed try
var tryFiles embed.FS

// tryTypes is the files of the page to try calls, and what they are.
var tryTypes = map[string]string{
	tryPath:              "try/try.html",
	tryPath + "/try.css": "try/try.css",
	tryPath + "/try.js":  "try/try.js",
}

// tryPolicy lets the page load what comes with it, and talk to this gate only. Nobody can
// frame it, and what a call answers cannot become part of it.
const tryPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// isTry: the page or one of its files is asked for.
func isTry(path string) bool { return path == tryPath || strings.HasPrefix(path, tryPath+"/") }

// try serves the page to try calls.
func (d *httpDoor) try(w http.ResponseWriter, r *http.Request) {
	file, ok := tryTypes[r.URL.Path]
	switch {
	case !ok:
		writeFailure(w, badPath("nothing is at %s; the page to try calls is at %s", r.URL.Path, tryPath), object.OpCall)
		return
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		writeFailure(w, notAllowed("GET, HEAD"), object.OpCall)
		return
	}
	h := w.Header()
	h.Set("Content-Security-Policy", tryPolicy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cache-Control", "no-cache")
	http.ServeFileFS(w, r, tryFiles, file)
}
