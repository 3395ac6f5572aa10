package gateserver

import (
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
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
	for _, origin := range origins {
		// Validate has reported a bad one.
		if g.protection.AddTrustedOrigin(origin) == nil {
			g.origins[origin] = true
			if u, err := url.Parse(origin); err == nil {
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

// check refuses a request that another origin's page made. Unlike CrossOriginProtection
// alone it holds GET to be as unsafe as the rest: here it may open a session.
func (g *guard) check(r *http.Request) error {
	if !g.hostIsOurs(r) {
		return forbidden("the name %q in the Host header is not one of this gate's; a page may have been led here by a false DNS answer: use localhost, or allow the origin with AllowedOrigins", r.Host)
	}
	unsafe := &http.Request{Method: http.MethodPost, URL: r.URL, Host: r.Host, Header: r.Header}
	if err := g.protection.Check(unsafe); err != nil {
		return forbidden("a page of another origin (%q) may not use this gate; allow it with AllowedOrigins: %v", r.Header.Get("Origin"), err)
	}
	return nil
}

// hostIsOurs defends a gate on loopback against DNS rebinding, where a page's own
// name is made to resolve to this machine and so looks like the same origin.
func (g *guard) hostIsOurs(r *http.Request) bool {
	local, ok := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
	if !ok || !local.IP.IsLoopback() || r.Host == "" {
		return true
	}
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.ToLower(strings.TrimSuffix(strings.Trim(host, "[]"), "."))
	return net.ParseIP(host) != nil || host == "localhost" || strings.HasSuffix(host, ".localhost") || g.hosts[host]
}

// allow tells a browser that a configured origin's page may read the answer. It
// reports whether the request was only the browser's question, and is answered.
func (g *guard) allow(w http.ResponseWriter, r *http.Request) (answered bool) {
	h := w.Header()
	h.Add("Vary", "Origin")
	origin := r.Header.Get("Origin")
	if !g.origins[origin] {
		return false
	}
	h.Set("Access-Control-Allow-Origin", origin)
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
