package gateserver

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"strings"
	"time"

	"github.com/xiaonanln/goverse/client/js"
	"github.com/xiaonanln/goverse/object"
)

// clientRoot begins the paths of the JavaScript client: client.js, client/socket.js, ...
const clientRoot = "/api/v1/client"

// clientJS answers with a module of the JavaScript client, so that a page needs one line
// to have the client that fits its gate.
func clientJS(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		writeFailure(w, notAllowed("GET"), object.OpCall)
		return
	}
	module, err := js.Files.ReadFile(strings.TrimPrefix(r.URL.Path, apiRoot+"v1/"))
	if err != nil {
		writeFailure(w, badPath("there is no module at %s; the JavaScript client is %s.js", r.URL.Path, clientRoot), object.OpCall)
		return
	}
	sum := sha256.Sum256(module)
	h := w.Header()
	h.Set("Content-Type", "text/javascript; charset=utf-8")
	h.Set("Cache-Control", "no-cache") // kept, and asked for: another gate may be another version
	h.Set("ETag", `"`+hex.EncodeToString(sum[:16])+`"`)
	h.Set("X-Content-Type-Options", "nosniff")
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(module))
}
