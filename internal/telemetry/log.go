// Package telemetry holds the listeners that make the engines' events visible.
package telemetry

import (
	"log/slog"

	"github.com/xiaonanln/goverse/internal/event"
	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/util/logger"
)

// LogOptions say what Log writes. The zero value is what a server does by default.
type LogOptions struct {
	// Operations writes a line for each call, at LevelInfo. It is off by default: a
	// line costs as much as a call.
	Operations bool
}

// Log returns a listener that writes events to l; nil is the default output. What
// comes in thousands, such as the shards that a node opens, becomes one line a
// second at most.
func Log(l *logger.Logger, o LogOptions) event.Listener {
	w := &lines{l: l}
	sums := &tally{l: l}
	audit := Audit(l)
	listener := event.Listener{
		LimitReached:       limits(sums),
		AccessDenied:       audit.AccessDenied,
		SensitiveOperation: audit.SensitiveOperation,
		ObjectCreated:      w.created,
		ObjectDeleted:      w.deleted,
		ObjectActivated:    w.activated,
		ObjectDeactivated:  w.deactivated,
		MethodPanicked:     w.panicked,
		MethodStuck:        w.stuck,
		MessageChanged:     w.changed,
		CommitDone:         w.committed,
		ShardOpened:        func(e event.ShardOpened) { sums.add(subject{logger.LevelInfo, "shards opened", ""}, 1) },
		ShardClosed:        func(e event.ShardClosed) { sums.add(subject{logger.LevelInfo, "shards closed", e.Reason}, 1) },
		HandoverDone: func(e event.HandoverDone) {
			if e.Err != nil {
				sums.add(subject{logger.LevelWarn, "hand-overs of shards failed and are tried again", ""}, 1)
			}
		},
		SessionOpened: w.sessionOpened,
		SessionClosed: w.sessionClosed,
		PushDropped:   func(e event.PushDropped) { sums.add(subject{logger.LevelWarn, "pushes dropped", e.Reason}, e.Count) },
		ViewChanged:   w.viewChanged,
		LeaderChanged: w.leaderChanged,
		Coordination:  w.coordination,
		Notice:        w.notice,
	}
	if o.Operations {
		listener.CallDone = w.called
	}
	return listener
}

// Limits is Log for limits that were reached, and nothing else.
func Limits(l *logger.Logger) event.Listener {
	return event.Listener{LimitReached: limits(&tally{l: l})}
}

func limits(sums *tally) func(event.LimitReached) {
	return func(e event.LimitReached) {
		sums.add(subject{levelOf(e.Limit), "limit reached", e.Limit.String()}, 1)
	}
}

// lines writes one line for an event. Each asks whether its level is on before it
// builds anything.
type lines struct{ l *logger.Logger }

func (w *lines) called(e event.CallDone) {
	if !w.l.Enabled(logger.LevelInfo) {
		return
	}
	attrs := []slog.Attr{slog.String("objType", e.Type), slog.String("id", e.ID), slog.String("method", e.Method)}
	if e.Err != nil {
		attrs = append(attrs, slog.Duration("took", e.Took), slog.String("outcome", fault.OutcomeOf(e.Err).String()), slog.Any("err", e.Err))
	}
	w.l.Log(logger.LevelInfo, "CallObject", attrs...)
}

func (w *lines) created(e event.ObjectCreated) {
	w.object(logger.LevelInfo, "CreateObject", e.Type, e.ID)
}

func (w *lines) deleted(e event.ObjectDeleted) {
	w.object(logger.LevelInfo, "DeleteObject", e.Type, e.ID)
}

func (w *lines) activated(e event.ObjectActivated) {
	w.object(logger.LevelDebug, "activated", e.Type, e.ID, slog.Bool("stored", e.Stored))
}

func (w *lines) deactivated(e event.ObjectDeactivated) {
	w.object(logger.LevelDebug, "deactivated", e.Type, e.ID, slog.String("reason", e.Reason))
}

func (w *lines) panicked(e event.MethodPanicked) {
	w.object(logger.LevelError, "panic", e.Type, e.ID, slog.String("method", e.Method),
		slog.Any("value", e.Value), slog.String("stack", string(e.Stack)))
}

func (w *lines) stuck(e event.MethodStuck) {
	more := []slog.Attr{slog.String("method", e.Method), slog.Duration("runs", e.Runs)}
	if len(e.Stacks) > 0 {
		more = append(more, slog.String("stack", string(e.Stacks)))
	}
	w.object(logger.LevelError, "a method does not end", e.Type, e.ID, more...)
}

func (w *lines) changed(e event.MessageChanged) {
	w.object(logger.LevelWarn, "a message that is shared was changed", e.Type, e.ID,
		slog.String("method", e.Method), slog.String("message", e.Message), slog.String("was", e.Role))
}

func (w *lines) object(level logger.Level, message, objType, id string, more ...slog.Attr) {
	if w.l.Enabled(level) {
		w.l.Log(level, message, append([]slog.Attr{slog.String("objType", objType), slog.String("id", id)}, more...)...)
	}
}

func (w *lines) committed(e event.CommitDone) {
	if e.Err != nil {
		w.l.Log(logger.LevelWarn, "commit failed", slog.Int("objects", e.Objects), slog.Duration("took", e.Took), slog.Any("err", e.Err))
	}
}

func (w *lines) sessionOpened(e event.SessionOpened) {
	if w.l.Enabled(logger.LevelInfo) {
		w.l.Log(logger.LevelInfo, "client connected", slog.String("client", e.ClientID))
	}
}

func (w *lines) sessionClosed(e event.SessionClosed) {
	if w.l.Enabled(logger.LevelInfo) {
		w.l.Log(logger.LevelInfo, "client disconnected", slog.String("client", e.ClientID), slog.String("reason", e.Reason))
	}
}

func (w *lines) viewChanged(e event.ViewChanged) {
	if w.l.Enabled(logger.LevelDebug) {
		w.l.Log(logger.LevelDebug, "view changed", slog.Int64("revision", e.Revision))
	}
}

func (w *lines) leaderChanged(e event.LeaderChanged) {
	if e.Leader == "" { // for a moment, in any change of leaders; what waits for one says so
		w.l.Log(logger.LevelDebug, "no leader", slog.Int64("term", e.Term))
		return
	}
	w.l.Log(logger.LevelInfo, "leader changed", slog.String("leader", e.Leader), slog.Int64("term", e.Term))
}

func (w *lines) coordination(e event.Coordination) {
	level := logger.LevelDebug
	if e.Err != nil {
		level = logger.LevelWarn
	}
	if !w.l.Enabled(level) {
		return
	}
	message := e.Step
	if e.Detail != "" {
		message += ": " + e.Detail
	}
	if e.Err != nil {
		message += ": " + e.Err.Error()
	}
	w.l.Log(level, message)
}

func (w *lines) notice(e event.Notice) {
	level := logger.LevelInfo
	switch e.Severity {
	case event.Warn:
		level = logger.LevelWarn
	case event.Alarm:
		level = logger.LevelError
	}
	if w.l.Enabled(level) {
		w.l.Log(level, e.String())
	}
}

// levelOf is Info where only the caller of one call has something to mend.
func levelOf(l event.Limit) logger.Level {
	switch l {
	case event.ObjectID, event.MessageBytes, event.DeadlineBefore, event.DeadlineBehind, event.LargeState:
		return logger.LevelInfo
	}
	return logger.LevelWarn
}
