package node

import (
	"math/rand/v2"
	"testing"
	"time"
)

// feed shows the gradient a closed loop of so many callers, every 50 ms for d.
func (g *gradient) feed(now *time.Duration, d time.Duration, p99 time.Duration, peak int) {
	for end := *now + d; *now < end; {
		*now += windowMin
		g.observe(*now, loop(p99, min(peak, g.limit)))
	}
}

// loop is a window in which so many were in flight all the time.
func loop(p99 time.Duration, peak int) window {
	return window{age: windowMin, p99: p99, done: int(float64(peak) * float64(windowMin) / float64(p99)), peak: peak}
}

func TestGradient(t *testing.T) {
	ms := time.Millisecond
	type phase struct {
		d, p99 time.Duration
		peak   int
	}
	atEase := phase{5 * time.Second, 10 * ms, 20}
	for _, c := range []struct {
		name   string
		max    int
		phases []phase
		want   int
		usual  time.Duration // within a tenth; 0: whatever
	}{
		{"nothing seen", 8192, nil, 8192, 0},
		{"at ease", 8192, []phase{atEase}, 8192, 10 * ms},
		{"many at once, and quick", 8192, []phase{atEase, {time.Minute, 20 * ms, 8192}}, 8192, 10 * ms},
		{"a stall that passes", 8192, []phase{atEase, {450 * ms, 3 * time.Second, 5000}, {50 * ms, 10 * ms, 5000}, {450 * ms, 3 * time.Second, 5000}}, 8192, 10 * ms},
		{"slow: four times too long, so a quarter", 8192, []phase{atEase, {550 * ms, time.Second, 4000}}, 1000, 10 * ms},
		{"slow, down to the least", 8192, []phase{atEase, {550 * ms, time.Hour, 8192}}, 64, 10 * ms},
		{"slow, but few", 8192, []phase{atEase, {time.Minute, time.Hour, 64}}, 8192, time.Hour},
		{"slower than usual, but not slow", 8192, []phase{atEase, {time.Minute, 250 * ms, 8192}}, 8192, 10 * ms},
		{"always that slow", 8192, []phase{{5 * time.Second, 2 * time.Second, 20}, {time.Minute, 4 * time.Second, 8192}}, 8192, 2 * time.Second},
		{"a bound below the least", 10, []phase{atEase, {time.Minute, time.Hour, 11}}, 10, 0},
		{"well again", 8192, []phase{atEase, {550 * ms, time.Hour, 8192}, {3 * time.Second, 10 * ms, 20}}, 8192, 10 * ms},
		{"what lasts becomes usual", 8192, []phase{atEase, {time.Minute, 3 * time.Second, 8192}}, 8192, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			g, now := newGradient(c.max), time.Duration(0)
			for _, p := range c.phases {
				g.feed(&now, p.d, p.p99, p.peak)
			}
			if g.limit != c.want {
				t.Errorf("the limit is %d, want %d", g.limit, c.want)
			}
			if c.usual > 0 && (g.usual-c.usual).Abs() > c.usual/10 {
				t.Errorf("usual is %v, want %v", g.usual, c.usual)
			}
		})
	}
}

// Whatever is seen, the limit stays within its bounds, and falls only after half a
// second without a good window.
func TestGradientKeepsItsBounds(t *testing.T) {
	for seed := range uint64(200) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		max := 1 + rnd.IntN(10_000)
		g := newGradient(max)
		var now, good time.Duration
		for range 2000 {
			now += time.Duration(rnd.Int64N(int64(200 * time.Millisecond)))
			w := window{time.Duration(1 + rnd.Int64N(int64(2*time.Second))), 1 << rnd.IntN(40), rnd.IntN(20_000), rnd.IntN(12_000)}
			if rnd.IntN(4) > 0 {
				w.p99 += time.Second
			}
			before := g.limit
			fell := g.observe(now, w)
			switch bearable := 2 * g.usual; {
			case g.limit < min(64, max) || g.limit > max:
				t.Fatalf("seed %d: %d of %d", seed, g.limit, max)
			case fell != (g.limit < before):
				t.Fatalf("seed %d: from %d to %d, and it says %v", seed, before, g.limit, fell)
			case fell && now-good < slowFor:
				t.Fatalf("seed %d: it fell after %v", seed, now-good)
			case w.p99 <= slowAbove || w.p99 <= bearable:
				good = now
			}
		}
	}
}

// On a server of so many at a time the limit finds what keeps it busy, and the latency
// in bounds, and stays there.
func TestGradientFindsTheServersRoom(t *testing.T) {
	for _, c := range []struct {
		name    string
		each    time.Duration
		servers int
	}{{"quick", time.Millisecond, 8}, {"wide", 50 * time.Millisecond, 1000}, {"slow", time.Second, 100}} {
		t.Run(c.name, func(t *testing.T) {
			g, now := newGradient(8192), time.Duration(0)
			g.feed(&now, 5*time.Second, c.each, 10)
			took := func(inFlight int) time.Duration {
				return max(c.each, c.each*time.Duration(inFlight)/time.Duration(c.servers))
			}
			worst, least := time.Duration(0), 8192
			for step := range 20_000 {
				now += windowMin
				g.observe(now, loop(took(g.limit), g.limit))
				if step > 1000 {
					worst, least = max(worst, took(g.limit)), min(least, g.limit)
				}
			}
			if bound := 2 * max(slowAbove, slowerThan*c.each); worst > bound {
				t.Errorf("calls took up to %v, want %v at most", worst, bound)
			}
			if least < min(c.servers, 64) {
				t.Errorf("the limit fell to %d, below what %d servers do at once", least, c.servers)
			}
			t.Logf("%d to %v", least, worst)
		})
	}
}

func TestLatencies(t *testing.T) {
	for d := time.Duration(0); d < time.Hour; d += d/1000 + 1 {
		i := bucketOf(d)
		if end := bucketEnd(i); d > end || end-d > d/8 || i > 0 && d <= bucketEnd(i-1) {
			t.Fatalf("%v is in bucket %d, from %v to %v", d, i, bucketEnd(i-1), end)
		}
	}
	var l latencies
	if l.p99() != 0 {
		t.Error("the latency of nothing is", l.p99())
	}
	l.add(-1)
	l.add(1<<63 - 1) // fits
	if l.p99() < 1<<62 {
		t.Error("the longer of two is", l.p99())
	}
	l = latencies{}
	for i := range 1000 {
		l.add(time.Duration(i+1) * time.Millisecond)
	}
	if p := l.p99(); p < 990*time.Millisecond || p > 990*time.Millisecond*9/8 {
		t.Error("of 1 to 1000 ms it is", p)
	}
}
