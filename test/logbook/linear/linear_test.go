package linear

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/xiaonanln/goverse/goverseapi"
	"github.com/xiaonanln/goverse/test/logbook"
	logbook_pb "github.com/xiaonanln/goverse/test/logbook/proto"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var start = time.Now()

// span gives a call its time, in milliseconds.
func (c Call) span(began, ended int) Call {
	c.Began, c.Ended = start.Add(time.Duration(began)*time.Millisecond), start.Add(time.Duration(ended)*time.Millisecond)
	return c
}

// told is the append of the last of ids to a log that had the others.
func told(ids string) Call {
	list := strings.Split(ids, "")
	return Call{Append: list[len(list)-1], Length: int64(len(list)), Hash: logbook.Hash(list)}
}

func read(ids string) Call {
	var list []string
	if ids != "" {
		list = strings.Split(ids, "")
	}
	return Read(start, start, list)
}

func silent(id string) Call   { return Call{Append: id, Fate: Silent} }
func doubtful(id string) Call { return Call{Append: id, Fate: Doubtful} }

// Each anomaly is found in a history that has it, and none in one that has none.
func TestAnomalies(t *testing.T) {
	for name, c := range map[string]struct {
		calls []Call
		well  bool
	}{
		"one after the other":               {[]Call{told("a").span(0, 1), told("ab").span(2, 3), read("ab").span(4, 5)}, true},
		"at once, in either order":          {[]Call{told("ba").span(0, 9), told("b").span(0, 9)}, true},
		"a read beside an append":           {[]Call{told("a").span(0, 9), read("").span(1, 2), read("a").span(3, 4)}, true},
		"a read goes back":                  {[]Call{told("a").span(0, 9), read("a").span(1, 2), read("").span(3, 4)}, false},
		"a stale read":                      {[]Call{told("a").span(0, 1), told("ab").span(2, 3), read("a").span(4, 5)}, false},
		"a read of the future":              {[]Call{told("a").span(0, 1), read("ab").span(2, 3), told("ab").span(4, 5)}, false},
		"a lost append":                     {[]Call{told("a").span(0, 1), told("ab").span(2, 3), told("ac").span(4, 5)}, false},
		"a lost append, by a read":          {[]Call{told("a").span(0, 1), told("ab").span(2, 3), read("b").span(4, 5)}, false},
		"against time":                      {[]Call{told("ba").span(0, 1), told("b").span(2, 3)}, false},
		"twice":                             {[]Call{told("a").span(0, 1), read("aa").span(2, 3)}, false},
		"nobody's":                          {[]Call{told("a").span(0, 1), read("ax").span(2, 3)}, false},
		"a fork":                            {[]Call{told("a").span(0, 9), told("b").span(0, 9)}, false},
		"in doubt, and never":               {[]Call{told("a").span(0, 1), doubtful("x").span(2, 3), told("ab").span(4, 5)}, true},
		"in doubt, and at once":             {[]Call{told("a").span(0, 1), doubtful("x").span(2, 3), told("axb").span(4, 5)}, true},
		"in doubt, and much later":          {[]Call{doubtful("x").span(0, 1), told("a").span(2, 3), told("ab").span(4, 5), read("abx").span(6, 7)}, true},
		"in doubt, and before it was tried": {[]Call{read("x").span(0, 1), doubtful("x").span(2, 3)}, false},
		"in doubt, and twice":               {[]Call{doubtful("x").span(0, 1), told("xa").span(2, 3), read("xax").span(4, 5)}, false},
		"in doubt, seen, and gone":          {[]Call{doubtful("x").span(0, 1), read("x").span(2, 3), told("a").span(4, 5)}, false},
		"three in doubt":                    {[]Call{doubtful("x").span(0, 1), doubtful("y").span(0, 1), doubtful("z").span(0, 1), told("zxa").span(2, 3)}, true},
		"silent":                            {[]Call{told("a").span(0, 1), silent("x").span(2, 3), told("axb").span(4, 5)}, true},
		"silent, and later than its end":    {[]Call{silent("x").span(0, 1), told("a").span(2, 3), told("axb").span(4, 5)}, false},
		"silent, and lost":                  {[]Call{silent("x").span(0, 1), told("a").span(2, 3)}, false},
	} {
		got := Histories{"Log/x": c.calls}.Check(10 * time.Second)
		if well := len(got) == 0; well != c.well {
			t.Errorf("%s: %q", name, got)
		}
	}
}

