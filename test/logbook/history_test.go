package logbook

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/xiaonanln/goverse/goverseapi"
	logbook_pb "github.com/xiaonanln/goverse/test/logbook/proto"
)

// told is a history of appends that went well, one after the other.
func told(ids ...string) []Append {
	var list []Append
	start := time.Now()
	for i, id := range ids {
		list = append(list, Append{
			ID: id, Began: start.Add(time.Duration(2*i) * time.Second), Ended: start.Add(time.Duration(2*i+1) * time.Second),
			Mark: &logbook_pb.Mark{Length: int64(i + 1), Hash: Hash(ids[:i+1])},
		})
	}
	return list
}

// Each thing that the checker is for is found in a history that has it, and nothing
// is found in one that has nothing.
func TestTheChecker(t *testing.T) {
	refused := Append{ID: "d", Err: goverseapi.ErrOverloaded}
	unknown := Append{ID: "d", Err: goverseapi.ErrIndeterminate}
	abc := told("a", "b", "c")
	for name, c := range map[string]struct {
		told  []Append
		final []string
		lossy bool
		want  string
	}{
		"all is well":                 {abc, []string{"a", "b", "c"}, false, ""},
		"others append, too":          {abc, []string{"a", "b", "c", "x"}, false, ""},
		"unknown, and there":          {append(told("a", "b", "c"), unknown), []string{"a", "b", "c", "d"}, false, ""},
		"unknown, and not there":      {append(told("a", "b", "c"), unknown), []string{"a", "b", "c"}, false, ""},
		"refused":                     {append(told("a", "b", "c"), refused), []string{"a", "b", "c"}, false, ""},
		"refused, and there":          {append(told("a", "b", "c"), refused), []string{"a", "b", "c", "d"}, false, "not to have run"},
		"one is lost":                 {abc, []string{"a", "b"}, false, "is lost"},
		"one is lost, as may be":      {abc, []string{"a", "b"}, true, ""},
		"one is doubled":              {abc, []string{"a", "b", "c", "b"}, false, "is there twice"},
		"one is doubled in the lossy": {abc, []string{"a", "a"}, true, "is there twice"},
		"two are swapped":             {abc, []string{"b", "a", "c"}, false, "acknowledged as"},
		"another past":                {abc, []string{"x", "b", "c"}, false, "another past"},
		"against time": {
			[]Append{{ID: "a", Began: abc[1].Began, Ended: abc[1].Ended, Mark: abc[0].Mark}, {ID: "b", Began: abc[0].Began, Ended: abc[0].Ended, Mark: abc[1].Mark}},
			[]string{"a", "b"}, false, "had ended before",
		},
	} {
		h := NewHistory()
		for _, a := range c.told {
			h.Add("Log/x", a)
		}
		got := h.Check(map[string][]string{"Log/x": c.final}, func(string) bool { return c.lossy })
		if c.want == "" && len(got) > 0 || c.want != "" && !slices.ContainsFunc(got, func(s string) bool { return strings.Contains(s, c.want) }) {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

func TestCounts(t *testing.T) {
	h := NewHistory()
	for _, err := range []error{nil, nil, goverseapi.ErrOverloaded, goverseapi.ErrIndeterminate, errors.New("failed")} {
		h.Add("Log/x", Append{Err: err})
	}
	if ok, not, unknown := h.Count(); ok != 2 || not != 1 || unknown != 2 {
		t.Error(ok, not, unknown)
	}
	if got := h.Errors(); len(got) != 3 {
		t.Errorf("%q", got)
	}
}
