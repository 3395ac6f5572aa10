// Package witness checks what one client hears of one object: by its session's pushes, and by
// a subscription. It knows nothing of connections, and decides by the words alone.
//
// The object counts, and says each number twice: it pushes it, and publishes it as a change.
// So every number that is skipped is a loss, and has to be announced; and none may come
// twice, or behind a later one.
package witness

import (
	"fmt"
	"time"
)

// Late is how long after a hole its announcement may come. What a node that died had yet to
// send is announced when its lease has ended, and a moment is left to its last frames;
// the next holder may push meanwhile.
const Late = 5 * time.Second

// Push is a pushed message.
type Push struct {
	Seq    uint64 // its number in the session
	Count  int64  // what the object counts
	Joined bool   // said to who has just joined: the count has not changed
}

// Reset announces that messages are lost.
type Reset struct {
	From, To uint64
	Reason   string
}

// Published is what a subscription tells.
type Published struct {
	Version  uint64
	Count    int64
	Snapshot bool
	Reset    bool // a snapshot that is not the first
}

// Witness is what one client has heard. It belongs to one goroutine.
type Witness struct {
	seq    uint64 // the highest number of the session
	lost   bool   // the session is new and its reset is to come
	lostAt uint64 // and begins behind this number

	pushed  int64 // the last number that was pushed; -1: none yet
	excused bool  // since then a loss was announced
	holes   []hole

	told     bool // the subscription has told its first
	version  uint64
	followed int64 // the last number that it told; -1: none yet

	looked int64 // what the client was answered when it asked; -1: not yet

	anomalies []string
	counts    Counts
}

// hole is numbers that were skipped and are not announced yet.
type hole struct {
	from, to int64
	at       time.Time
}

// Counts are what was heard, and what was announced.
type Counts struct {
	Pushes, Changes, Snapshots int // snapshots that are no reset
	Resets                     int // of sessions
	Anew                       int // of these, resets of a session that is gone
	Again                      int // snapshots that are a reset
	Late                       int // holes that were announced after what came behind them
	Latest                     time.Duration
}

// Add counts all that other has counted.
func (c *Counts) Add(other Counts) {
	c.Pushes += other.Pushes
	c.Changes += other.Changes
	c.Snapshots += other.Snapshots
	c.Resets += other.Resets
	c.Anew += other.Anew
	c.Again += other.Again
	c.Late += other.Late
	c.Latest = max(c.Latest, other.Latest)
}

// New is a client that has heard nothing.
func New() *Witness { return &Witness{pushed: -1, followed: -1, looked: -1} }

// Anomalies are what should not have been, in words.
func (w *Witness) Anomalies() []string { return w.anomalies }

// Counts are what was heard so far.
func (w *Witness) Counts() Counts { return w.counts }

// Last is the number up to which the session was heard.
func (w *Witness) Last() uint64 { return w.seq }

func (w *Witness) wrong(format string, args ...any) {
	w.anomalies = append(w.anomalies, fmt.Sprintf(format, args...))
}

// Connected begins a connection. had: the client showed a token.
func (w *Witness) Connected(had, resumed bool) {
	w.told = false
	switch {
	case resumed && !had:
		w.wrong("a session was resumed for which no token was shown")
	case resumed:
	default:
		w.lost, w.lostAt, w.seq = had, w.seq, 0
		w.excused = w.excused || !had // it has left by itself
	}
}

// Push takes a pushed message.
func (w *Witness) Push(p Push, now time.Time) {
	w.counts.Pushes++
	w.number(p.Seq, p.Seq)
	if p.Count >= 0 {
		w.count(p, now)
	}
}

// number checks the numbers of a push or of a reset.
func (w *Witness) number(from, to uint64) {
	if w.lost {
		w.wrong("the session is new, and its loss was not announced before message %d", from)
		w.lost = false
	}
	if from != w.seq+1 || to < from {
		w.wrong("behind message %d came %d to %d", w.seq, from, to)
	}
	w.seq = max(w.seq, to)
}

