package node

import "time"

// lag is since when answered changes of a periodic object are not durable: the oldest
// of them, in each place where it can be. Zero times are none. It belongs to late.
type lag struct {
	changed time.Time // not handed over yet
	waiting time.Time // in the state that waits for its save
	flying  time.Time // in the save on its way
}

// touch notes that a call has changed a periodic object, and is about to be answered.
func (s *saving) touch(now time.Time) {
	s.touches++
	if !s.dirty {
		s.dirty, s.lateness().changed = true, now
	}
}

// unsavedLocked says whether what is seen of a periodic object now may not be stored yet.
// a.mu is held.
func (a *activation) unsavedLocked() bool {
	if a.save.dirty || a.save.seq > a.save.durable {
		return true
	}
	for f := a.frames.head; f != nil; f = f.next {
		if path := f.info.Chain.Path; !path[len(path)-1].Shared { // it still runs, and may have changed something
			return true
		}
	}
	return false
}

// clean notes that the object's state has been handed over.
func (s *saving) clean() {
	s.dirty, s.due = false, false
	if s.late != nil {
		s.late.changed = time.Time{}
	}
}

// oldest is since when the oldest change has waited that is in the save on its way.
func (s *saving) oldest() time.Time {
	if s.late == nil {
		return time.Time{}
	}
	return s.late.flying
}

// offered moves what was changed into the state that waits.
func (l *lag) offered() { l.waiting = earlier(l.waiting, l.changed) }

// depart puts what waits on its way.
func (l *lag) depart() { l.flying, l.waiting = l.waiting, time.Time{} }

// returned takes back what did not become durable: to the state that waits, or to the
// one that is still to be handed over.
func (l *lag) returned(waiting bool) {
	if waiting {
		l.waiting = earlier(l.waiting, l.flying)
	} else {
		l.changed = earlier(l.changed, l.flying)
	}
	l.flying = time.Time{}
}

// lossWindow is how long the oldest of a batch's changes has waited.
func lossWindow(batch []flight, now time.Time) (longest time.Duration) {
	for _, f := range batch {
		if !f.oldest.IsZero() {
			longest = max(longest, now.Sub(f.oldest))
		}
	}
	return longest
}

// earlier is the earlier of two times, of which a zero one does not count.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}
