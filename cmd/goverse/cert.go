package main

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/xiaonanln/goverse/internal/secure"
)

// How long the certificates are good for, and from how long ago, for clocks that differ.
const (
	authorityDays   = 3650
	certificateDays = 365
	clockSkew       = time.Hour
)

func (p *program) cert() *cobra.Command {
	c := &cobra.Command{
		Use:   "cert",
		Short: "Make certificates for development",
		Long: `cert makes an authority and its certificates, for development and for closed networks.
Whoever has the authority's key (ca.key) can make a member of the cluster: keep it off the
machines that run nodes and gates. See docs/tls.md.`,
		Args: takes(),
	}
	c.AddCommand(p.certCA(), p.certIssue())
	return c
}

func (p *program) certCA() *cobra.Command {
	var dir string
	var force bool
	c := &cobra.Command{
		Use:     "ca",
		Short:   "Make an authority",
		Example: "  goverse cert ca --dir ./certs",
		Args:    takes(),
		RunE: does(func(*cobra.Command, []string) error {
			now := time.Now()
			_, files, err := secure.NewAuthority("Goverse development authority", now.Add(-clockSkew), now.AddDate(0, 0, authorityDays))
			if err != nil {
				return err
			}
			return p.writeCert(dir, "ca", files, force, "--tls-ca "+filepath.Join(dir, "ca.pem"))
		}),
	}
	certFlags(c, &dir, &force)
	return c
}

func (p *program) certIssue() *cobra.Command {
	var dir, name string
	var hosts []string
	var force bool
	var h secure.Holder
	c := &cobra.Command{
		Use:   "issue",
		Short: "Make a certificate of the authority in --dir",
		Long: `issue makes a certificate of the authority in --dir, and its key.

With --host it is a node's or a gate's: name the host that it advertises, and each by which
clients reach it. With --client alone it is a client's, and no member's.`,
		Example: `  goverse cert issue --dir ./certs --host node1,10.0.0.1
  goverse cert issue --dir ./certs --client alice`,
		Args: takes(),
		RunE: does(func(*cobra.Command, []string) error {
			if len(hosts) == 0 && h.Client == "" {
				return usagef("whose certificate is it? give --host for a node or a gate, or --client for a client")
			}
			ca := filepath.Join(dir, "ca.pem")
			authority, err := secure.OpenAuthority(ca, filepath.Join(dir, "ca.key"))
			if err != nil {
				return fmt.Errorf("%w (goverse cert ca --dir %s makes an authority)", err, dir)
			}
			now := time.Now()
			h.Hosts, h.NotBefore, h.NotAfter = hosts, now.Add(-clockSkew), now.AddDate(0, 0, certificateDays)
			files, err := authority.Issue(h)
			if err != nil {
				return err
			}
			if name == "" {
				name = fileName(cmp.Or(h.Client, first(hosts)))
			}
			if strings.ContainsAny(name, `/\`) || name == "ca" {
				return usagef("--name %q: want the name of a file in --dir, other than ca", name)
			}
			file := filepath.Join(dir, name)
			return p.writeCert(dir, name, files, force, fmt.Sprintf("--tls-cert %s.pem --tls-key %[1]s.key --tls-ca %s", file, ca))
		}),
	}
	certFlags(c, &dir, &force)
	c.Flags().StringSliceVar(&hosts, "host", nil, "`names` and IP addresses, separated by commas")
	c.Flags().StringVar(&h.Client, "client", "", "the `name` of a client")
	c.Flags().StringVar(&name, "name", "", "the `name` of the files in --dir (default: that of the client, or the first host)")
	return c
}

func certFlags(c *cobra.Command, dir *string, force *bool) {
	c.Flags().StringVar(dir, "dir", "certs", "`directory` of the authority and its certificates")
	c.Flags().BoolVar(force, "force", false, "write over files that are there")
}

func first(list []string) string {
	if len(list) == 0 {
		return ""
	}
	return list[0]
}

// fileName is name without what files are not called.
func fileName(name string) string {
	return strings.Map(func(r rune) rune {
		if strings.ContainsRune(`/\:*`, r) || r <= ' ' {
			return '_'
		}
		return r
	}, name)
}

func (p *program) writeCert(dir, name string, files secure.PEM, force bool, flags string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	made := certFiles{Cert: filepath.Join(dir, name+".pem"), Key: filepath.Join(dir, name+".key"), Flags: flags}
	if err := files.Write(made.Cert, made.Key, force); err != nil {
		return err
	}
	return p.show(made)
}

// certFiles is the answer of cert ca and cert issue.
type certFiles struct {
	Cert  string `json:"cert"`
	Key   string `json:"key"`
	Flags string `json:"flags"`
}

func (f certFiles) table(w io.Writer) {
	columns(w, [][]string{{"certificate", f.Cert}, {"key", f.Key}, {"flags", f.Flags}})
}
