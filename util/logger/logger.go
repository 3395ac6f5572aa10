// Package logger writes the lines that people read. It is a thin shorthand over
// log/slog: text by default, JSON on request, or a program's own *slog.Logger.
//
//	logger.Info("listening on %s", address)
//	rooms := logger.NewLogger("rooms")
//	rooms.Warnf("%s is full", name)
//
// The default output and its level are this package's only state, and they are the
// process's, like standard error itself. Everything here may be called
// concurrently. Engines do not log: they emit events (internal/event), and a
// listener writes them here.
package logger

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"time"
)

// Logger writes lines under a name. It is three words and holds no buffer, so a
// million objects may have one each. A nil *Logger writes to the default output
// without a name.
type Logger struct {
	name fmt.Stringer // asked for when a line is written; nil for none
	out  *slog.Logger // nil for the default output
}

// NewLogger returns a logger whose lines carry prefix: in the text format
// "INFO: [prefix] text", elsewhere the attribute "logger".
func NewLogger(prefix string) *Logger {
	if prefix == "" {
		return new(Logger)
	}
	return (*Logger)(nil).For(prefixed(prefix))
}

// New returns a logger that writes to out, whatever the default output is.
func New(out *slog.Logger) *Logger { return &Logger{out: out} }

// For returns a logger to the same output whose lines carry the name of subject.
// The name is built only when a line is written.
func (l *Logger) For(subject fmt.Stringer) *Logger {
	named := &Logger{name: subject}
	if l != nil {
		named.out = l.out
	}
	return named
}

type prefixed string

func (p prefixed) String() string { return string(p) }

// Enabled says whether a line of this level would be written. When the default
// output's level is above it, that costs one atomic load.
func (l *Logger) Enabled(level Level) bool {
	if l != nil && l.out != nil {
		return l.out.Enabled(context.Background(), level)
	}
	return Enabled(level)
}

// Debugf writes a line at LevelDebug. Like all of its kind it formats as
// fmt.Sprintf does, and only if the level is on.
func (l *Logger) Debugf(format string, args ...any) { l.printf(LevelDebug, format, args...) }

// Infof writes a line at LevelInfo.
func (l *Logger) Infof(format string, args ...any) { l.printf(LevelInfo, format, args...) }

// Warnf writes a line at LevelWarn.
func (l *Logger) Warnf(format string, args ...any) { l.printf(LevelWarn, format, args...) }

// Errorf writes a line at LevelError.
func (l *Logger) Errorf(format string, args ...any) { l.printf(LevelError, format, args...) }

// Say writes text as it is, at LevelWarn if something is wrong, else at LevelInfo.
func (l *Logger) Say(wrong bool, text string) {
	if wrong {
		l.printf(LevelWarn, "%s", text)
	} else {
		l.printf(LevelInfo, "%s", text)
	}
}

// Fatalf writes a line at LevelFatal and ends the process with exit code 1.
// Deferred functions do not run: it is for a program's main, never for a library.
func (l *Logger) Fatalf(format string, args ...any) {
	l.printf(LevelFatal, format, args...)
	os.Exit(1)
}

func (l *Logger) printf(level Level, format string, args ...any) {
	if l.Enabled(level) {
		l.write(level, fmt.Sprintf(format, args...), nil)
	}
}

// Log writes a line with attributes: in the text format "INFO: message key=value".
func (l *Logger) Log(level Level, message string, attrs ...slog.Attr) {
	if l.Enabled(level) {
		l.write(level, message, attrs)
	}
}

func (l *Logger) write(level Level, message string, attrs []slog.Attr) {
	out := output()
	record := slog.NewRecord(time.Now(), level, message, 0)
	if l != nil {
		if l.out != nil {
			out = l.out
		}
		if l.name != nil {
			record.AddAttrs(slog.String(nameKey, l.name.String()))
		}
	}
	record.AddAttrs(attrs...)
	// A line that cannot be written has nowhere to be reported.
	_ = out.Handler().Handle(context.Background(), record)
}
