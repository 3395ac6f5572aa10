//go:build unix && race

package e2e

// The race detector makes everything slow: more patience.
const (
	raceEnabled = true
	slow        = 2
)
