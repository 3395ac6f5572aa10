// Package mutants tries what test/random is worth: it takes one guard after the other
// out of the product and has stories told until one of them finds out.
//
//	script/mutants.sh              all of them, with a table
//	script/mutants.sh -only stage  those whose names match
//
// An ordinary go test only checks that every mutant still fits the code.
package mutants

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

var (
	try  = flag.Bool("mutants", os.Getenv("GOVERSE_MUTANTS") == "1", "tell stories to every mutant until one catches it")
	only = flag.String("only", "", "with -mutants: those whose names match this pattern, survivors included")
	most = flag.Int("seeds", 2000, "with -mutants: how many seeds a mutant may live through")
)

const root = "../.."

// Every mutant's text is found exactly once where it should be, and what stands there
// instead compiles.
func TestMutantsFitTheCode(t *testing.T) {
	names := map[string]bool{}
	for _, m := range mutants {
		if names[m.name] {
			t.Errorf("two mutants are called %s", m.name)
		}
		names[m.name] = true
		sources, err := m.apply(nil)
		if err != nil {
			t.Errorf("%s: %v", m.name, err)
			continue
		}
		for file, source := range sources {
			if _, err := parser.ParseFile(token.NewFileSet(), file, source, parser.SkipObjectResolution); err != nil {
				t.Errorf("%s: %v", m.name, err)
			}
		}
	}
	if t.Failed() || testing.Short() {
		return
	}
	for _, sources := range together(t) {
		overlay := write(t, t.TempDir(), sources)
		if out, err := gocmd(t, "build", "-overlay", overlay, "./node/...", "./cluster/..."); err != nil {
			t.Errorf("mutants of %v do not compile together: %v\n%s", slices.Sorted(maps.Keys(sources)), err, out)
		}
	}
}

// together is all mutants in as few versions of the files as there can be.
func together(t *testing.T) []map[string]string {
	var versions []map[string]string
next:
	for _, m := range mutants {
		for i, v := range versions {
			if sources, err := m.apply(v); err == nil {
				versions[i] = sources
				continue next
			}
		}
		sources, err := m.apply(nil)
		if err != nil {
			t.Fatal(err)
		}
		versions = append(versions, sources)
	}
	return versions
}

// apply is the files that the mutant changes, as it changes them; before is what others
// have made of the product's files.
func (m mutant) apply(before map[string]string) (after map[string]string, err error) {
	after = maps.Clone(before)
	if after == nil {
		after = map[string]string{}
	}
	for _, e := range m.edits {
		source, ok := after[e.file]
		if !ok {
			raw, err := os.ReadFile(filepath.Join(root, e.file))
			if err != nil {
				return nil, err
			}
			source = string(raw)
		}
		if n := strings.Count(source, e.old); n != 1 {
			return nil, fmt.Errorf("%s contains this %d times, and should once: let the mutant follow the code\n%s", e.file, n, e.old)
		}
		after[e.file] = strings.Replace(source, e.old, e.new, 1)
	}
	return after, nil
}

