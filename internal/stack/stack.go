// Package stack spares the goroutine of a call the growing of its stack.
package stack

// Stretch makes the goroutine's stack 8 KB, which the way of a call takes, while there
// is next to nothing on it. A goroutine begins with 2 KB, and each step of growing moves
// all frames that are on it: deep in a call that took a quarter of a called node's
// time. It is for the first line of a goroutine that is started for one call.
func Stretch() { stretch(0) }

// room is more than fits a stack of 4 KB.
const room = 6 << 10

//go:noinline
func stretch(i uint) byte {
	var frame [room]byte
	frame[i%room] = 1 // it is used, or there would be no frame
	return frame[(i+1)%room]
}
