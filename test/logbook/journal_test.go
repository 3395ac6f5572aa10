package logbook

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// What a journal says comes back, also when its process ended in the middle.
func TestJournal(t *testing.T) {
	dir := t.TempDir()
	if err := KeepJournal(dir); err != nil {
		t.Fatal(err)
	}
	j := journal.Swap(nil)
	defer j.file.Close()
	first, second := &log{activation: j.activation()}, &log{activation: j.activation()}
	before := Now()
	j.enter(first, "a")()
	j.enter(first, "b")()
	j.enter(second, "c")
	got, err := ReadJournals(dir)
	if err != nil || len(got) != 3 {
		t.Fatal(got, err)
	}
	for i, e := range got {
		if e.Entry != []string{"a", "b", "c"}[i] || e.PID != os.Getpid() || e.Ref != first.String() || e.Began < before {
			t.Errorf("%d: %+v", i, e)
		}
		if open := e.Ended == 0; open != (i == 2) || !open && e.Ended < e.Began {
			t.Errorf("%d ended at %d", i, e.Ended)
		}
	}
	if got[0].Activation != got[1].Activation || got[1].Activation == got[2].Activation {
		t.Error(got)
	}

	for _, bad := range []string{"begin\n", "end 1 1 Log/x a\n", "begin then 1 Log/x a\n"} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "1.1"+journalSuffix), []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := ReadJournals(dir); err == nil {
			t.Errorf("%q is read as %v", bad, got)
		}
	}
	if err := KeepJournal(filepath.Join(dir, "none")); err == nil {
		t.Error("a journal in a directory that is not there")
	}
}

// A process without a journal pays nothing and notes nothing.
func TestNoJournal(t *testing.T) {
	var j *Journal
	j.enter(&log{}, "a")()
	if j.activation() != 0 {
		t.Error("a name from nobody")
	}
}

// Each way in which an object can live twice is found in executions that have it, and
// nothing is found where a pause explains it.
func TestLives(t *testing.T) {
	ms := Moment(time.Millisecond)
	run := func(activation, entry string, pid int, began, ended Moment) Execution {
		return Execution{Ref: "Log/x", Entry: entry, PID: pid, Activation: activation, Began: began * ms, Ended: ended * ms}
	}
	pause := []Pause{{PID: 1, From: 10 * ms, To: 5000 * ms}}
	for name, c := range map[string]struct {
		ran    []Execution
		pauses []Pause
		deaths map[int]Moment
		well   string // the entries that were answered
		want   string
	}{
		"one after the other":   {ran: []Execution{run("A", "a", 1, 1, 2), run("B", "b", 2, 3, 4), run("C", "c", 1, 5, 6)}, well: "abc"},
		"at once":               {ran: []Execution{run("A", "a", 1, 1, 4), run("B", "b", 2, 3, 5)}, well: "ab", want: "before the end of"},
		"twice on one node":     {ran: []Execution{run("A", "a", 1, 1, 4), run("A", "b", 1, 3, 5)}, well: "ab", want: "before the end of"},
		"a long one behind":     {ran: []Execution{run("A", "a", 1, 1, 9), run("A", "b", 1, 9, 10), run("B", "c", 2, 8, 11)}, want: "before the end of"},
		"the old one goes on":   {ran: []Execution{run("A", "a", 1, 1, 2), run("B", "b", 2, 3, 4), run("A", "c", 1, 5, 6)}, want: "whose activation is newer"},
		"another log":           {ran: []Execution{run("A", "a", 1, 1, 4), {Ref: "Log/y", Entry: "b", PID: 2, Activation: "B", Began: 2 * ms, Ended: 3 * ms}}, well: "ab"},
		"killed in the middle":  {ran: []Execution{run("A", "a", 1, 1, 0), run("B", "b", 2, 30, 40)}, deaths: map[int]Moment{1: 20 * ms}},
		"killed too late":       {ran: []Execution{run("A", "a", 1, 1, 0), run("B", "b", 2, 10, 40)}, deaths: map[int]Moment{1: 20 * ms}, want: "before the end of"},
		"caught by a pause":     {ran: []Execution{run("A", "a", 1, 9, 5001), run("B", "b", 2, 4000, 4001)}, pauses: pause, well: "b"},
		"and answered":          {ran: []Execution{run("A", "a", 1, 9, 5001), run("B", "b", 2, 4000, 4001)}, pauses: pause, well: "ab", want: "before the end of"},
		"another's pause":       {ran: []Execution{run("A", "a", 3, 9, 5001), run("B", "b", 2, 4000, 4001)}, pauses: pause, well: "b", want: "before the end of"},
		"just behind the pause": {ran: []Execution{run("A", "a", 1, 1, 2), run("B", "b", 2, 4000, 4001), run("A", "c", 1, 5001, 5002)}, pauses: pause, well: "ab"},
		"long behind the pause": {ran: []Execution{run("A", "a", 1, 1, 2), run("B", "b", 2, 4000, 4001), run("A", "c", 1, 5100, 5101)}, pauses: pause, well: "ab", want: "whose activation is newer"},
		"answered behind it":    {ran: []Execution{run("A", "a", 1, 1, 2), run("B", "b", 2, 4000, 4001), run("A", "c", 1, 5001, 5002)}, pauses: pause, well: "abc", want: "whose activation is newer"},
		"over before the pause": {ran: []Execution{run("A", "a", 1, 1, 6), run("B", "b", 2, 5, 7)}, pauses: pause, want: "before the end of"},
	} {
		l := Lives{Pauses: c.pauses, Deaths: c.deaths, Well: func(_, entry string) bool { return strings.Contains(c.well, entry) }}
		got := l.Check(c.ran)
		if c.want == "" && len(got) > 0 || c.want != "" && !slices.ContainsFunc(got, func(s string) bool { return strings.Contains(s, c.want) }) {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}
