//go:build linux && race

package hostile

// slow is how much longer everything may take: both processes watch for races.
const slow = 4
