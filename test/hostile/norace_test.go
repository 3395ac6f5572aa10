//go:build linux && !race

package hostile

// slow is how much longer everything may take.
const slow = 1
