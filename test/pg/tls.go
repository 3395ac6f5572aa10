package pg

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// Encrypt makes a private server encrypt its connections with a certificate, and adds a
// superuser whom it lets in by a certificate of the authority alone, which names that user
// as its subject. It restarts the server; what there was goes on in plain text.
func (s *Server) Encrypt(t testing.TB, user, certFile, keyFile, caFile string) {
	t.Helper()
	if err := s.exec(fmt.Sprintf(`DO $$ BEGIN CREATE ROLE %q SUPERUSER LOGIN; EXCEPTION WHEN duplicate_object THEN END $$`, user)); err != nil {
		t.Fatal(err)
	}
	err := s.RestartAfter(func() error {
		var errs []error
		for name, from := range map[string]string{"server.crt": certFile, "server.key": keyFile, "root.crt": caFile} {
			text, err := os.ReadFile(from)
			if err == nil {
				err = s.own(name, string(text))
			}
			errs = append(errs, err)
		}
		conf, err := os.ReadFile(filepath.Join(s.Data(), "postgresql.conf"))
		const on = "ssl=on\nssl_ca_file='root.crt'\n"
		return errors.Join(append(errs, err,
			s.own("postgresql.conf", string(conf)+on),
			s.own("pg_hba.conf", fmt.Sprintf("hostssl all %q all cert\nhost all %[1]q all reject\nhost all all 127.0.0.1/32 trust\n", user)),
		)...)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// own writes a file of the server's data.
func (s *Server) own(name, text string) error {
	path := filepath.Join(s.Data(), name)
	return errors.Join(os.WriteFile(path, []byte(text), 0o600), os.Chmod(path, 0o600), s.Own(path))
}
