// Package origin is what every HTTP door asks of a request, so that no web page of others
// drives it through the browser of a reader who can reach it.
package origin

import (
	"net"
	"net/http"
	"strings"
)

// Check refuses a request that another origin's page made. Unlike p alone it holds GET to be
// as unsafe as the rest: here it may open a stream, or tell much.
func Check(p *http.CrossOriginProtection, r *http.Request) error {
	return p.Check(&http.Request{Method: http.MethodPost, URL: r.URL, Host: r.Host, Header: r.Header})
}

// Host is the name by which the request calls this server: without port, brackets and a last
// dot, in lower case.
func Host(r *http.Request) string {
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	return strings.ToLower(strings.TrimSuffix(strings.Trim(host, "[]"), "."))
}

// ByLoopback says whether the request came to a loopback address. There the name in it
// counts: a page's own name may have been made to resolve to this machine (DNS rebinding),
// and so look like the same origin.
func ByLoopback(r *http.Request) bool {
	local, ok := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
	return ok && local.IP.IsLoopback()
}
