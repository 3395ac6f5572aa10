package secure

import (
	"errors"
	"fmt"
	"net"
)

// Link is a port of this process, or a connection that it makes.
type Link struct {
	What      string // "the node's port"
	Address   string // host:port
	Encrypted bool
	Mend      string // what to do where it is not: "give --tls-cert, …"
}

// Exposed says of each link that is in plain text beyond this machine what to do.
func Exposed(links ...Link) (list []string) {
	for _, l := range links {
		if !l.Encrypted && l.Address != "" && !loopback(l.Address) {
			list = append(list, fmt.Sprintf("%s (%s) is in plain text beyond this machine: %s", l.What, l.Address, l.Mend))
		}
	}
	return list
}

// Refused is the error of a process that is to have nothing in plain text.
func Refused(exposed []string) error {
	var errs []error
	for _, e := range exposed {
		errs = append(errs, fmt.Errorf("RequireTLS (--require-tls): %s", e))
	}
	return errors.Join(errs...)
}

func loopback(address string) bool {
	host := withoutScheme(address)
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
