package secure

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"strings"
	"time"
)

// Authority issues certificates for development and tests, with ECDSA keys on P-256.
type Authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// PEM is a certificate and its key as files hold them.
type PEM struct{ Cert, Key []byte }

// Holder is whom a certificate is for.
type Holder struct {
	Hosts     []string // names and IP addresses: a node's or a gate's, for both ends of a connection
	Client    string   // a client's name; without Hosts it is for that end alone
	NotBefore time.Time
	NotAfter  time.Time
}

// NewAuthority makes one that calls itself name, from notBefore to notAfter.
func NewAuthority(name string, notBefore, notAfter time.Time) (*Authority, PEM, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, PEM{}, err
	}
	template := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: name}, NotBefore: notBefore, NotAfter: notAfter,
		IsCA: true, MaxPathLenZero: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, PEM{}, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, PEM{}, err
	}
	files, err := pemOf(der, key)
	return &Authority{cert, key}, files, err
}

// OpenAuthority reads one that NewAuthority made.
func OpenAuthority(certFile, keyFile string) (*Authority, error) {
	pair, err := TLSConfig{CertFile: certFile, KeyFile: keyFile}.pair(time.Now())
	if err != nil {
		return nil, err
	}
	key, ok := pair.PrivateKey.(*ecdsa.PrivateKey)
	if !ok || !pair.Leaf.IsCA {
		return nil, fmt.Errorf("%s is no authority that goverse cert ca has made", certFile)
	}
	return &Authority{pair.Leaf, key}, nil
}

// Issue makes a certificate and its key.
func (a *Authority) Issue(h Holder) (PEM, error) {
	template := &x509.Certificate{
		SerialNumber: serial(), NotBefore: h.NotBefore, NotAfter: h.NotAfter, KeyUsage: x509.KeyUsageDigitalSignature,
		BasicConstraintsValid: true, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, Subject: pkix.Name{CommonName: h.Client},
	}
	if len(h.Hosts) > 0 {
		template.ExtKeyUsage = append(template.ExtKeyUsage, x509.ExtKeyUsageServerAuth)
		if h.Client == "" {
			template.Subject.CommonName = h.Hosts[0]
		}
	}
	for _, host := range h.Hosts {
		switch ip := net.ParseIP(host); {
		case ip != nil:
			template.IPAddresses = append(template.IPAddresses, ip)
		case validName(host):
			template.DNSNames = append(template.DNSNames, host)
		default:
			return PEM{}, fmt.Errorf("%q is neither the name of a host nor an IP address; give it without a port", host)
		}
	}
	if h.NotAfter.After(a.cert.NotAfter) {
		return PEM{}, fmt.Errorf("the authority itself ends on %s: make a new one, or issue for a shorter time", day(a.cert.NotAfter))
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return PEM{}, err
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		return PEM{}, err
	}
	return pemOf(der, key)
}

// validName takes a name as DNS has it; the first label may be a star.
func validName(host string) bool {
	labels := strings.Split(strings.TrimPrefix(host, "*."), ".")
	for _, label := range labels {
		if label == "" || len(label) > 63 || strings.Trim(label, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_") != "" {
			return false
		}
	}
	return len(host) <= 253
}

func serial() *big.Int {
	var b [16]byte
	rand.Read(b[:])
	b[0] &= 0x7f
	return new(big.Int).SetBytes(b[:])
}

func pemOf(der []byte, key *ecdsa.PrivateKey) (PEM, error) {
	k, err := x509.MarshalPKCS8PrivateKey(key)
	return PEM{
		Cert: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		Key:  pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: k}),
	}, err
}

// Write makes the two files, which only their owner may read. It does not write over
// files that are there unless it is to, and replaces each in one step.
func (p PEM) Write(certFile, keyFile string, over bool) error {
	for _, file := range []string{certFile, keyFile} {
		if _, err := os.Lstat(file); err == nil && !over {
			return fmt.Errorf("%s is there already: remove it, or write over it with --force", file)
		} else if err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	if _, err := tls.X509KeyPair(p.Cert, p.Key); err != nil {
		return err
	}
	return errors.Join(replace(keyFile, p.Key), replace(certFile, p.Cert))
}

func replace(file string, text []byte) error {
	fresh := file + ".new"
	if err := os.Remove(fresh); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := os.WriteFile(fresh, text, 0o600); err != nil {
		return err
	}
	return os.Rename(fresh, file)
}
