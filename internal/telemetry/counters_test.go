package telemetry

import (
	"fmt"
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/xiaonanln/goverse/internal/event"
)

// Each limit has its line from the beginning, under a name of its own.
func TestCounters(t *testing.T) {
	var c Counters
	l := c.Listener()
	for range 3 {
		l.LimitReached(event.LimitReached{Limit: event.QueueBytes, Type: "Room", ID: "x"})
	}
	l.LimitReached(event.LimitReached{Limit: event.Retries})
	w := httptest.NewRecorder()
	c.ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	limits, _, more := strings.Cut(w.Body.String(), "# HELP goverse_access_denied_total")
	lines := strings.Split(strings.TrimSpace(limits), "\n")
	if !more || len(lines) != 2+event.NumLimits || lines[1] != "# TYPE goverse_limit_reached_total counter" {
		t.Error(w.Body)
	}
	seen := map[string]bool{}
	for i, line := range lines[2:] {
		name, n := event.Limit(i).String(), 0
		switch event.Limit(i) {
		case event.QueueBytes:
			n = 3
		case event.Retries:
			n = 1
		}
		if want := fmt.Sprintf("goverse_limit_reached_total{limit=%q} %d", name, n); line != want || name == "" || seen[name] {
			t.Errorf("%s; want %s", line, want)
		}
		seen[name] = true
	}
	if got := testing.AllocsPerRun(100, func() { l.LimitReached(event.LimitReached{}) }); got > 0 {
		t.Errorf("an event allocates %v times", got)
	}
}

// A limit that is reached ten thousand times is one line a second.
func TestLimitsInTheLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, written := record(slog.LevelInfo, LogOptions{})
		for range 10_000 {
			l.LimitReached(event.LimitReached{Limit: event.QueueCalls, Type: "Room", ID: "x"})
		}
		time.Sleep(every)
		synctest.Wait()
		l.LimitReached(event.LimitReached{Limit: event.ObjectID})
		time.Sleep(every)
		synctest.Wait()
		if got, want := written(), "WARN: limit reached count=10000 reason=queue_calls\nINFO: limit reached count=1 reason=object_id"; got != want {
			t.Errorf("got\n%s\nwant\n%s", got, want)
		}
	})
}
