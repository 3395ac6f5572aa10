// Command testlines reads what "go test -json" writes and prints what a person
// wants to know: a line for each package, the whole output of what failed, each
// skipped test with its reason, the tests that took longest, and a closing line of counts.
//
//	go test -json ./... | testlines [-skipped FILE] [-slow DURATION]
//
// It does not judge: the exit code that counts is go test's.
package main

import (
	"bufio"
	"cmp"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"
)

func main() {
	skipped := flag.String("skipped", "", "a `file` to which the skipped tests are appended, one a line")
	slow := flag.Duration("slow", 10*time.Second, "tests that took longer than this `duration` are named at the end")
	flag.Parse()
	r := newReport(os.Stdout, *slow)
	if err := r.read(os.Stdin); err != nil {
		fatal(err)
	}
	r.close()
	if *skipped != "" {
		if err := appendLines(*skipped, r.skipped); err != nil {
			fatal(err)
		}
	}
}

func fatal(err error) {
	fmt.Fprintln(os.Stderr, "testlines:", err)
	os.Exit(1)
}

func appendLines(name string, lines []string) error {
	f, err := os.OpenFile(name, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	for _, l := range lines {
		if _, err := fmt.Fprintln(f, l); err != nil {
			return err
		}
	}
	return f.Close()
}

// line is one of go test's, see "go doc test2json".
type line struct {
	Action, Package, ImportPath, Test, Output string
	Elapsed                                   float64
}

type id struct{ pkg, test string } // test is empty for the package itself

// report gathers a test's output until it ends.
type report struct {
	out     io.Writer
	running map[id]*strings.Builder
	skipped []string
	slow    time.Duration
	slowest []timed
	passed  int
	failed  int
}

// timed is a test that took long, with its subtests.
type timed struct {
	id
	took time.Duration
}

func newReport(out io.Writer, slow time.Duration) *report {
	return &report{out: out, running: map[id]*strings.Builder{}, slow: slow}
}

func (r *report) read(in io.Reader) error {
	lines := bufio.NewReader(in)
	for {
		text, err := lines.ReadBytes('\n')
		if len(text) > 0 {
			var l line
			if json.Unmarshal(text, &l) != nil || l.Action == "" {
				fmt.Fprintf(r.out, "%s", text) // not go test's own: it is for people
			} else {
				r.add(l)
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (r *report) add(l line) {
	at := id{l.Package, l.Test}
	switch l.Action {
	case "build-output":
		fmt.Fprint(r.out, l.Output)
	case "output":
		if r.running[at] == nil {
			r.running[at] = new(strings.Builder)
		}
		r.running[at].WriteString(l.Output)
	case "pass", "fail", "skip":
		if l.Test == "" {
			r.endPackage(l)
		} else {
			r.endTest(at, l.Action)
			r.time(at, l.Elapsed)
		}
	}
}

func (r *report) endTest(at id, how string) {
	output := r.take(at)
	switch how {
	case "pass":
		r.passed++
	case "fail":
		r.failed++
		fmt.Fprint(r.out, output)
	case "skip":
		r.skipped = append(r.skipped, at.pkg+" "+at.test+": "+reason(output))
	}
}

func (r *report) time(at id, seconds float64) {
	took := time.Duration(seconds * float64(time.Second))
	if took >= r.slow && !strings.Contains(at.test, "/") {
		r.slowest = append(r.slowest, timed{at, took})
	}
}

// endPackage prints go test's line for the package; when it failed also what its
// tests wrote that never ended, as after a panic or a timeout.
func (r *report) endPackage(l line) {
	output := r.take(id{l.Package, ""})
	if l.Action != "fail" {
		last := strings.Split(strings.TrimSpace(output), "\n")
		fmt.Fprintln(r.out, last[len(last)-1])
		return
	}
	for _, at := range r.unfinished(l.Package) {
		r.failed++
		fmt.Fprint(r.out, r.take(at))
	}
	fmt.Fprint(r.out, output)
}

func (r *report) unfinished(pkg string) (ids []id) {
	for at := range r.running {
		if at.pkg == pkg {
			ids = append(ids, at)
		}
	}
	slices.SortFunc(ids, func(a, b id) int { return strings.Compare(a.test, b.test) })
	return ids
}

func (r *report) take(at id) string {
	b := r.running[at]
	delete(r.running, at)
	if b == nil {
		return ""
	}
	return b.String()
}

func (r *report) close() {
	slices.SortStableFunc(r.slowest, func(a, b timed) int { return cmp.Compare(b.took, a.took) })
	for _, t := range r.slowest {
		fmt.Fprintf(r.out, "slow: %6.1f s %s %s\n", t.took.Seconds(), t.pkg, t.test)
	}
	for _, s := range r.skipped {
		fmt.Fprintln(r.out, "skipped:", s)
	}
	fmt.Fprintf(r.out, "%d passed, %d failed, %d skipped\n", r.passed, r.failed, len(r.skipped))
}

// reason is what a skipped test said: "    x_test.go:12: no chromium here".
func reason(output string) string {
	var said []string
	for _, l := range strings.Split(output, "\n") {
		if l = strings.TrimSpace(l); l != "" && !strings.HasPrefix(l, "=== ") && !strings.HasPrefix(l, "--- ") {
			said = append(said, l)
		}
	}
	if len(said) == 0 {
		return "no reason given"
	}
	return strings.Join(said, " ")
}
