package meter

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Quantiles are those of a sorted list, but for the width of a bucket.
func TestHistogramAgainstASortedList(t *testing.T) {
	chance := rand.New(rand.NewPCG(1, 2))
	var h, other Histogram
	var list []time.Duration
	for i := range 10_000 {
		d := time.Duration(chance.Uint64() >> (1 + chance.IntN(63)))
		list = append(list, d)
		if i%3 == 0 {
			other.Record(d)
		} else {
			h.Record(d)
		}
	}
	h.Add(&other)
	slices.Sort(list)
	if h.Count() != len(list) || h.Max() != list[len(list)-1] {
		t.Fatalf("%d durations up to %v, want %d up to %v", h.Count(), h.Max(), len(list), list[len(list)-1])
	}
	for _, q := range []float64{0, 0.001, 0.5, 0.9, 0.99, 0.999, 1} {
		want := list[min(int(q*float64(len(list))), len(list)-1)]
		if got := h.Quantile(q); got < want || float64(got) > float64(want)*(1+1.0/64) {
			t.Errorf("quantile %v is %d, want %d", q, got, want)
		}
	}
}

// Every duration lies between the top of its bucket and that of the one before.
func TestBucketsAreWithoutGaps(t *testing.T) {
	for shift := range 63 {
		for _, d := range []time.Duration{1<<shift - 1, 1 << shift, 1<<shift + 1, 3 << shift / 2} {
			b := bucket(d)
			if d > top(b) || b > 0 && d <= top(b-1) {
				t.Errorf("%d is in bucket %d, which ends at %d", d, b, top(b))
			}
		}
	}
}

func TestEmptyHistogram(t *testing.T) {
	var h Histogram
	if h.Quantile(0.5) != 0 || h.Max() != 0 {
		t.Error("there is something in nothing")
	}
	h.Record(-1)
	if h.Count() != 1 || h.Quantile(1) != 0 {
		t.Error("a negative duration is not 0")
	}
}

// Each caller has one call under way at a time, and as many as it has time for.
func TestClosedLoop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		calls := map[int]int{}
		s, err := Load{Callers: 3, Window: 10 * time.Second}.Run(t.Context(), func(_ context.Context, caller, n int) error {
			mu.Lock()
			if calls[caller] != n {
				t.Errorf("caller %d makes call %d after %d others", caller, n, calls[caller])
			}
			calls[caller]++
			mu.Unlock()
			sleep(time.Second)
			return nil
		})
		if err != nil || len(calls) != 3 || s.Latency.Count() != 30 || s.Took != 10*time.Second || s.Rate() != 3 {
			t.Errorf("%+v, %v, callers %v", s, err, calls)
		}
		if q := s.Latency.Quantile(0.5); q < time.Second || q > 1016*time.Millisecond {
			t.Errorf("a call took %v", q)
		}
	})
}

// One slow call makes the ones planned behind it late, and that is in their latency.
func TestOpenLoopHidesNoWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, err := Load{Callers: 1, Window: 10 * time.Second, Rate: 1}.Run(t.Context(), func(_ context.Context, _, n int) error {
			if n == 2 {
				sleep(5 * time.Second)
			}
			return nil
		})
		// Planned at 0 to 9 s. The call at 2 s blocks until 7 s: 5, then 4, 3, 2, 1 and 0 s.
		if err != nil || s.Latency.Count() != 10 || s.Latency.Max() != 5*time.Second || s.Unsent != 0 {
			t.Fatalf("%+v, %v", s, err)
		}
		if late := s.Late.Max(); late != 4*time.Second {
			t.Errorf("the latest call was made %v after its time", late)
		}
		var waited int
		for q := 0.05; q < 1; q += 0.1 {
			if s.Latency.Quantile(q) >= time.Second {
				waited++
			}
		}
		if waited != 5 {
			t.Errorf("%d of ten calls took a second or more, want 5", waited)
		}
	})
}

