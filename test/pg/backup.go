package pg

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/jackc/pgx/v5"
)

// Backup is a copy of all that a private server had.
type Backup struct{ dir string }

// Backup crashes the server, copies its data and starts it again. What was committed is
// in the copy.
func (s *Server) Backup() (*Backup, error) {
	b := &Backup{filepath.Join(s.dir, fmt.Sprint("backup", serial.Add(1)))}
	return b, s.RestartAfter(func() error { return copyTo(b.dir, s.Data()) })
}

// Recover crashes the server and puts a backup in its place by way of a recovery: it
// goes on with another timeline, as a standby does that is promoted.
func (s *Server) Recover(b *Backup) error {
	return s.putBack(b, func() error {
		const settings = "restore_command='false'\n" // there is nothing but the backup
		if err := appendTo(filepath.Join(s.Data(), "postgresql.conf"), settings); err != nil {
			return err
		}
		signal := filepath.Join(s.Data(), "recovery.signal")
		return errors.Join(os.WriteFile(signal, nil, 0o600), s.Own(signal))
	})
}

// PutBack crashes the server and puts a backup in its place as it is, like the copy of a
// disk: the timeline is the one that it had.
func (s *Server) PutBack(b *Backup) error {
	return s.putBack(b, func() error { return nil })
}

func (s *Server) putBack(b *Backup, then func() error) error {
	err := s.RestartAfter(func() error {
		if err := os.RemoveAll(s.Data()); err != nil {
			return err
		}
		return errors.Join(copyTo(s.Data(), b.dir), then())
	})
	if err != nil {
		return err
	}
	return s.awaitPrimary()
}

// awaitPrimary waits for the end of a recovery, during which the server only reads.
func (s *Server) awaitPrimary() error {
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	for {
		recovers, err := s.recovers(ctx)
		if err != nil || !recovers {
			return err
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("the recovery does not end:\n%s", s.Log())
		}
	}
}

func (s *Server) recovers(ctx context.Context) (yes bool, err error) {
	c, err := pgx.Connect(ctx, s.url.String())
	if err != nil {
		return false, err
	}
	defer c.Close(ctx)
	err = c.QueryRow(ctx, `SELECT pg_is_in_recovery()`).Scan(&yes)
	return yes, err
}

// copyTo copies a directory with the owners of its files.
func copyTo(to, from string) error {
	if out, err := exec.Command("cp", "-a", from, to).CombinedOutput(); err != nil {
		return fmt.Errorf("cp -a %s %s: %w: %s", from, to, err, out)
	}
	return nil
}
