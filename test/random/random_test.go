// Package random lets chance act on a simulated cluster: clients append to logs while
// nodes crash, leave, join, lose their way to each other or to etcd, etcd itself
// restarts, and the store is slow, refuses or loses answers. What must always be so is
// judged all the time, and the logs at the end.
//
// A seed that failed once is kept in testdata/graveyard and runs first for ever:
//
//	go test ./test/random -random.seed=N      one seed, and what happened in it
//	go test ./test/random -random.seeds=5000  more of them than CI runs (script/long.sh)
//
// Behind a grave's seed there may stand calm: it failed while stores had no troubles yet
// and every method heeded its context, and is told like that (-random.calm).
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
	seeds   = flag.Int("random.seeds", 120, "how many stories to tell: two thirds of them with faults")
	graves  = flag.Bool("random.graveyard", true, "whether seeds that failed once run first")
	first   = flag.Uint64("random.first", 1, "the first seed")
	calm    = flag.Bool("random.calm", false, "tell stories without troubles of the store, and without methods that insist")
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
	tell := func(t *testing.T, seed uint64, calm, loud bool) {
		s := story(seed)
		s.calm = calm
		run(t, s, loud)
	}
	if *oneSeed != 0 {
		tell(t, *oneSeed, *calm, true)
		return
	}
	for _, g := range graveyard(t, kind, *graves) {
		t.Run(fmt.Sprintf("grave/%d", g.seed), func(t *testing.T) { tell(t, g.seed, g.calm, false) })
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
			tell(t, seed, *calm, false)
		})
	}
}

// grave is a seed that failed once.
type grave struct {
	seed uint64
	calm bool // it failed before stores had troubles and methods insisted, and without them
}

// graveyard is the seeds that failed once, if they are wanted.
func graveyard(t *testing.T, kind string, wanted bool) []grave {
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
	var list []grave
	for lines := bufio.NewScanner(f); lines.Scan(); {
		text, _, _ := strings.Cut(lines.Text(), "#")
		words := strings.Fields(text)
		if len(words) == 0 {
			continue
		}
		seed, err := strconv.ParseUint(words[0], 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		g := grave{seed: seed, calm: len(words) > 1 && words[1] == "calm"}
		if len(words) > 2 || len(words) == 2 && !g.calm {
			t.Fatalf("%s: behind a seed there may stand calm, not %q", kind, words[1:])
		}
		list = append(list, g)
	}
	return list
}
