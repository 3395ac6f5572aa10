package logbook

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/xiaonanln/goverse/goverseapi"
	logbook_pb "github.com/xiaonanln/goverse/test/logbook/proto"
)

// History is what the callers of some logs were told. All methods may be called
// concurrently.
type History struct {
	mu      sync.Mutex // protects following field
	appends map[string][]Append
}

// Append is one call as its caller saw it.
type Append struct {
	ID    string
	Began time.Time
	Ended time.Time
	Mark  *logbook_pb.Mark // nil with an error
	Err   error
}

// NewHistory returns an empty one.
func NewHistory() *History { return &History{appends: map[string][]Append{}} }

// Add notes an append to the log ref.
func (h *History) Add(ref string, a Append) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.appends[ref] = append(h.appends[ref], a)
}

// Each calls f with every append so far.
func (h *History) Each(f func(ref string, a Append)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for ref, list := range h.appends {
		for _, a := range list {
			f(ref, a)
		}
	}
}

// Count is how many appends ended well, surely without an effect, and otherwise.
func (h *History) Count() (ok, notExecuted, unknown int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, list := range h.appends {
		for _, a := range list {
			switch {
			case a.Err == nil:
				ok++
			case goverseapi.OutcomeOf(a.Err) == goverseapi.NotExecuted:
				notExecuted++
			default:
				unknown++
			}
		}
	}
	return ok, notExecuted, unknown
}

// Errors is the errors, each text once.
func (h *History) Errors() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	seen := map[string]int{}
	var list []string
	for _, appends := range h.appends {
		for _, a := range appends {
			if a.Err != nil {
				if seen[a.Err.Error()]++; seen[a.Err.Error()] == 1 {
					list = append(list, a.Err.Error())
				}
			}
		}
	}
	slices.Sort(list)
	return list
}

// Check compares the history with the final logs. It takes time linear in both. For a
// log whose state may have been lost in a crash, lossy is true: then only what is left
// of it is judged.
//
// What it finds: an acknowledged append that is missing, doubled or elsewhere than it
// was said to be; one that was said not to have run and is there; a reply that saw
// another past than the final one; two appends in an order against time.
func (h *History) Check(final map[string][]string, lossy func(ref string) bool) []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	var problems []string
	for ref, list := range h.appends {
		problems = append(problems, checkLog(ref, list, final[ref], lossy(ref))...)
	}
	slices.Sort(problems)
	return problems
}

func checkLog(ref string, appends []Append, final []string, lossy bool) []string {
	var problems []string
	complain := func(format string, args ...any) {
		problems = append(problems, ref+": "+fmt.Sprintf(format, args...))
	}
	at := make(map[string]int, len(final))
	hashes := make([]uint64, len(final))
	var hash uint64
	for i, id := range final {
		if before, twice := at[id]; twice {
			complain("%s is there twice, as %d and %d", id, before+1, i+1)
		}
		at[id] = i
		hash = Extend(hash, id)
		hashes[i] = hash
	}
	for _, a := range appends {
		i, there := at[a.ID]
		switch {
		case a.Err == nil && lossy:
		case a.Err == nil && !there:
			complain("%s was acknowledged as %d, and is lost", a.ID, a.Mark.GetLength())
		case a.Err == nil && int64(i+1) != a.Mark.GetLength():
			complain("%s was acknowledged as %d, and is %d", a.ID, a.Mark.GetLength(), i+1)
		case a.Err == nil && hashes[i] != a.Mark.GetHash():
			complain("%s was acknowledged after another past than the final one", a.ID)
		case a.Err != nil && there && goverseapi.OutcomeOf(a.Err) == goverseapi.NotExecuted:
			complain("%s is there, and was said not to have run: %v", a.ID, a.Err)
		}
	}
	if !lossy {
		problems = append(problems, checkOrder(ref, appends, at)...)
	}
	return problems
}

// checkOrder: what had ended before another began stands before it.
func checkOrder(ref string, appends []Append, at map[string]int) []string {
	placed := slices.DeleteFunc(slices.Clone(appends), func(a Append) bool {
		_, there := at[a.ID]
		return a.Err != nil || !there
	})
	slices.SortFunc(placed, func(a, b Append) int { return at[a.ID] - at[b.ID] })
	var problems []string
	var latest Append // the one that began last, so far
	for i, a := range placed {
		if i > 0 && a.Ended.Before(latest.Began) {
			problems = append(problems, fmt.Sprintf("%s: %s had ended before %s began, and stands behind it", ref, a.ID, latest.ID))
		}
		if i == 0 || a.Began.After(latest.Began) {
			latest = a
		}
	}
	return problems
}
