package telemetry

import (
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/xiaonanln/goverse/internal/event"
)

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
