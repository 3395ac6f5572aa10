package secure

import (
	"context"
	"crypto/tls"
	"net"
	"strings"
	"time"
)

// glance bounds how long Encrypts waits for a port.
const glance = time.Second

// Encrypts says whether the port at address speaks TLS. It is for the words of an error:
// to one who speaks in plain text such a port says nothing before it hangs up. It believes
// no certificate and sends nothing.
func Encrypts(ctx context.Context, address string) bool {
	ctx, cancel := context.WithTimeout(ctx, glance)
	defer cancel()
	raw, err := new(net.Dialer).DialContext(ctx, "tcp", withoutScheme(address))
	if err != nil {
		return false
	}
	defer raw.Close()
	err = tls.Client(raw, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2", "http/1.1"}}).HandshakeContext(ctx)
	return err == nil || Alert(err)
}

func withoutScheme(address string) string {
	return strings.TrimPrefix(strings.TrimPrefix(address, "http://"), "https://")
}
