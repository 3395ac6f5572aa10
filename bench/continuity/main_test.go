package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/xiaonanln/goverse/bench/load/child"
)

// TestMain also is the processes of the tests.
func TestMain(m *testing.M) {
	if role := child.Role(); role != "" {
		if err := serve(role); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	var err error
	if workshop, err = os.MkdirTemp("", "goverse-continuity-test-"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		os.RemoveAll(workshop)
		os.Exit(code)
	}))
}

// workshop is where plainProgram is.
var workshop string

// plainProgram is this program without the race detector, which makes an etcd so slow that
// leases end; where the tests are without it themselves, "".
var plainProgram = sync.OnceValues(func() (string, error) {
	if !raceEnabled {
		return "", nil
	}
	path := filepath.Join(workshop, "continuity")
	if out, err := exec.Command("go", "build", "-o", path, ".").CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return path, nil
})

// page is written by several at once.
type page struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (p *page) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.text.Write(b)
}

// show runs parts of the program, and returns what it says.
func show(t *testing.T, args string) string {
	t.Helper()
	if testing.Short() {
		t.Skip("starts processes")
	}
	t.Parallel() // they wait for most of the time
	o, err := parse(strings.Fields(args), nil)
	if err != nil {
		t.Fatal(err)
	}
	if o.program, err = plainProgram(); err != nil {
		t.Fatal(err)
	}
	p := new(page)
	err = run(t.Context(), o, p)
	t.Logf("%s\n%s", args, p.text.String())
	if err != nil {
		t.Fatal(err)
	}
	return p.text.String()
}

// Real processes fail, and whoever reads hears everything, or is told what is missing.
func TestContinuity(t *testing.T) {
	says(t, show(t, "-parts faults -readers 60 -boards 6 -rate 40 -turns 0 -faults 7s -stalled 2s -seed 2"), "57 readers are in", "(all)", "anomalies: 0")
}

func TestDisconnects(t *testing.T) {
	says(t, show(t, "-parts disconnects -disconnects 400"), "400 clients came", "40 clients stayed; anomalies: 0", "when all had left")
}

// All come in, also where a gate's limits have most of them come again.
func TestStorms(t *testing.T) {
	says(t, show(t, "-parts storms -storms 2 -storm 200"), "2 storms of 200 clients", "0 were refused in so many words")
}

func TestLimitedStorm(t *testing.T) {
	text := show(t, "-parts storms -storms 1 -storm 400 -limited")
	says(t, text, "1 storms of 400 clients", "were refused in so many words")
	if strings.Contains(text, " 0 were refused") {
		t.Error("nobody was refused")
	}
}

// A stream of events lives for several times as long as each of its gate's timeouts.
func TestStream(t *testing.T) {
	says(t, show(t, "-parts stream -stream 3s -quick"), "a stream of events lived for")
}

func says(t *testing.T, text string, words ...string) {
	t.Helper()
	for _, want := range words {
		if !strings.Contains(text, want) {
			t.Errorf("it does not say %q", want)
		}
	}
}

func TestArgumentsThatMakeNoSense(t *testing.T) {
	for args, says := range map[string]string{
		"-parts none": "-parts", "-parts storms,storms": "-parts", "-readers 0": "-readers", "-readers 30000": "-readers", "-boards 0": "-boards",
		"-deaf 1": "-deaf", "-deaf NaN": "-deaf", "-rate 0": "-rate", "-rate NaN": "-rate", "-size -1": "-size", "-turn 0": "-turn", "-faults -1s": "-faults",
		"-storms 0": "-storms", "-storm 0": "-storm", "-disconnects 0": "-disconnects", "-stream 0": "-stream", "more": "more", "-pace 3": "continuity -help",
		"-readers 0 -boards 0": "-boards",
	} {
		if _, err := parse(strings.Fields(args), nil); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", args, err)
		}
	}
}

func TestHelp(t *testing.T) {
	var b strings.Builder
	if _, err := parse([]string{"-help"}, &b); !errors.Is(err, flag.ErrHelp) {
		t.Error(err)
	}
	for _, word := range append([]string{"go run ./bench/continuity", "-seed", "-logs"}, allParts...) {
		if !strings.Contains(b.String(), word) {
			t.Errorf("the help does not say %q", word)
		}
	}
}

func TestSayings(t *testing.T) {
	s, err := parseSaying(saying{board: "b", count: 3, joined: true, ballast: "x y"}.message().Value)
	if err != nil || s.board != "b" || s.count != 3 || !s.joined || s.ballast != "x y" {
		t.Errorf("%+v, %v", s, err)
	}
	for _, wrong := range []string{"", "b 1 2 c", "b x 2 c y", "b 1 x c y"} {
		if _, err := parseSaying(wrong); err == nil {
			t.Errorf("%q was taken", wrong)
		}
	}
}

// What should not have been is the program's failure.
func TestAnomaliesAreToldOf(t *testing.T) {
	if err := (anomalies)(nil).failure(); err != nil {
		t.Error(err)
	}
	err := make(anomalies, 12).failure()
	if err == nil || !strings.HasPrefix(err.Error(), "12 anomalies") || strings.Count(err.Error(), "\n") != 10 {
		t.Errorf("%v", err)
	}
}
