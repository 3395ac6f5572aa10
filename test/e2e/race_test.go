//go:build unix && race

package e2e

// The race detector makes everything slow: fewer messages, more patience.
const (
	raceEnabled  = true
	killMessages = 2000
	slow         = 2
)
