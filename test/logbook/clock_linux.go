package logbook

import "golang.org/x/sys/unix"

// Now is the moment.
func Now() Moment {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &t); err != nil {
		panic(err) // every Linux has it
	}
	return Moment(t.Nano())
}
