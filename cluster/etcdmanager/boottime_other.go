//go:build !linux

package etcdmanager

import "time"

// boottime is not read here: when the clocks disagree, the lease is not trusted
// until its next renewal.
func boottime() (time.Duration, bool) { return 0, false }
