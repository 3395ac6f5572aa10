package embedded

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/server/v3/storage/wal"
	"go.uber.org/zap"
	"google.golang.org/protobuf/proto"
)

// data is the directory that etcd keeps its files in: a log that every change is
// written to first, and a database that follows it.
type data string

func (d data) database() string  { return filepath.Join(d.snapshots(), "db") }
func (d data) snapshots() string { return filepath.Join(string(d), "member", "snap") }
func (d data) log() string       { return filepath.Join(string(d), "member", "wal") }

// empty says that no cluster was ever created here.
func (d data) empty() bool { return !wal.Exist(d.log()) }

// check reads all files once, on this goroutine, where damage becomes an error. etcd
// would find some of it on goroutines of its own, by panics that nobody can recover,
// and some not at all: with the end of its log lost it would wait for ever.
//
// It tells whether the data is stillborn: made by a process that died before anything
// was committed, not even that the cluster has a member. etcd would wait for ever for
// that member; and nobody was ever answered, so nothing is lost with the files.
func (d data) check() (stillborn bool, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%s: %v", d, p)
		}
	}()
	applied, err := d.checkDatabase()
	if err != nil {
		return false, fmt.Errorf("%s: %w", d.database(), err)
	}
	logged, committed, err := d.checkLog()
	if err != nil {
		return false, fmt.Errorf("%s: %w", d.log(), err)
	}
	if logged < applied {
		return false, fmt.Errorf("%s: its last entry is %d, and the database has entry %d: the end of the log is lost", d.log(), logged, applied)
	}
	return !d.empty() && committed == 0 && applied == 0, nil
}

// clear removes stillborn data: the log last, which tells that it is.
func (d data) clear() error {
	if err := os.RemoveAll(d.snapshots()); err != nil {
		return err
	}
	return os.RemoveAll(d.log())
}

// checkDatabase returns the index of the last log entry that the database has. One
// that does not exist, or that a crash left empty when it was made, has none.
func (d data) checkDatabase() (applied uint64, err error) {
	f, err := os.Open(d.database())
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || info.Size() == 0 {
		return 0, err
	}
	err = checkPages(f, info.Size(), func(bucket string, key, value []byte) error {
		switch {
		case bucket == "key":
			return checkRevision(key, value)
		case bucket == "meta" && string(key) == "consistent_index":
			if len(value) != 8 {
				return errors.New("an index that is none")
			}
			applied = binary.BigEndian.Uint64(value)
		}
		return nil
	})
	return applied, err
}

// checkRevision checks an entry of etcd's history: main_sub, and a t for a deletion.
func checkRevision(key, value []byte) error {
	if n := len(key); n != 17 && !(n == 18 && key[17] == 't') {
		return fmt.Errorf("a revision of %d bytes", n)
	}
	return proto.Unmarshal(value, new(mvccpb.KeyValue))
}

// checkLog returns the index of the last entry, and of the last one of which the log
// says that it is committed. An entry that a crash left half written is not one.
func (d data) checkLog() (last, committed uint64, err error) {
	if d.empty() {
		return 0, 0, nil
	}
	snaps, err := wal.ValidSnapshotEntries(zap.NewNop(), d.log())
	if err != nil {
		return 0, 0, err
	}
	if len(snaps) == 0 {
		return 0, 0, errors.New("its beginning is lost")
	}
	start := snaps[len(snaps)-1]
	w, err := wal.OpenForRead(zap.NewNop(), d.log(), start)
	if err != nil {
		return 0, 0, err
	}
	defer w.Close()
	_, state, entries, err := w.ReadAll()
	if err != nil {
		return 0, 0, err
	}
	last = start.GetIndex()
	if len(entries) > 0 {
		last = entries[len(entries)-1].GetIndex()
	}
	return last, max(start.GetIndex(), state.GetCommit()), nil
}
