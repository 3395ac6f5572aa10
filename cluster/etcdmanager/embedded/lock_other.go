//go:build !windows && (!unix || solaris || aix)

package embedded

import (
	"errors"
	"os"
)

var errLocked = errors.New("locked")

// lockFile refuses: an embedded etcd without a lock that dies with its process would
// be damaged by a second one. Use an etcd of your own there.
func lockFile(*os.File) error { return errors.ErrUnsupported }
