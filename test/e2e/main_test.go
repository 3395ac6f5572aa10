//go:build unix

// Package e2e runs the built programs as a user does: real processes, real ports, a
// real browser, real kills. Nothing of a process under test is linked into the tests.
package e2e

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"go.uber.org/goleak"
)

var (
	rounds   = flag.Int("e2e.rounds", intFromEnv("GOVERSE_E2E_ROUNDS", 3), "kills of TestKill; also GOVERSE_E2E_ROUNDS")
	messages = flag.Int("e2e.messages", intFromEnv("GOVERSE_E2E_MESSAGES", 3000), "acknowledged messages before each kill; also GOVERSE_E2E_MESSAGES")
	seed     = flag.Uint64("e2e.seed", 0, "what the chances of TestKill, TestPartitions and TestEtcdTroubles are made of; 0 = a new one")
	pictures = flag.String("e2e.pictures", "", "directory for pictures of the page; none without it")
)

func intFromEnv(name string, otherwise int) int {
	value := otherwise
	if text := os.Getenv(name); text != "" {
		if _, err := fmt.Sscan(text, &value); err != nil {
			panic(fmt.Sprintf("%s=%q is not a number", name, text))
		}
	}
	return value
}

// workshop is where the programs are built.
var workshop string

func TestMain(m *testing.M) {
	flag.Parse()
	clean := openWorkshop()
	code := m.Run()
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	clean()
	os.Exit(code)
}

// openWorkshop makes the workshop, or takes over that of the process that started
// this one.
func openWorkshop() (clean func()) {
	if workshop = os.Getenv(workshopVariable); workshop != "" {
		return func() {}
	}
	var err error
	if workshop, err = os.MkdirTemp("", "goverse-e2e-"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	return func() { os.RemoveAll(workshop) }
}

// The samples, each built once: with the race detector where the tests have it, and
// as a user builds them.
var (
	chatBinary    = sync.OnceValues(func() (string, error) { return build("chat", raceEnabled) })
	chatAsShipped = sync.OnceValues(func() (string, error) { return build("chat", false) })
	goverseBinary = sync.OnceValues(func() (string, error) { return buildAt("cmd/goverse", "goverse", false) })
	counterBinary = sync.OnceValues(func() (string, error) { return build("counter", raceEnabled) })
)

func build(sample string, race bool) (string, error) {
	return buildAt("samples/"+sample, sample, race)
}

// buildAt builds the program in a folder of the repository.
func buildAt(folder, name string, race bool) (string, error) {
	binary := filepath.Join(workshop, name)
	args := []string{"build", "-o", binary}
	if race {
		binary += "-race"
		args = []string{"build", "-race", "-gcflags=modernc.org/sqlite/lib=-race=false", "-o", binary}
	}
	out, err := exec.Command("go", append(args, "../../"+folder)...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("go build %s: %w\n%s", folder, err, out)
	}
	return binary, nil
}
