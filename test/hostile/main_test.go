//go:build linux

// Package hostile attacks a whole Goverse process, in a process of its own, by every port
// that it has, while clients that mean well call it: each of their calls has to succeed, and
// what the attack costs has to be bounded and to end with it. script/hostile.sh shows all
// of it as a table.
//
// Attackers and clients have addresses of their own on loopback, which only Linux lets
// them choose.
package hostile

import (
	"flag"
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"
)

var long = flag.Bool("hostile.long", false, "attack in the sizes of a flood, and not only in those that show what becomes of it")

func TestMain(m *testing.M) {
	if os.Getenv(victimVariable) != "" {
		if err := beVictim(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// size is how much of something an attack makes.
func size(short, whole int) int {
	if *long {
		return whole
	}
	return short
}
