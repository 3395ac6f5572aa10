package embedded

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"time"

	bolt "go.etcd.io/bbolt"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"
)

// checkDatabase reads the whole of etcd's database once, on this goroutine, where
// damage becomes an error. etcd itself would find it on goroutines of its own, by
// panics and memory faults that nobody can recover. A database that does not exist
// is sound.
func checkDatabase(etcdDir string) (err error) {
	path := filepath.Join(etcdDir, "member", "snap", "db")
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	// A page that lies outside the file faults when its mapping is read.
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%s: %v", path, p)
		}
	}()
	db, err := bolt.Open(path, 0o600, &bolt.Options{ReadOnly: true, PreLoadFreelist: true, Timeout: time.Second})
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	defer db.Close()
	if err := db.View(walk); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// walk visits every key of every bucket.
func walk(tx *bolt.Tx) error {
	return tx.ForEach(func(name []byte, b *bolt.Bucket) error {
		check := func(_, _ []byte) error { return nil }
		if string(name) == "key" {
			check = checkRevision
		}
		return b.ForEach(check)
	})
}

// checkRevision checks an entry of etcd's history: main_sub, and a t for a deletion.
func checkRevision(key, value []byte) error {
	if n := len(key); n != 17 && n != 18 {
		return fmt.Errorf("a revision of %d bytes", n)
	}
	return proto.Unmarshal(value, new(mvccpb.KeyValue))
}
