package embedded

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"

	"github.com/xiaonanln/goverse/cluster/etcdmanager"
)

// record is what the lock file says. Whoever holds the lock writes it; a process
// that is refused reads it, and so does the next holder.
type record struct {
	PID      int    // 0: the last holder closed in order
	Endpoint string // etcd's client address, now or last; empty until the first start
	Lease    etcdmanager.LeaseID
}

// recordSize is fixed, so that one write replaces a whole record.
const recordSize = 256

// file is the record's form: JSON for a person to read, with the lease as etcdctl
// prints it.
type file struct {
	PID      int    `json:"pid"`
	Endpoint string `json:"endpoint"`
	Lease    string `json:"lease"`
}

// encode pads the record with blanks to its size.
func (r record) encode() ([]byte, error) {
	text, err := json.Marshal(file{PID: r.PID, Endpoint: r.Endpoint, Lease: strconv.FormatInt(int64(r.Lease), 16)})
	if err != nil {
		return nil, err
	}
	if len(text) >= recordSize {
		return nil, fmt.Errorf("lock file: a record of %d bytes: at most %d", len(text), recordSize-1)
	}
	blanks := bytes.Repeat([]byte{' '}, recordSize-1-len(text)) // of bytes: fmt's padding counts characters
	return append(append(text, blanks...), '\n'), nil
}

// decode reads what a process that died at any instant may have left.
func decode(text []byte) (record, error) {
	if len(text) == 0 {
		return record{}, nil
	}
	var f file
	if err := json.Unmarshal(text, &f); err != nil {
		return record{}, fmt.Errorf("lock file: %w", err)
	}
	lease, err := strconv.ParseInt(f.Lease, 16, 64)
	if err != nil || lease < 0 || f.PID < 0 {
		return record{}, fmt.Errorf("lock file: lease %q of process %d makes no sense", f.Lease, f.PID)
	}
	return record{PID: f.PID, Endpoint: f.Endpoint, Lease: etcdmanager.LeaseID(lease)}, nil
}
