package secure

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"time"
)

// TLSConfig names the files, in PEM, that encrypt a kind of connection. The zero value
// is plain text. The files may change while the process runs: the next connection uses
// what they say then.
type TLSConfig struct {
	// CertFile is this process's certificate, and after it those of the authorities
	// between it and the root, if there are any. KeyFile is its key. Both or neither.
	CertFile, KeyFile string
	// CAFile has the authorities that the other end's certificate must be from. For
	// connections that this process makes it may be left out: those that the system
	// trusts. At a port it makes a certificate of the other end a condition.
	CAFile string
}

// Given says whether anything is named.
func (c TLSConfig) Given() bool { return c != TLSConfig{} }

// Complete says what is missing for a link at whose ends both show certificates. flags
// is what comes before -cert, -key and -ca in the names of the program's flags.
func (c TLSConfig) Complete(flags string) error {
	var errs []error
	for _, f := range []struct{ file, name string }{{c.CertFile, "-cert"}, {c.KeyFile, "-key"}, {c.CAFile, "-ca"}} {
		if f.file == "" {
			errs = append(errs, fmt.Errorf("%s%s is missing: certificate, key and authority are given together, or none of them", flags, f.name))
		}
	}
	return errors.Join(errs...)
}

// pair reads the certificate and its key.
func (c TLSConfig) pair(now time.Time) (*tls.Certificate, error) {
	switch {
	case c.CertFile == "" && c.KeyFile == "":
		return nil, nil
	case c.CertFile == "":
		return nil, fmt.Errorf("the key %s is given without its certificate: name both", c.KeyFile)
	case c.KeyFile == "":
		return nil, fmt.Errorf("the certificate %s is given without its key: name both", c.CertFile)
	}
	cert, err := read(c.CertFile, "certificate")
	if err != nil {
		return nil, err
	}
	key, err := read(c.KeyFile, "key")
	if err != nil {
		return nil, err
	}
	if block, _ := pem.Decode(cert); block == nil || block.Type != "CERTIFICATE" {
		return nil, fmt.Errorf("%s begins with no certificate in PEM (-----BEGIN CERTIFICATE-----): is it the right file?", c.CertFile)
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return nil, fmt.Errorf("the certificate %s and the key %s are no pair; issue both together: %w", c.CertFile, c.KeyFile, err)
	}
	if pair.Leaf == nil {
		if pair.Leaf, err = x509.ParseCertificate(pair.Certificate[0]); err != nil {
			return nil, fmt.Errorf("the certificate %s: %w", c.CertFile, err)
		}
	}
	return &pair, c.inTime(pair.Leaf, now)
}

func (c TLSConfig) inTime(leaf *x509.Certificate, now time.Time) error {
	switch {
	case now.After(leaf.NotAfter):
		return fmt.Errorf("the certificate %s has expired, on %s: issue a new one", c.CertFile, day(leaf.NotAfter))
	case now.Before(leaf.NotBefore):
		return fmt.Errorf("the certificate %s is valid from %s only: is this machine's clock right?", c.CertFile, day(leaf.NotBefore))
	}
	return nil
}

func day(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 UTC") }

// authorities reads CAFile; nil where there is none.
func (c TLSConfig) authorities() (*x509.CertPool, error) {
	if c.CAFile == "" {
		return nil, nil
	}
	text, err := read(c.CAFile, "authority")
	if err != nil {
		return nil, err
	}
	pool, n := x509.NewCertPool(), 0
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("%s has a %s beside certificates: it is for the authority's certificate alone", c.CAFile, block.Type)
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("the authority %s: %w", c.CAFile, err)
		}
		pool.AddCert(cert)
		n++
	}
	if n == 0 {
		return nil, fmt.Errorf("%s has no certificate in PEM (-----BEGIN CERTIFICATE-----): name the file of the authority's certificate", c.CAFile)
	}
	return pool, nil
}

func read(file, what string) ([]byte, error) {
	b, err := os.ReadFile(file)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil, fmt.Errorf("there is no %s at %s: name the right file, or make one with goverse cert", what, file)
	case err != nil:
		return nil, fmt.Errorf("the %s %s cannot be read by this process: %w", what, file, err)
	}
	return b, nil
}
