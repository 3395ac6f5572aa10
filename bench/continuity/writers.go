package main

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/types/known/wrapperspb"
)

// writers change boards at a rate. Each board has one call under way at a time; one that is
// not back when its turn comes is passed over.
type writers struct {
	fleet  *fleet
	boards []string
	rate   float64 // changes a second, of all boards
	words  string  // said along with each

	changed, failed, passed atomic.Int64
}

// run changes boards until ctx ends, and waits for the last answers.
func (w *writers) run(ctx context.Context) {
	var calls sync.WaitGroup
	defer calls.Wait()
	busy := make([]atomic.Bool, len(w.boards))
	turn := time.NewTicker(time.Duration(float64(time.Second) / w.rate))
	defer turn.Stop()
	for i := 0; ; i = (i + 1) % len(w.boards) {
		select {
		case <-turn.C:
		case <-ctx.Done():
			return
		}
		if !busy[i].CompareAndSwap(false, true) {
			w.passed.Add(1)
			continue
		}
		calls.Go(func() {
			defer busy[i].Store(false)
			w.change(w.boards[i])
		})
	}
}

// callWithin is how long a change may take.
const callWithin = 10 * time.Second

func (w *writers) change(board string) {
	ctx, cancel := context.WithTimeout(context.Background(), callWithin)
	defer cancel()
	_, err := w.fleet.client.CallObject(ctx, boardType, board, "Add", wrapperspb.String(w.words))
	if err != nil {
		w.failed.Add(1)
		return
	}
	w.changed.Add(1)
}

// truth is what each board counts, once nobody changes it any more.
func truth(ctx context.Context, f *fleet, boards []string) (map[string]int64, error) {
	counts := make([]int64, len(boards))
	failures := make([]error, len(boards))
	var asking sync.WaitGroup
	for i, id := range boards {
		asking.Go(func() { counts[i], failures[i] = f.look(ctx, id) })
	}
	asking.Wait()
	all := map[string]int64{}
	for i, id := range boards {
		if failures[i] != nil {
			return nil, failures[i]
		}
		all[id] = counts[i]
	}
	return all, nil
}

// ballast is words of so many bytes.
func ballast(n int) string { return strings.Repeat("x", n) }
