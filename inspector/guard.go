package inspector

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"

	"github.com/xiaonanln/goverse/cluster/consensusmanager"
	"github.com/xiaonanln/goverse/internal/event"
	"github.com/xiaonanln/goverse/internal/origin"
)

// cookie keeps a token that was given once in the address.
const cookie = "goverse_inspector"

// admit says why a request is refused; "": it is not.
func (i *Inspector) admit(w http.ResponseWriter, r *http.Request) (status int, why string) {
	if why := foreign(r); why != "" {
		return http.StatusForbidden, why
	}
	if i.cfg.Token == "" {
		host, _, _ := net.SplitHostPort(r.RemoteAddr)
		if !net.ParseIP(host).IsLoopback() {
			return http.StatusForbidden, "this inspector is for callers on its own machine; start it with a token for others"
		}
		return 0, ""
	}
	bearer, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if given := r.URL.Query().Get("token"); given != "" && i.knows(given) {
		http.SetCookie(w, &http.Cookie{Name: cookie, Value: given, Path: "/", HttpOnly: true, SameSite: http.SameSiteStrictMode, Secure: r.TLS != nil})
		return 0, ""
	}
	if c, err := r.Cookie(cookie); err == nil && bearer == "" {
		bearer = c.Value
	}
	if !i.knows(bearer) {
		return http.StatusUnauthorized, "this inspector wants its token: open it once with ?token=…, or send it as a bearer"
	}
	return 0, ""
}

// signed is r for orders of whoever sends it: the cluster remembers who gave them.
func signed(r *http.Request) *http.Request {
	return r.WithContext(consensusmanager.WithOperator(r.Context(), operator(r)))
}

// operator is who sends a request, as far as this port knows: by the certificate that was
// demanded of him, if any, and where he is.
func operator(r *http.Request) string {
	name, host := "somebody", r.RemoteAddr
	if r.TLS != nil && len(r.TLS.VerifiedChains) > 0 {
		name = r.TLS.VerifiedChains[0][0].Subject.CommonName
	}
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	return name + "@" + host + ", through the inspector"
}

// deny tells of who was refused.
func (i *Inspector) deny(r *http.Request, status int, text string) {
	on := i.cfg.Listener.AccessDenied
	if on == nil {
		return
	}
	why := event.ByAddress
	switch {
	case status == http.StatusUnauthorized:
		why = event.ByHandler
	case foreign(r) != "":
		why = event.ByOrigin
	}
	on(event.AccessDenied{Where: event.AtInspector, Why: why, From: r.RemoteAddr, Err: errors.New(text)})
}

func (i *Inspector) knows(token string) bool {
	a, b := sha256.Sum256([]byte(token)), sha256.Sum256([]byte(i.cfg.Token))
	return subtle.ConstantTimeCompare(a[:], b[:]) == 1
}

var origins = http.NewCrossOriginProtection()

// foreign says why a request is that of another page, or was led here by a false DNS
// answer; "": it is not. Whoever is no browser passes.
func foreign(r *http.Request) string {
	if host := origin.Host(r); origin.ByLoopback(r) && !isLoopback(host) && !strings.HasSuffix(host, ".localhost") {
		return fmt.Sprintf("the name %q in the Host header is not this inspector's: use localhost", r.Host)
	}
	if origin.Check(origins, r) != nil && !navigates(r) {
		return "a page of another origin may not use the inspector"
	}
	return ""
}

// navigates says whether a person follows a link to the page.
func navigates(r *http.Request) bool {
	return r.Method == http.MethodGet && r.Header.Get("Sec-Fetch-Mode") == "navigate" && r.Header.Get("Sec-Fetch-Dest") == "document" && !strings.HasPrefix(r.URL.Path, "/api/")
}