// write puts sources, and an overlay that names them, into dir.
func write(t *testing.T, dir string, sources map[string]string) (overlay string) {
	t.Helper()
	replace := map[string]string{}
	for i, file := range slices.Sorted(maps.Keys(sources)) {
		real, err := filepath.Abs(filepath.Join(root, file))
		if err != nil {
			t.Fatal(err)
		}
		replace[real] = filepath.Join(dir, strconv.Itoa(i)+".go")
		if err := os.WriteFile(replace[real], []byte(sources[file]), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	text, err := json.Marshal(map[string]any{"Replace": replace})
	if err == nil {
		overlay = filepath.Join(dir, "overlay.json")
		err = os.WriteFile(overlay, text, 0o666)
	}
	if err != nil {
		t.Fatal(err)
	}
	return overlay
}

func gocmd(t *testing.T, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(t.Context(), "go", args...)
	cmd.Dir = root
	return cmd.CombinedOutput()
}

// Each mutant is caught within so many seeds. Those that no story can see say which
// guard stands behind theirs.
func TestMutants(t *testing.T) {
	if !*try {
		t.Skip("takes minutes: run script/mutants.sh, or go test with -mutants")
	}
	chosen := regexp.MustCompile(*only)
	caught, missed := 0, 0
	for _, m := range mutants {
		if !chosen.MatchString(m.name) {
			continue
		}
		if m.covered != "" && *only == "" {
			fmt.Printf("%-28s not tried: %s\n", m.name, m.covered)
			continue
		}
		bin := m.build(t)
		seeds, how := catch(t, bin, m.stories)
		if how == "" {
			missed++
			fmt.Printf("%-28s SURVIVED %d seeds: %s\n", m.name, seeds, m.removes)
			if m.covered == "" {
				t.Errorf("%s is not caught within %d seeds", m.name, seeds)
			}
			continue
		}
		caught++
		fmt.Printf("%-28s caught after %d seeds: %s\n%30s%s\n", m.name, seeds, m.removes, "by ", how)
	}
	fmt.Printf("%d caught, %d missed\n", caught, missed)
}

// build makes the stories' test binary with the mutant in it.
func (m mutant) build(t *testing.T) (bin string) {
	sources, err := m.apply(nil)
	if err != nil {
		t.Fatalf("%s: %v", m.name, err)
	}
	dir := t.TempDir()
	bin = filepath.Join(dir, "random.test")
	if out, err := gocmd(t, "test", "-c", "-overlay", write(t, dir, sources), "-o", bin, "./test/random"); err != nil {
		t.Fatalf("%s does not compile: %v\n%s", m.name, err, out)
	}
	return bin
}

// catch tells stories, more and more at a time, until one fails. how is what it said;
// it is empty if none did.
func catch(t *testing.T, bin, stories string) (seeds int, how string) {
	for batch := 10; seeds < *most; batch = min(2*batch, 400) {
		batch = min(batch, *most-seeds)
		out, err := tell(t, bin, stories, seeds+1, batch)
		if err != nil {
			at, how := failure(out, err)
			return max(at, seeds+1), how
		}
		seeds += batch
	}
	return seeds, ""
}

// tell runs n stories from a seed on. One that hangs in real time fails as well: a story
// takes a fraction of a second, of a busy machine's too.
func tell(t *testing.T, bin, stories string, first, n int) ([]byte, error) {
	patience := 2*time.Minute + time.Duration(n)*time.Second
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	total := 3 * n // a third of them is planned change, two thirds have faults
	switch stories {
	case faults:
		total = n + (n-1)/2
	case degraded:
		total = 5 * n
	}
	cmd := exec.CommandContext(ctx, bin, "-test.run", "^"+stories+"$", "-test.timeout", patience.String(),
		"-random.first", strconv.Itoa(first), "-random.seeds", strconv.Itoa(total), "-random.graveyard=false")
	cmd.Dir = filepath.Join(root, "test/random")
	return cmd.CombinedOutput()
}

var (
	failed = regexp.MustCompile(`--- FAIL: \w+/(\d+) `)
	where  = regexp.MustCompile(`^\s+\w+\.go:\d+: (.*)`)
	noise  = regexp.MustCompile(`^seed \d+:$`)
	hung   = regexp.MustCompile(`^\s+(\w+)/(\d+) \((\w+)\)$`)
)

// failure is the smallest seed that failed, and the first line of what it said.
func failure(out []byte, err error) (seed int, how string) {
	lines := strings.Split(string(bytes.ToValidUTF8(out, []byte("?"))), "\n")
	for i, line := range lines {
		found := failed.FindStringSubmatch(line)
		if found == nil {
			continue
		}
		if n, _ := strconv.Atoi(found[1]); seed == 0 || n < seed {
			seed, how = n, said(lines[i+1:])
		}
	}
	if how != "" {
		return seed, how
	}
	for i, line := range lines {
		if strings.HasPrefix(line, "panic: ") || strings.HasPrefix(line, "fatal error: ") {
			return stuck(lines[i:], line)
		}
	}
	return seed, err.Error()
}

// stuck is the seed that had run for longest when the time was over, if that is what
// happened.
func stuck(lines []string, what string) (seed int, how string) {
	longest := time.Duration(0)
	for _, line := range lines[:min(len(lines), 40)] {
		found := hung.FindStringSubmatch(line)
		if found == nil {
			continue
		}
		if took, err := time.ParseDuration(found[3]); err == nil && took > longest {
			longest = took
			seed, _ = strconv.Atoi(found[2])
		}
	}
	if longest > 0 {
		what = fmt.Sprintf("a story that did not end within %v", longest)
	}
	return seed, what
}

// said is the first line of a test's output that tells something.
func said(lines []string) string {
	for _, line := range lines {
		text := strings.TrimSpace(line)
		if found := where.FindStringSubmatch(line); found != nil {
			text = found[1]
		}
		if text != "" && !noise.MatchString(text) {
			return text
		}
	}
	return ""
}