// chronicle is a history that one log could have answered, of n calls by some callers;
// some of them are told nothing.
func chronicle(chance *rand.Rand, n, callers int) []Call {
	var calls []Call
	var ids []string
	var hash uint64
	free := make([]int, callers) // when each has time again
	for now := 0; len(calls) < n; now++ {
		who := chance.IntN(callers)
		began := free[who]
		if began > now {
			continue
		}
		ended := now + chance.IntN(5)
		free[who] = ended + 1 + chance.IntN(8)
		id := fmt.Sprint(len(calls))
		c := Call{Append: id}
		switch chance.IntN(20) {
		case 0, 1:
			calls = append(calls, Read(start, start, slices.Clone(ids)).span(began, ended))
			continue
		case 3:
			calls = append(calls, doubtful(id).span(began, ended)) // never
			continue
		case 4:
			c.Fate = Doubtful
		case 5:
			c.Fate = Silent
		}
		ids, hash = append(ids, id), logbook.Extend(hash, id)
		if c.Fate == Told {
			c.Length, c.Hash = int64(len(ids)), hash
		}
		calls = append(calls, c.span(began, ended))
	}
	return append(calls, Read(start, start, ids).span(1<<30, 1<<30)) // as a test ends
}

// Long histories, of which a twentieth is in doubt, are judged in windows in moments:
// none that is true is blamed, and one acknowledged append that went missing is found
// in all the others, whichever it is.
func TestLongHistories(t *testing.T) {
	for seed := range uint64(10) {
		chance := rand.New(rand.NewPCG(seed, 7))
		calls := chronicle(chance, 500, 4)
		if _, _, rest := cut(calls); len(rest) < len(calls)/2 {
			t.Fatalf("seed %d: the first window of %d calls leaves %d", seed, len(calls), len(rest))
		}
		if got := (Histories{"Log/x": calls}).Check(10 * time.Second); len(got) > 0 {
			t.Fatalf("seed %d: %q", seed, got)
		}
		lost := slices.Clone(calls)
		for i := chance.IntN(len(calls) / 2); ; i++ {
			if c := lost[i]; c.Append != "" && c.Fate == Told { // it is not there, and nobody doubts that it was
				lost[i].Append = "another"
				break
			}
		}
		if got := (Histories{"Log/x": lost}).Check(10 * time.Second); len(got) != 1 || !strings.Contains(got[0], "have no order") {
			t.Errorf("seed %d: %q", seed, got)
		}
	}
}

// What the callers of logs were told is taken over with what it means.
func TestOf(t *testing.T) {
	h := logbook.NewHistory()
	h.Add("Log/x", logbook.Append{ID: "a", Began: start, Ended: start.Add(1), Mark: &logbook_pb.Mark{Length: 1, Hash: logbook.Hash([]string{"a"})}})
	h.Add("Log/x", logbook.Append{ID: "b", Began: start.Add(2), Ended: start.Add(3), Err: goverseapi.ErrIndeterminate})
	h.Add("Log/x", logbook.Append{ID: "c", Began: start.Add(2), Ended: start.Add(3), Err: goverseapi.ErrOverloaded})
	all := Of(h)
	for page, well := range map[string]bool{"a": true, "ab": true, "ac": false, "b": false} {
		told := Histories{"Log/x": append(slices.Clone(all["Log/x"]), read(page).span(4, 5))}
		if got := told.Check(time.Second); (len(got) == 0) != well {
			t.Errorf("%s: %q", page, got)
		}
	}
}
