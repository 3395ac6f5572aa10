package random

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/xiaonanln/goverse/test/logbook"
)

// reads is what clients were shown of the logs.
type reads struct {
	mu    sync.Mutex // protects following field
	pages map[string][]page
}

// page is one answer.
type page struct {
	began, ended time.Time
	ids          []string
}

func newReads() *reads { return &reads{pages: map[string][]page{}} }

func (r *reads) add(ref string, p page) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pages[ref] = append(r.pages[ref], p)
}

// check compares the pages with the final logs: each is a beginning of its log, and
// long enough for all that anybody was told of before it was asked for.
func (r *reads) check(h *logbook.History, final map[string][]string, lossy func(ref string) bool) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	told := map[string][]known{}
	h.Each(func(ref string, a logbook.Append) {
		if a.Err == nil {
			told[ref] = append(told[ref], known{a.Ended, int(a.Mark.GetLength())})
		}
	})
	var problems []string
	for ref, list := range r.pages {
		if lossy(ref) {
			continue
		}
		for _, p := range list {
			told[ref] = append(told[ref], known{p.ended, len(p.ids)})
		}
		sofar := rising(told[ref])
		for _, p := range list {
			if len(p.ids) > len(final[ref]) || !slices.Equal(p.ids, final[ref][:len(p.ids)]) {
				problems = append(problems, fmt.Sprintf("%s: a reader saw another past of %d entries than the final one of %d", ref, len(p.ids), len(final[ref])))
			} else if least := lengthBefore(sofar, p.began); len(p.ids) < least {
				problems = append(problems, fmt.Sprintf("%s: a reader saw %d entries after somebody had been told of %d", ref, len(p.ids), least))
			}
		}
	}
	slices.Sort(problems)
	return problems
}

// known is that somebody knew of so many entries at a time.
type known struct {
	at     time.Time
	length int
}

// rising is the list in order of time, each with the most that was known by then.
func rising(list []known) []known {
	slices.SortFunc(list, func(a, b known) int { return a.at.Compare(b.at) })
	for i := 1; i < len(list); i++ {
		list[i].length = max(list[i].length, list[i-1].length)
	}
	return list
}

// lengthBefore is what was known strictly before t.
func lengthBefore(list []known, t time.Time) int {
	i, _ := slices.BinarySearchFunc(list, t, func(k known, t time.Time) int { return k.at.Compare(t) })
	if i == 0 {
		return 0
	}
	return list[i-1].length
}
