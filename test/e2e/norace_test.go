//go:build unix && !race

package e2e

const (
	raceEnabled  = false
	killMessages = 10000
	slow         = 1
)
