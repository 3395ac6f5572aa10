package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"net"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/xiaonanln/goverse/cluster/diagnosis"
	"github.com/xiaonanln/goverse/internal/secure"
)

// endsSoon is when a person should issue the next certificate.
const endsSoon = 14 * 24 * time.Hour

// certificateFlags is by what the certificates of gates are judged, where gates show
// clients other ones than nodes are shown.
func (p *program) certificateFlags(c *cobra.Command) {
	goFlags(c.Flags(), func(fs *flag.FlagSet) {
		p.flags.gateTLS.Flags(fs, "gate-tls", "that gates are shown, if they want one", "the gates' certificates are from (default: that of --node-tls-ca)")
	})
}

// etcdCertificates judges what etcd shows. Where something is wrong with that, etcd is not
// reached, and nothing else is known.
func (p *program) etcdCertificates(ctx context.Context, x *examination) {
	if list, _, err := p.flags.endpoints(); err == nil {
		p.certificates(ctx, x, "etcd", "etcd", p.flags.etcdTLS, list)
	}
}

// memberCertificates judges what nodes and gates show.
func (p *program) memberCertificates(ctx context.Context, x *examination, v *picture) {
	p.certificates(ctx, x, "the node", "node", p.flags.nodeTLS, v.Addresses())
	link, gates := "gate", p.flags.gateTLS
	if !gates.Given() {
		link, gates = "node", p.flags.nodeTLS
	}
	p.certificates(ctx, x, "the gate", link, gates, v.Gates())
}

// certificates judges what ports show that are to encrypt by the files of --LINK-tls-….
// Without any nothing is known of them: a port in plain text would take the question for
// an attack.
func (p *program) certificates(ctx context.Context, x *examination, whose, link string, files secure.TLSConfig, addresses []string) {
	if !files.Given() || len(addresses) == 0 {
		return
	}
	keys, err := p.keys(link, files)
	if err != nil {
		x.wrong("tls", "mend the file that it names", "%v", err)
		return
	}
	before, good, until := len(x.Findings), 0, time.Time{}
	for _, address := range addresses {
		ctx, cancel := context.WithTimeout(ctx, min(p.flags.timeout, 3*time.Second))
		shown, err := keys.Look(ctx, address)
		cancel()
		switch {
		case errors.As(err, new(secure.Unshaken)):
			x.wrong("tls", "see docs/tls.md: all of a cluster encrypt, or none", "%s %s shows no certificate: %v", whose, address, err)
			continue
		case err != nil:
			continue // that it is not reached is said elsewhere
		}
		x.certificate(certificate{whose + " " + address, link, cmp.Or(files.CAFile, "that this system trusts"), hostOf(address), shown}, time.Now())
		if good++; until.IsZero() || shown.NotAfter.Before(until) {
			until = shown.NotAfter
		}
	}
	if len(x.Findings) == before && good > 0 {
		x.well("tls", "%s of %s: from the authority, for the right host, and good until %s at least", diagnosis.Some(good, "certificate"), whose, until.UTC().Format(time.DateOnly))
	}
}

// certificate is one that a port shows.
type certificate struct {
	whose, link, authority, host string
	*secure.Shown
}

// certificate judges one.
func (x *examination) certificate(c certificate, now time.Time) {
	anew := "issue a new one in its place (goverse cert issue --host " + c.host + "); no restart is needed"
	left := c.NotAfter.Sub(now)
	switch ends := c.NotAfter.UTC().Format(time.DateTime) + " UTC"; {
	case left < 0:
		x.wrong("tls", anew, "the certificate of %s, or its authority, has expired, on %s", c.whose, ends)
	case now.Before(c.NotBefore):
		x.wrong("tls", "look at the clocks of this machine and of the one that has issued it", "the certificate of %s is good from %s UTC only", c.whose, c.NotBefore.UTC().Format(time.DateTime))
	case left < endsSoon:
		x.note("tls", anew, "the certificate of %s, or its authority, ends in %s, on %s", c.whose, diagnosis.Some(int(left/(24*time.Hour)), "day"), ends)
	}
	if c.Misnamed != nil {
		x.wrong("tls", "goverse cert issue --host "+c.host+" there, or reach it by a name that it has", "the certificate of %s is for another host: %v", c.whose, c.Misnamed)
	}
	if c.Unsigned != nil {
		x.wrong("tls", "give it one of that authority (goverse cert issue), or name its own with --"+c.link+"-tls-ca", "the certificate of %s is not from the authority %s: %v", c.whose, c.authority, c.Unsigned)
	}
}

// hostOf is an address without its port.
func hostOf(address string) string {
	_, rest, found := strings.Cut(address, "://")
	if !found {
		rest = address
	}
	host, _, err := net.SplitHostPort(rest)
	if err != nil {
		return rest
	}
	return host
}
