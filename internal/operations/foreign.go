package operations

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"

	"github.com/xiaonanln/goverse/internal/origin"
)

var errOtherOrigin = errors.New("a page of another origin may not use the operations port")

// NewForeign says of requests whether a web page of others makes them: by its origin, or, on
// loopback, because a false DNS answer may have led it here. names are what this process is
// called, beside localhost, the machine's name, and any address.
func NewForeign(names ...string) func(*http.Request) error {
	if own, err := os.Hostname(); err == nil {
		names = append(names, own)
	}
	protection := http.NewCrossOriginProtection()
	return func(r *http.Request) error {
		if r.Host != "" && origin.ByLoopback(r) && !isOurs(origin.Host(r), names) {
			return fmt.Errorf("the name %q in the Host header is not one of this process's; a page may have been led here by a false DNS answer: use localhost", r.Host)
		}
		if origin.Check(protection, r) != nil {
			return errOtherOrigin
		}
		return nil
	}
}

func isOurs(host string, names []string) bool {
	if net.ParseIP(host) != nil || host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	for _, name := range names {
		if strings.EqualFold(host, name) {
			return true
		}
	}
	return false
}
