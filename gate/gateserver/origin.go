package gateserver

import (
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"

	"github.com/xiaonanln/goverse/internal/origin"
)

// guard keeps web pages of others from driving a gate that their reader's browser
// can reach. Whoever is no browser sends no origin and passes.
type guard struct {
	protection *http.CrossOriginProtection
	origins    map[string]bool // configured ones, exactly as a browser names them
	hosts      map[string]bool // names by which a loopback gate is known
}

func newGuard(origins []string, names ...string) *guard {
	g := &guard{protection: http.NewCrossOriginProtection(), origins: map[string]bool{}, hosts: map[string]bool{}}
	for _, one := range origins {
		// Validate has reported a bad one.
		if g.protection.AddTrustedOrigin(one) == nil {
			g.origins[one] = true
			if u, err := url.Parse(one); err == nil {
				names = append(names, u.Hostname())
			}
		}
	}
	if own, err := os.Hostname(); err == nil {
		names = append(names, own)
	}
	for _, name := range names {
		g.hosts[strings.ToLower(name)] = true
	}
	return g
}

// check refuses a request that another origin's page made.
func (g *guard) check(r *http.Request) error {
	if !g.hostIsOurs(r) {
		return forbidden("the name %q in the Host header is not one of this gate's; a page may have been led here by a false DNS answer: use localhost, or allow the origin with AllowedOrigins", r.Host)
	}
	if err := origin.Check(g.protection, r); err != nil {
		return forbidden("a page of another origin (%q) may not use this gate; allow it with AllowedOrigins: %v", r.Header.Get("Origin"), err)
	}
	return nil
}

// hostIsOurs says whether the request names this gate, as far as that counts.
func (g *guard) hostIsOurs(r *http.Request) bool {
	if !origin.ByLoopback(r) || r.Host == "" {
		return true
	}
	host := origin.Host(r)
	return net.ParseIP(host) != nil || host == "localhost" || strings.HasSuffix(host, ".localhost") || g.hosts[host]
}

// allow tells a browser that a configured origin's page may read the answer. It
// reports whether the request was only the browser's question, and is answered.
func (g *guard) allow(w http.ResponseWriter, r *http.Request) (answered bool) {
	h := w.Header()
	h.Add("Vary", "Origin")
	page := r.Header.Get("Origin")
	if !g.origins[page] {
		return false
	}
	h.Set("Access-Control-Allow-Origin", page)
	h.Set("Access-Control-Expose-Headers", strings.Join([]string{"Retry-After", statusHeader, replayedHeader, durableHeader, "Grpc-Status", "Grpc-Message", "Grpc-Status-Details-Bin"}, ", "))
	if r.Method != http.MethodOptions || r.Header.Get("Access-Control-Request-Method") == "" {
		return false
	}
	h.Set("Access-Control-Allow-Methods", "GET, POST, PUT, DELETE")
	h.Set("Access-Control-Allow-Headers", "Authorization, Content-Type, Last-Event-ID, "+strings.Join([]string{authHeader, clientIDHeader, timeoutHeader, callIDHeader, keyHeader, "Connect-Protocol-Version", "Connect-Timeout-Ms", "Grpc-Timeout", "X-Grpc-Web", "X-User-Agent"}, ", "))
	h.Set("Access-Control-Max-Age", "600")
	w.WriteHeader(http.StatusNoContent)
	return true
}
