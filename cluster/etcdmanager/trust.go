package etcdmanager

import "time"

// trust is one promise of etcd, as this process may count on it: the lease was
// renewed by a request sent at sent, and holds for span from then on. It is a value.
//
// Counting from the send is what makes it safe: the server's own deadline is at
// least receive + TTL, which is not before sent + TTL.
type trust struct {
	sent   time.Time     // wall and monotonic
	boot   time.Duration // the boot clock at sent
	booted bool          // boot was read
	span   time.Duration // TTL - margin
}

// verdict is what time.Now alone can say of a trust.
type verdict uint8

const (
	over    verdict = iota // the promise has run out
	holds                  // it stands
	unclear                // the clocks disagree: ask the boot clock
)

// clockSlack is how far the wall clock and the monotonic clock may drift apart
// within one promise and still count as agreeing. The margin covers it ten times.
const clockSlack = 50 * time.Millisecond

// margin is kept back of a TTL: it covers a clock that is 1 % off, scheduling, and
// the gap between a check and what is done on it.
func margin(ttl time.Duration) time.Duration { return max(500*time.Millisecond, ttl/10) }

func newTrust(sent time.Time, boot time.Duration, booted bool, ttl time.Duration) trust {
	return trust{sent: sent, boot: boot, booted: booted, span: ttl - margin(ttl)}
}

// until is the deadline.
func (t trust) until() time.Time { return t.sent.Add(t.span) }

// stands says whether the promise holds now.
func (t trust) stands() bool {
	switch t.at(time.Now()) {
	case holds:
		return true
	case unclear:
		return t.atBoot(boottime())
	}
	return false
}

// at judges by both parts of now. The monotonic part never runs ahead of real time
// but stands still while the machine is suspended; the wall part may be set.
func (t trust) at(now time.Time) verdict {
	return t.after(now.Sub(t.sent), time.Duration(now.UnixNano()-t.sent.UnixNano()))
}

func (t trust) after(monotonic, wall time.Duration) verdict {
	apart := wall - monotonic
	switch {
	case monotonic >= t.span:
		return over
	case apart > clockSlack || apart < -clockSlack:
		return unclear
	case wall >= t.span:
		return over
	}
	return holds
}

// atBoot judges by the boot clock, which neither stops nor is set. Without one
// there is no trust until the next renewal, half a second later.
func (t trust) atBoot(boot time.Duration, ok bool) bool {
	return ok && t.booted && boot >= t.boot && boot-t.boot < t.span
}
