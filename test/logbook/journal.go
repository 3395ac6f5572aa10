package logbook

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"
)

// Moment is a point of time that all processes of this machine agree on, in
// nanoseconds: no clock that is set, none that stops while the machine sleeps.
type Moment int64

// After is how much later m is.
func (m Moment) After(earlier Moment) time.Duration { return time.Duration(m - earlier) }

// Journal notes on disk, at once, when methods of logs run in this process: what it
// has said stands there after any kill. It is for nodes that are processes; a Ledger
// serves those of one process.
type Journal struct {
	file        *os.File
	activations atomic.Int64
}

// journal is this process's; nil without one.
var journal atomic.Pointer[Journal]

// KeepJournal begins a journal of this process in dir.
func KeepJournal(dir string) error {
	name := fmt.Sprintf("%d.%d%s", os.Getpid(), Now(), journalSuffix)
	file, err := os.OpenFile(filepath.Join(dir, name), os.O_CREATE|os.O_EXCL|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return fmt.Errorf("the journal: %w", err)
	}
	journal.Store(&Journal{file: file})
	return nil
}

const journalSuffix = ".journal"

// activation is a name for a new activation.
func (j *Journal) activation() int64 {
	if j == nil {
		return 0
	}
	return j.activations.Add(1)
}

// enter notes that an append begins to run. A journal that cannot be written ends the
// process: a gap in it would hide what it is for.
func (j *Journal) enter(l *log, entry string) (leave func()) {
	if j == nil {
		return func() {}
	}
	j.line("begin %d %d %s %s\n", Now(), l.activation, l, entry)
	return func() { j.line("end %d %d %s %s\n", Now(), l.activation, l, entry) }
}

func (j *Journal) line(format string, args ...any) {
	if _, err := fmt.Fprintf(j.file, format, args...); err != nil {
		panic(err)
	}
}

// Execution is one append that ran, or was running when its process died.
type Execution struct {
	Ref, Entry string
	PID        int
	Activation string // unique among those of all journals
	Began      Moment
	Ended      Moment // 0: never
}

// ReadJournals reads what the processes that kept a journal in dir have done.
func ReadJournals(dir string) ([]Execution, error) {
	paths, err := filepath.Glob(filepath.Join(dir, "*"+journalSuffix))
	if err != nil {
		return nil, err
	}
	var all []Execution
	for _, path := range paths {
		list, err := readJournal(path)
		if err != nil {
			return nil, err
		}
		all = append(all, list...)
	}
	return all, nil
}

func readJournal(path string) ([]Execution, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	var pid int
	if _, err := fmt.Sscanf(filepath.Base(path), "%d.", &pid); err != nil {
		return nil, fmt.Errorf("%s is no journal's name: %w", path, err)
	}
	var list []Execution
	running := map[string]int{} // by log and entry: where in list
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		var what, ref, entry string
		var at Moment
		var activation int64
		if _, err := fmt.Sscan(lines.Text(), &what, &at, &activation, &ref, &entry); err != nil {
			return nil, fmt.Errorf("%s: %q: %w", path, lines.Text(), err)
		}
		name := fmt.Sprintf("%s:%d", filepath.Base(path), activation)
		switch i, there := running[name+ref+entry]; {
		case what == "begin":
			running[name+ref+entry] = len(list)
			list = append(list, Execution{Ref: ref, Entry: entry, PID: pid, Activation: name, Began: at})
		case there:
			list[i].Ended = at
			delete(running, name+ref+entry)
		default:
			return nil, fmt.Errorf("%s: %q ends what did not begin", path, lines.Text())
		}
	}
	return list, lines.Err()
}
