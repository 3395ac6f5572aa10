//go:build !linux

package logbook

import "time"

// Now is the moment, as good as the wall clock knows it.
func Now() Moment { return Moment(time.Now().UnixNano()) }
