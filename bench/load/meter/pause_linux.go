package meter

import (
	"syscall"
	"time"
)

// nap blocks the thread for d, or until a signal comes.
func nap(d time.Duration) {
	t := syscall.NsecToTimespec(d.Nanoseconds())
	_ = syscall.Nanosleep(&t, nil) // EINTR: the caller looks at the clock
}