func (w *Witness) count(p Push, now time.Time) {
	want := w.pushed + 1
	if p.Joined {
		want = w.pushed
	}
	switch {
	case w.pushed < 0:
	case p.Count < want:
		w.wrong("behind the push of %d came that of %d, twice or out of order", w.pushed, p.Count)
		return
	case p.Count > want && !w.excused:
		w.holes = append(w.holes, hole{w.pushed + 1, p.Count - 1, now})
	}
	w.pushed, w.excused = p.Count, false
}

// Reset takes the announcement of a loss.
func (w *Witness) Reset(r Reset, now time.Time) {
	w.counts.Resets++
	switch {
	case r.To != 0:
		w.number(r.From, r.To)
	case !w.lost:
		w.wrong("a session of which nothing was lost begins with a reset")
	case r.From != w.lostAt+1:
		w.wrong("the session was lost behind message %d, the reset says from %d", w.lostAt, r.From)
	}
	if r.To == 0 {
		w.lost = false
		w.counts.Anew++
	}
	if r.Reason == "" {
		w.wrong("a reset does not say why")
	}
	w.excused = true
	w.announced(now)
}

// announced closes the holes that came before their announcement.
func (w *Witness) announced(now time.Time) {
	for _, h := range w.holes {
		late := now.Sub(h.at)
		if late > Late {
			w.wrong("the pushes of %d to %d were lost; that was announced %v later", h.from, h.to, late)
		}
		w.counts.Late++
		w.counts.Latest = max(w.counts.Latest, late)
	}
	w.holes = nil
}

// Published takes what the subscription tells.
func (w *Witness) Published(p Published) {
	switch {
	case !w.told && (!p.Snapshot || p.Reset):
		w.wrong("a subscription does not begin with a snapshot")
	case w.told && p.Snapshot && !p.Reset:
		w.wrong("a snapshot comes again and is no reset")
	case p.Snapshot && p.Count < w.followed:
		w.wrong("the state went back from %d to %d", w.followed, p.Count)
	case !p.Snapshot && p.Version != w.version+1:
		w.wrong("behind version %d came %d", w.version, p.Version)
	case !p.Snapshot && p.Count != w.followed+1:
		w.wrong("behind the state %d came the change to %d", w.followed, p.Count)
	}
	switch {
	case !p.Snapshot:
		w.counts.Changes++
	case p.Reset:
		w.counts.Again++
	default:
		w.counts.Snapshots++
	}
	w.told, w.version, w.followed = true, p.Version, p.Count
}

// Ended takes the end of a subscription that nobody asked for.
func (w *Witness) Ended(why string) { w.wrong("the subscription has ended: %s", why) }

// Seen is the highest number that the client has heard of. What it is answered to a
// question that it asks now cannot be less.
func (w *Witness) Seen() int64 { return max(w.pushed, w.followed, w.looked) }

// Looked takes the answer to a question that was asked when the client had Seen seen.
func (w *Witness) Looked(count, seen int64) {
	if count < seen {
		w.wrong("the client had seen %d, asked, and was answered %d", seen, count)
	}
	w.looked = max(w.looked, count)
}

// Missing says what the client does not know yet of an object that counts truth and has
// come to rest; "": nothing.
func (w *Witness) Missing(truth int64) string {
	switch {
	case w.followed != truth:
		return fmt.Sprintf("the subscription is at %d of %d", w.followed, truth)
	case max(w.pushed, w.looked) != truth:
		return fmt.Sprintf("the pushes are at %d and the answer at %d of %d", w.pushed, w.looked, truth)
	}
	return ""
}

// End judges what is left, once everything has had its time.
func (w *Witness) End(truth int64) {
	if why := w.Missing(truth); why != "" {
		w.wrong("in the end %s", why)
	}
	for _, h := range w.holes {
		w.wrong("the pushes of %d to %d were lost, and nothing announced it", h.from, h.to)
	}
	w.holes = nil
}
