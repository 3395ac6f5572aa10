package witness

import (
	"strings"
	"testing"
	"time"
)

var noon = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

// story is a client that has joined at 5, follows the object, and hears 6.
func story() *Witness {
	w := New()
	w.Connected(false, false)
	w.Published(Published{Version: 1, Count: 5, Snapshot: true})
	w.Push(Push{Seq: 1, Count: 5, Joined: true}, noon)
	w.Push(Push{Seq: 2, Count: 6}, noon)
	w.Published(Published{Version: 2, Count: 6})
	return w
}

// What may happen to a client is no anomaly.
func TestWhatMayBe(t *testing.T) {
	for name, tell := range map[string]func(w *Witness){
		"nothing else": func(w *Witness) {},
		"a resumed connection": func(w *Witness) {
			w.Connected(true, true)
			w.Published(Published{Version: 9, Count: 6, Snapshot: true})
			w.Push(Push{Seq: 3, Count: 6, Joined: true}, noon)
		},
		"an announced loss": func(w *Witness) {
			w.Reset(Reset{3, 4, "why"}, noon)
			w.Push(Push{Seq: 5, Count: 9}, noon)
			w.Published(Published{Version: 1, Count: 9, Snapshot: true, Reset: true})
		},
		"a loss that is announced later": func(w *Witness) {
			w.Push(Push{Seq: 3, Count: 9}, noon)
			w.Reset(Reset{4, 4, "why"}, noon.Add(Late))
			w.Published(Published{Version: 1, Count: 9, Snapshot: true, Reset: true})
		},
		"another session": func(w *Witness) {
			w.Connected(true, false)
			w.Reset(Reset{3, 0, "why"}, noon)
			w.Published(Published{Version: 1, Count: 8, Snapshot: true})
			w.Push(Push{Seq: 1, Count: 8, Joined: true}, noon)
		},
		"a client that left, and comes again": func(w *Witness) {
			w.Connected(false, false)
			w.Published(Published{Version: 1, Count: 8, Snapshot: true})
			w.Push(Push{Seq: 1, Count: 8, Joined: true}, noon)
		},
		"an answer in place of what was lost": func(w *Witness) {
			w.Reset(Reset{3, 3, "why"}, noon)
			w.Looked(7, w.Seen())
			w.Published(Published{Version: 3, Count: 7})
		},
		"a push that counts nothing": func(w *Witness) { w.Push(Push{Seq: 3, Count: -1}, noon) },
	} {
		w := story()
		tell(w)
		w.End(w.followed)
		if len(w.Anomalies()) > 0 {
			t.Errorf("%s: %q", name, w.Anomalies())
		}
	}
}

// Each kind of anomaly is found.
func TestWhatMayNotBe(t *testing.T) {
	for _, test := range []struct {
		says string
		tell func(w *Witness)
	}{
		{"nothing announced it", func(w *Witness) { w.Push(Push{Seq: 3, Count: 8}, noon) }},
		{"announced 6s later", func(w *Witness) {
			w.Push(Push{Seq: 3, Count: 8}, noon)
			w.Reset(Reset{4, 4, "why"}, noon.Add(6*time.Second))
		}},
		{"twice or out of order", func(w *Witness) { w.Push(Push{Seq: 3, Count: 6}, noon) }},
		{"twice or out of order", func(w *Witness) {
			w.Push(Push{Seq: 3, Count: 8}, noon)
			w.Push(Push{Seq: 4, Count: 7}, noon)
			w.Reset(Reset{5, 5, "why"}, noon)
		}},
		{"behind the push of 6 came that of 5", func(w *Witness) { w.Push(Push{Seq: 3, Count: 5, Joined: true}, noon) }},
		{"behind message 2 came 4", func(w *Witness) { w.Push(Push{Seq: 4, Count: 7}, noon) }},
		{"behind message 2 came 2", func(w *Witness) { w.Push(Push{Seq: 2, Count: 7}, noon) }},
		{"behind message 2 came 5", func(w *Witness) { w.Reset(Reset{5, 6, "why"}, noon) }},
		{"came 3 to 2", func(w *Witness) { w.Reset(Reset{3, 2, "why"}, noon) }},
		{"does not say why", func(w *Witness) { w.Reset(Reset{3, 3, ""}, noon) }},
		{"nothing was lost", func(w *Witness) { w.Reset(Reset{3, 0, "why"}, noon) }},
		{"no token was shown", func(w *Witness) { w.Connected(false, true) }},
		{"was not announced", func(w *Witness) { w.Connected(true, false); w.Push(Push{Seq: 1, Count: 7}, noon) }},
		{"the reset says from 2", func(w *Witness) { w.Connected(true, false); w.Reset(Reset{2, 0, "why"}, noon) }},
		{"begin with a snapshot", func(w *Witness) { w.Connected(true, true); w.Published(Published{Version: 3, Count: 7}) }},
		{"begin with a snapshot", func(w *Witness) {
			w.Connected(true, true)
			w.Published(Published{Version: 3, Count: 7, Snapshot: true, Reset: true})
		}},
		{"is no reset", func(w *Witness) { w.Published(Published{Version: 3, Count: 7, Snapshot: true}) }},
		{"went back from 6 to 5", func(w *Witness) { w.Published(Published{Version: 3, Count: 5, Snapshot: true, Reset: true}) }},
		{"behind version 2 came 4", func(w *Witness) { w.Published(Published{Version: 4, Count: 7}) }},
		{"came the change to 8", func(w *Witness) { w.Published(Published{Version: 3, Count: 8}) }},
		{"the subscription has ended", func(w *Witness) { w.Ended("why") }},
		{"and was answered 5", func(w *Witness) { w.Looked(5, w.Seen()) }},
		{"the subscription is at 7 of 6", func(w *Witness) { w.Published(Published{Version: 3, Count: 7}) }},
		{"the pushes are at 7", func(w *Witness) { w.Push(Push{Seq: 3, Count: 7}, noon) }},
	} {
		w := story()
		test.tell(w)
		w.End(6)
		if found := strings.Join(w.Anomalies(), "; "); !strings.Contains(found, test.says) {
			t.Errorf("found is %q, want %q", found, test.says)
		}
	}
}

func TestCounts(t *testing.T) {
	w := story()
	w.Push(Push{Seq: 3, Count: 8}, noon)
	w.Reset(Reset{4, 4, "why"}, noon.Add(time.Second))
	w.Connected(true, false)
	w.Reset(Reset{5, 0, "why"}, noon)
	w.Published(Published{Version: 1, Count: 8, Snapshot: true})
	w.Published(Published{Version: 1, Count: 9, Snapshot: true, Reset: true})
	var sum Counts
	sum.Add(w.Counts())
	sum.Add(w.Counts())
	want := Counts{Pushes: 6, Changes: 2, Snapshots: 4, Resets: 4, Anew: 2, Again: 2, Late: 2, Latest: time.Second}
	if sum != want {
		t.Errorf("counted %+v, want %+v", sum, want)
	}
}
