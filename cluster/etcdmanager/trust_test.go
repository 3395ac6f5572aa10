package etcdmanager

import (
	"testing"
	"time"
)

func TestMargin(t *testing.T) {
	for ttl, want := range map[time.Duration]time.Duration{
		3 * time.Second: 500 * time.Millisecond, 5 * time.Second: 500 * time.Millisecond,
		10 * time.Second: time.Second, time.Minute: 6 * time.Second,
	} {
		if got := margin(ttl); got != want {
			t.Errorf("margin of %v: %v, want %v", ttl, got, want)
		}
	}
}

func TestTrustAfter(t *testing.T) {
	const s = time.Second
	trust := newTrust(time.Now(), 100*s, true, 5*s) // a span of 4.5 s
	for _, c := range []struct {
		name            string
		monotonic, wall time.Duration
		want            verdict
	}{
		{"at once", 0, 0, holds},
		{"just before the deadline", 4500*time.Millisecond - 1, 4500*time.Millisecond - 1, holds},
		{"at the deadline", 4500 * time.Millisecond, 4500 * time.Millisecond, over},
		{"long after", 60 * s, 60 * s, over},
		{"drift within the slack", s, s + clockSlack, holds},
		{"drift within the slack, backwards", s, s - clockSlack, holds},
		{"drift within the slack, over the deadline", 4499 * time.Millisecond, 4501 * time.Millisecond, over},
		{"suspended for 10 s, or the wall clock set forward", s, 11 * s, unclear},
		{"the wall clock set back", s, -3600 * s, unclear},
		{"the wall clock set back by the suspension almost", s, s + clockSlack + 1, unclear},
		{"over by the monotonic clock: nothing saves it", 5 * s, -3600 * s, over},
		{"over by the monotonic clock, wall far ahead", 5 * s, 3600 * s, over},
	} {
		if got := trust.after(c.monotonic, c.wall); got != c.want {
			t.Errorf("%s: %d, want %d", c.name, got, c.want)
		}
	}
}

func TestTrustAtBoot(t *testing.T) {
	const s = time.Second
	trust := newTrust(time.Now(), 100*s, true, 5*s)
	for _, c := range []struct {
		name string
		boot time.Duration
		ok   bool
		want bool
	}{
		{"the wall clock was set", 101 * s, true, true},
		{"suspended for 10 s", 111 * s, true, false},
		{"at the deadline", 104*s + 500*time.Millisecond, true, false},
		{"no boot clock", 101 * s, false, false},
		{"another boot", 3 * s, true, false},
	} {
		if got := trust.atBoot(c.boot, c.ok); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
	if newTrust(time.Now(), 0, false, 5*s).atBoot(s, true) {
		t.Error("trusted without a boot clock at the send")
	}
}

func TestTrustAtReadsBothPartsOfNow(t *testing.T) {
	sent := time.Now()
	trust := newTrust(sent, 0, false, 5*time.Second)
	if got := trust.at(sent.Add(time.Second)); got != holds {
		t.Errorf("both parts a second later: %d", got)
	}
	if got := trust.at(sent.Add(4500 * time.Millisecond)); got != over {
		t.Errorf("both parts at the deadline: %d", got)
	}
	if want := sent.Add(4500 * time.Millisecond); !trust.until().Equal(want) {
		t.Errorf("until %v, want %v", trust.until(), want)
	}
	// Wall only, a minute on: what a suspended machine's wall clock would say, with
	// no monotonic part to contradict it.
	if got := trust.at(sent.Round(0).Add(time.Minute)); got != over {
		t.Errorf("a minute later by the wall: %d", got)
	}
}

func TestBoottimeGoesOn(t *testing.T) {
	a, ok := boottime()
	if !ok {
		t.Skip("no boot clock is read on this system")
	}
	if b, _ := boottime(); b < a {
		t.Errorf("from %v to %v", a, b)
	}
}

func TestPatienceAllowsThreeAttempts(t *testing.T) {
	for _, ttl := range []time.Duration{MinTTL, DefaultTTL, time.Minute} {
		if got := 3 * patience(ttl); got > ttl-margin(ttl) {
			t.Errorf("TTL %v: three attempts take %v", ttl, got)
		}
	}
}

func BenchmarkTrusted(b *testing.B) {
	l := &Lease{}
	trust := newTrust(time.Now(), 0, false, time.Hour)
	l.trust.Store(&trust)
	for b.Loop() {
		if !l.Trusted() {
			b.Fatal("not trusted")
		}
	}
}

func TestTrustedDoesNotAllocate(t *testing.T) {
	l := &Lease{}
	boot, ok := boottime()
	good := newTrust(time.Now(), boot, ok, time.Hour)
	past := good
	past.span = -1 << 62 // over at once
	for name, trust := range map[string]*trust{"good": &good, "over": &past, "none": nil} {
		l.trust.Store(trust)
		if n := testing.AllocsPerRun(100, func() { l.Trusted() }); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

func TestEndpointsAreChecked(t *testing.T) {
	for endpoint, good := range map[string]bool{
		"127.0.0.1:2379": true, "localhost:2379": true, "[::1]:2379": true, "http://etcd:2379": true,
		"": false, "localhost": false, ":2379": false, "etcd:": false, "a b:1": false, "http://etcd:2379/v3": false,
		"https://etcd:2379": false, "user@etcd:2379": false, "a:1,b:2": false,
	} {
		if err := (Config{Endpoints: []string{endpoint}}).Validate(); (err == nil) != good {
			t.Errorf("%q: %v", endpoint, err)
		}
	}
	if err := (Config{}).Validate(); err == nil {
		t.Error("no endpoint at all")
	}
}

func TestBackoffDelay(t *testing.T) {
	b := Backoff{First: 20 * time.Millisecond, Max: time.Second}
	for attempt, full := range []time.Duration{20, 40, 80, 160, 320, 640, 1000, 1000} {
		full *= time.Millisecond
		if got := b.Delay(attempt, 0); got != full/2 {
			t.Errorf("attempt %d: at least %v, want %v", attempt, got, full/2)
		}
		if got := b.Delay(attempt, 0.999999); got < full*99/100 || got > full {
			t.Errorf("attempt %d: at most %v, want %v", attempt, got, full)
		}
	}
	if got := b.Delay(1<<40, 0); got != b.Max/2 {
		t.Errorf("after very many: %v", got)
	}
	huge := Backoff{First: 1, Max: 1<<63 - 1}
	if got := huge.Delay(1000, 0.5); got <= 0 {
		t.Errorf("overflow: %v", got)
	}
	if got := (Backoff{First: time.Minute, Max: time.Second}).Delay(0, 0); got != time.Second/2 {
		t.Errorf("First over Max: %v", got)
	}
}
