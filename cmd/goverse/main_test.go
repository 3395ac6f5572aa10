package main

import (
	"os"
	"testing"

	"go.uber.org/goleak"
)

// In the environment these make the test's binary the program, or one that hosts objects.
const (
	asProgram = "GOVERSE_TEST_AS_PROGRAM"
	asMain    = "GOVERSE_TEST_AS_MAIN"
)

func TestMain(m *testing.M) {
	switch {
	case os.Getenv(asMain) != "":
		sayFlags()
	case os.Getenv(asProgram) != "":
		main()
	}
	goleak.VerifyTestMain(m)
}
