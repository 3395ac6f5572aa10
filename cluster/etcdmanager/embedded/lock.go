package embedded

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
)

// lockName is the lock file's name in the data directory.
const lockName = "goverse.lock"

// TakenError says that another process uses the data directory.
type TakenError struct {
	Dir      string
	PID      int    // 0: not known
	Endpoint string // where its etcd answers; empty while it is starting
}

func (e *TakenError) Error() string {
	who := "another process"
	if e.PID != 0 {
		who = fmt.Sprintf("process %d", e.PID)
	}
	if e.Endpoint == "" {
		return fmt.Sprintf("data directory %s is in use by %s, which is still starting: give this process its own --data-dir, or try again to join it", e.Dir, who)
	}
	return fmt.Sprintf("data directory %s is in use by %s: join it with --etcd %s, or give this process its own --data-dir", e.Dir, who, e.Endpoint)
}

// lock is the exclusive use of a data directory. The operating system holds it for
// the process and lets go when the process dies, however it dies.
type lock struct {
	path string

	mu   sync.Mutex // protects following fields
	file *os.File   // nil: released
	now  record
}

// takeLock makes the directory, readable by its owner only, and locks it. It returns
// what the last holder left.
func takeLock(dir string) (*lock, record, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, record{}, unusable(dir, err)
	}
	path := filepath.Join(dir, lockName)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, record{}, unusable(dir, err)
	}
	if err := lockFile(f); err != nil {
		defer f.Close()
		if errors.Is(err, errLocked) {
			holder, _ := readRecord(f) // one that cannot be read names nobody
			return nil, record{}, &TakenError{Dir: dir, PID: holder.PID, Endpoint: holder.Endpoint}
		}
		return nil, record{}, unusable(dir, err)
	}
	last, _ := readRecord(f) // one that cannot be read costs the next start a wait, no more
	l := &lock{path: path, file: f, now: record{PID: os.Getpid(), Lease: last.Lease}}
	if err := l.write(l.now); err != nil {
		f.Close()
		return nil, record{}, unusable(dir, err)
	}
	return l, last, nil
}

func unusable(dir string, err error) error {
	return fmt.Errorf("data directory %s cannot be used: choose a place that can be written with --data-dir: %w", dir, err)
}

func readRecord(f *os.File) (record, error) {
	text, err := io.ReadAll(io.NewSectionReader(f, 0, recordSize))
	if err != nil {
		return record{}, err
	}
	return decode(text)
}

// write replaces the record in one go: a reader, or the next holder after a crash,
// finds the old one or the new one.
func (l *lock) write(r record) error {
	text, err := r.encode()
	if err != nil {
		return err
	}
	if _, err := l.file.WriteAt(text, 0); err != nil {
		return fmt.Errorf("lock file: %w", err)
	}
	return l.file.Truncate(recordSize)
}

// update changes the record.
func (l *lock) update(change func(*record)) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file == nil {
		return fmt.Errorf("lock file %s: %w", l.path, os.ErrClosed)
	}
	next := l.now
	change(&next)
	if err := l.write(next); err != nil {
		return err
	}
	l.now = next
	return nil
}

// release says that nobody holds the directory and lets go of it. What the next
// holder wants to know stays. It may be called twice.
func (l *lock) release() error {
	err := l.update(func(r *record) { r.PID = 0 })
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file == nil {
		return nil
	}
	err = errors.Join(err, l.file.Close())
	l.file = nil
	return err
}
