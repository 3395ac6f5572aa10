//go:build !linux

package meter

import "time"

// nap waits for d as well as a timer does.
func nap(d time.Duration) { time.Sleep(d) }
