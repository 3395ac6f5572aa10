package etcdmanager

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// MinVersion is the oldest etcd that keeps a lease as long as it says: older ones may
// end a living lease after a change of their leader.
const MinVersion = "3.5.13"

var (
	// ErrTooOld: the etcd is older than MinVersion.
	ErrTooOld = errors.New("this etcd is too old")
	// ErrNoLeader: the etcd that answers has no leader and can decide nothing.
	ErrNoLeader = errors.New("this etcd has no leader")
)

// checkVersion refuses versions before MinVersion, and what is none.
func checkVersion(version string) error {
	have, ok := parseVersion(version)
	if !ok {
		return fmt.Errorf("%w: it says that its version is %q; want %s or newer", ErrTooOld, version, MinVersion)
	}
	least, _ := parseVersion(MinVersion)
	for i := range have {
		switch {
		case have[i] > least[i]:
			return nil
		case have[i] < least[i]:
			return fmt.Errorf("%w: it is %s; upgrade every member to %s or newer", ErrTooOld, version, MinVersion)
		}
	}
	return nil
}

// parseVersion reads the numbers of "3.5.13" and of "3.6.0-rc.1".
func parseVersion(version string) (numbers [3]int, ok bool) {
	version, _, _ = strings.Cut(version, "-")
	version, _, _ = strings.Cut(version, "+")
	parts := strings.Split(version, ".")
	if len(parts) != len(numbers) {
		return numbers, false
	}
	for i, part := range parts {
		n, err := strconv.ParseUint(part, 10, 16)
		if err != nil {
			return numbers, false
		}
		numbers[i] = int(n)
	}
	return numbers, true
}