// A service that is too slow for its plan is not waited for without end.
func TestOpenLoopCountsWhatWasNeverSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, err := Load{Callers: 2, Window: 10 * time.Second, Rate: 10}.Run(t.Context(), func(context.Context, int, int) error {
			sleep(time.Second)
			return nil
		})
		if err != nil || s.Latency.Count()+s.Unsent != 100 || s.Unsent < 50 || s.Late.Count() != 100 {
			t.Errorf("%d calls, %d unsent, %d times late, %v", s.Latency.Count(), s.Unsent, s.Late.Count(), err)
		}
		if s.Late.Max() < 15*time.Second {
			t.Errorf("the latest call was %v late", s.Late.Max())
		}
	})
}

// With enough callers an open loop keeps its plan whatever the answers take.
func TestOpenLoopKeepsItsPlan(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		var at atomic.Int64
		s, err := Load{Callers: 8, Window: time.Second, Rate: 4}.Run(t.Context(), func(context.Context, int, int) error {
			at.Add(int64(time.Since(began)))
			sleep(1500 * time.Millisecond)
			return nil
		})
		if err != nil || s.Latency.Count() != 4 || s.Late.Max() > time.Millisecond {
			t.Errorf("%d calls, at most %v late, %v", s.Latency.Count(), s.Late.Max(), err)
		}
		if sum := time.Duration(at.Load()); sum < 1500*time.Millisecond || sum > 1504*time.Millisecond {
			t.Errorf("the calls were made at %v in sum, want 0 + 250 + 500 + 750 ms", sum)
		}
	})
}

func TestFailures(t *testing.T) {
	broken := errors.New("broken")
	t.Run("are counted, and are no latencies", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s, err := Load{Callers: 2, Window: 10 * time.Second}.Run(t.Context(), func(_ context.Context, _, n int) error {
				sleep(time.Second)
				if n%2 == 1 {
					return broken
				}
				return nil
			})
			if err != nil || s.Failed != 10 || s.Latency.Count() != 10 || !errors.Is(s.Failure, broken) {
				t.Errorf("%+v, %v", s, err)
			}
		})
	})
	for _, rate := range []float64{0, 1e6} {
		t.Run("end a load that is broken", func(t *testing.T) {
			s, err := Load{Callers: 4, Window: time.Hour, Rate: rate}.Run(t.Context(), func(context.Context, int, int) error { return broken })
			if err != nil || s.Failed < tolerance || s.Failed > tolerance+4 || s.Latency.Count() != 0 {
				t.Errorf("%d failed, %d answered, %v", s.Failed, s.Latency.Count(), err)
			}
		})
	}
}

func TestLoadEndsWithItsContext(t *testing.T) {
	for _, rate := range []float64{0, 100} {
		ctx, stop := context.WithCancel(t.Context())
		var calls atomic.Int64
		s, err := Load{Callers: 4, Window: time.Hour, Rate: rate}.Run(ctx, func(ctx context.Context, _, _ int) error {
			if calls.Add(1) < 4 {
				return nil
			}
			stop()
			<-ctx.Done()
			return ctx.Err()
		})
		if !errors.Is(err, context.Canceled) || s.Failed != 0 || s.Latency.Count() < 3 {
			t.Errorf("%d answered, %d failed, %v", s.Latency.Count(), s.Failed, err)
		}
	}
}

func TestQuestionsAreTold(t *testing.T) {
	q := Question(60, 3, 4)
	if err := Check(q, Question(60, 3, 4)); err != nil {
		t.Error(err)
	}
	for _, wrong := range []any{Question(60, 4, 3), Question(59, 3, 4), Question(60, 3, 5), wrapperspb.String("x"), nil, (*wrapperspb.BytesValue)(nil)} {
		if err := Check(q, wrong); err == nil {
			t.Errorf("%v was taken for an echo", wrong)
		}
	}
}

func TestSpread(t *testing.T) {
	of := func(list ...float64) string { return SpreadOf(list, func(v float64) float64 { return v }).String() }
	for want, got := range map[string]string{
		"0.00": of(), "2.00": of(2), "2.50 (1.00–4.00)": of(4, 1, 2, 3), "100 (99.9–12.3k)": of(12345, 99.94, 100.2), "1.23M (100k–4.57M)": of(4567890, 99_960, 1234567),
	} {
		if got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

func TestUsed(t *testing.T) {
	before := Used()
	for Used() == before {
		_ = strings.Repeat("x", 1000)
	}
}

// sleep is time in a bubble.
func sleep(d time.Duration) { time.Sleep(d) }
