package main

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// TestMain also is the nodes and the gate of the test that needs them.
func TestMain(m *testing.M) {
	if role := os.Getenv(roleEnv); role != "" {
		if err := child(role); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	goleak.VerifyTestMain(m)
}

func TestMeasure(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes")
	}
	o := options{runs: 1, window: 200 * time.Millisecond, callers: 8, objects: 64}
	s, err := measure(t.Context(), o, 2)
	if err != nil {
		t.Fatal(err)
	}
	if s.calls == 0 || s.took < o.window || len(s.nodes) != 2 || s.nodes[0] <= 0 || s.nodes[1] <= 0 || s.gate <= 0 {
		t.Errorf("measured %+v", s)
	}
}

func TestReport(t *testing.T) {
	of := func(calls int) sample {
		return sample{calls: calls, took: 2 * time.Second, nodes: []time.Duration{time.Second, 3 * time.Second}, gate: time.Second}
	}
	var b strings.Builder
	measured := map[int][]sample{1: {of(300), of(100), of(200)}, 2: {of(1)}, 4: {of(1)}}
	if err := report(&b, options{runs: 3, window: 2 * time.Second}, measured); err != nil {
		t.Fatal(err)
	}
	row := strings.Join(strings.Fields(strings.Split(b.String(), "\n")[3]), " ")
	if want := "1 100 (50.00 to 150) 50.00 (25.00 to 75.00) 40.00 (20.00 to 60.00) 2.00 (2.00 to 2.00) 0.50 (0.50 to 0.50) 0.75 (0.75 to 0.75)"; row != want {
		t.Errorf("the row of one node is\n%s\nwant\n%s", row, want)
	}
}

func TestOptionsThatMakeNoSense(t *testing.T) {
	for _, o := range []options{{}, {runs: 1, window: time.Second, callers: 1}, {runs: 1, window: -1, callers: 1, objects: 1}} {
		if err := run(t.Context(), o, nil); err == nil {
			t.Errorf("%+v was taken", o)
		}
	}
}
