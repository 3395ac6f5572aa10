// Package random lets chance act on a simulated cluster: clients append to logs while
// nodes crash, leave, join, lose their way to each other or to etcd, and etcd itself
// restarts. What must always be so is judged all the time, and the logs at the end.
//
// A seed that failed once is kept in testdata/graveyard and runs first for ever:
//
//	go test ./test/random -random.seed=N      one seed, and what happened in it
//	go test ./test/random -random.seeds=5000  more of them than CI runs
package random

import (
	"bufio"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

var (
	oneSeed = flag.Uint64("random.seed", 0, "the only seed to run; what happens is printed")
	seeds   = flag.Int("random.seeds", 300, "how many stories to tell: two thirds of them with faults")
	graves  = flag.Bool("random.graveyard", true, "whether seeds that failed once run first")
	first   = flag.Uint64("random.first", 1, "the first seed")
)

func TestMain(m *testing.M) {
	flag.Parse()
	debug.SetGCPercent(400) // many small worlds: nearly a third of the time goes else to sweeping up behind them
	goleak.VerifyTestMain(m)
}

// Whatever happens, nothing that was acknowledged is lost, no object lives twice, and
// the cluster comes to rest when it is left in peace.
func TestFaults(t *testing.T) { chapters(t, "faults", *seeds-*seeds/3, anything) }

// Nodes are added, stopped and restarted, one after the other: no call fails, and what
// lives only in memory moves with its shard.
func TestPlannedChange(t *testing.T) { chapters(t, "planned", *seeds/3, plannedChange) }

// chapters runs the graveyard's seeds and then n more.
func chapters(t *testing.T, kind string, n int, story func(seed uint64) story) {
	if *oneSeed != 0 {
		run(t, story(*oneSeed), true)
		return
	}
	for _, seed := range graveyard(t, kind, *graves) {
		t.Run(fmt.Sprintf("grave/%d", seed), func(t *testing.T) { run(t, story(seed), false) })
	}
	if testing.Short() {
		n /= 10
	}
	for seed := *first; seed < *first+uint64(n); seed++ {
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
			t.Parallel()
			t.Cleanup(func() {
				if t.Failed() {
					t.Logf("once its cause is found, add %d to testdata/graveyard/%s", seed, kind)
				}
			})
			run(t, story(seed), false)
		})
	}
}

// graveyard is the seeds that failed once, if they are wanted.
func graveyard(t *testing.T, kind string, wanted bool) []uint64 {
	if !wanted {
		return nil
	}
	f, err := os.Open(filepath.Join("testdata", "graveyard", kind))
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var list []uint64
	for lines := bufio.NewScanner(f); lines.Scan(); {
		text, _, _ := strings.Cut(lines.Text(), "#")
		if text = strings.TrimSpace(text); text == "" {
			continue
		}
		seed, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, seed)
	}
	return list
}
