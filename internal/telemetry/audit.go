package telemetry

import (
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/xiaonanln/goverse/internal/event"
	"github.com/xiaonanln/goverse/util/logger"
)

// Bounds of what strangers can have written about them.
const (
	auditLines = 20  // lines a second; what is more is counted in one
	auditText  = 128 // bytes of a name that they chose
)

// Audit is Log for who was refused and what was let through that is sensitive, and
// nothing else. Each is a line with the same keys always, those without a value left out:
// where, reason or operation, client, user, from, objType, id, method, rule, err. A
// stranger can have no more than 20 lines a second written, and 128 bytes in each place.
func Audit(l *logger.Logger) event.Listener {
	a := &audit{l: l, sums: &tally{l: l}}
	return event.Listener{AccessDenied: a.denied, SensitiveOperation: a.sensitive}
}

// audit writes lines while it may.
type audit struct {
	l    *logger.Logger
	sums *tally

	mu    sync.Mutex
	since time.Time // the running second
	lines int       // written in it
}

func (a *audit) denied(e event.AccessDenied) {
	const message = "access denied"
	if !a.may() {
		a.sums.add(subject{logger.LevelWarn, message + ", and not told one by one", e.Why.String()}, 1)
		return
	}
	attrs := []slog.Attr{slog.String("where", e.Where.String()), slog.String("reason", e.Why.String())}
	attrs = appendSubject(attrs, e.Client, e.User, e.From, e.Type, e.ID, e.Method)
	if e.Rule > 0 {
		attrs = append(attrs, slog.Int("rule", e.Rule))
	}
	if e.Err != nil {
		attrs = append(attrs, slog.String("err", bounded(e.Err.Error(), 2*auditText)))
	}
	a.l.Log(logger.LevelWarn, message, attrs...)
}

func (a *audit) sensitive(e event.SensitiveOperation) {
	const message = "sensitive operation"
	if !a.l.Enabled(logger.LevelInfo) {
		return
	}
	if !a.may() {
		a.sums.add(subject{logger.LevelInfo, message + "s, not told one by one", e.What.String()}, 1)
		return
	}
	attrs := []slog.Attr{slog.String("where", e.Where.String()), slog.String("operation", e.What.String())}
	a.l.Log(logger.LevelInfo, message, appendSubject(attrs, e.Client, e.User, e.From, e.Type, e.ID, "")...)
}

// may counts a line in.
func (a *audit) may() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if now := time.Now(); now.Sub(a.since) >= time.Second {
		a.since, a.lines = now, 0
	}
	a.lines++
	return a.lines <= auditLines
}

// appendSubject adds what has a value.
func appendSubject(attrs []slog.Attr, client, user, from, typ, id, method string) []slog.Attr {
	for _, a := range [...]struct{ key, value string }{
		{"client", client}, {"user", user}, {"from", from}, {"objType", typ}, {"id", id}, {"method", method},
	} {
		if a.value != "" {
			attrs = append(attrs, slog.String(a.key, bounded(a.value, auditText)))
		}
	}
	return attrs
}

// bounded is the beginning of a text, in one line.
func bounded(s string, most int) string {
	if len(s) > most {
		s = s[:most] + "…"
	}
	if strings.ContainsAny(s, "\r\n") {
		return strconv.Quote(s)
	}
	return strings.ToValidUTF8(s, "\uFFFD")
}
