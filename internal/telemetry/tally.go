package telemetry

import (
	"log/slog"
	"sync"
	"time"

	"github.com/xiaonanln/goverse/util/logger"
)

// every is how long a tally gathers before it writes.
const every = time.Second

// tally counts events of a subject and writes the sum a second after the first.
type tally struct {
	l *logger.Logger

	mu     sync.Mutex
	counts map[subject]int // what was not written yet; each has a timer
}

type subject struct {
	level   logger.Level
	message string
	reason  string
}

func (t *tally) add(s subject, count int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.counts == nil {
		t.counts = map[subject]int{}
	}
	if _, waiting := t.counts[s]; !waiting {
		time.AfterFunc(every, func() { t.write(s) })
	}
	t.counts[s] += count
}

func (t *tally) write(s subject) {
	t.mu.Lock()
	count := t.counts[s]
	delete(t.counts, s)
	t.mu.Unlock()
	attrs := []slog.Attr{slog.Int("count", count)}
	if s.reason != "" {
		attrs = append(attrs, slog.String("reason", s.reason))
	}
	t.l.Log(s.level, s.message, attrs...)
}
