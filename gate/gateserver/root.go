package gateserver

import (
	"fmt"
	"net"
	"net/url"
	"strings"
)

// httpRoot is where clients reach this gate over HTTP, without a slash at its end: as
// configured, or the host that is advertised with the port that is open. It is empty
// where there is no port, or only one for callers on this machine.
func (s *GateServer) httpRoot() string {
	if s.listen.http == nil || s.cfg.AdvertiseHTTP != "" {
		return strings.TrimRight(s.cfg.AdvertiseHTTP, "/")
	}
	at, number, _ := net.SplitHostPort(s.listen.http.Addr().String())
	host, _, _ := net.SplitHostPort(s.address)
	if onlyHere(at) && !onlyHere(host) {
		return ""
	}
	scheme := "http://"
	if s.keys.doors != nil {
		scheme = "https://"
	}
	return scheme + net.JoinHostPort(host, number)
}

func onlyHere(host string) bool { return host == "localhost" || net.ParseIP(host).IsLoopback() }

func (c *GateServerConfig) checkRoot() error {
	u, err := url.Parse(c.AdvertiseHTTP)
	if c.AdvertiseHTTP == "" || err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != "" && u.RawQuery == "" && u.Fragment == "" && u.User == nil {
		return nil
	}
	return fmt.Errorf("AdvertiseHTTP (--advertise-http) is %q; give the root of a URL, as https://gate1.example:48000", c.AdvertiseHTTP)
}
