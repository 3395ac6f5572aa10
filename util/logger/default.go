package logger

import (
	"context"
	"io"
	"log/slog"
	"os"
	"sync/atomic"
)

// Level ranks lines. It is slog's.
type Level = slog.Level

// The levels. The default output starts at LevelInfo.
const (
	LevelDebug = slog.LevelDebug
	LevelInfo  = slog.LevelInfo
	LevelWarn  = slog.LevelWarn
	LevelError = slog.LevelError
	LevelFatal = slog.LevelError + 4
	LevelOff   = slog.LevelError + 100 // for SetLevel: nothing is written
)

// everything is below each level that anyone uses.
const everything = slog.LevelDebug - 100

// The default output. Both are read by every line and written by a program's main.
var (
	threshold atomic.Int64 // a Level; zero is LevelInfo
	chosen    atomic.Pointer[slog.Logger]
	stderr    = slog.New(NewTextHandler(os.Stderr, defaultLevel{}))
)

type defaultLevel struct{}

func (defaultLevel) Level() Level { return Level(threshold.Load()) }

func output() *slog.Logger {
	if s := chosen.Load(); s != nil {
		return s
	}
	return stderr
}

// SetLevel sets the level below which the default output writes nothing.
func SetLevel(level Level) { threshold.Store(int64(level)) }

// UseText makes text lines to w the default output. Each line is one Write, and
// never two at a time.
func UseText(w io.Writer) { chosen.Store(slog.New(NewTextHandler(w, defaultLevel{}))) }

// UseJSON makes lines of JSON to w the default output.
func UseJSON(w io.Writer) {
	chosen.Store(slog.New(slog.NewJSONHandler(w, &slog.HandlerOptions{Level: defaultLevel{}, ReplaceAttr: nameLevel})))
}

// Use makes the program's own s the default output, nil the standard one again.
// From then on s decides what is written; a later SetLevel narrows it.
func Use(s *slog.Logger) {
	chosen.Store(s)
	if s == nil {
		SetLevel(LevelInfo)
		return
	}
	SetLevel(everything)
}

func nameLevel(groups []string, a slog.Attr) slog.Attr {
	if level, ok := a.Value.Any().(Level); ok && len(groups) == 0 && a.Key == slog.LevelKey {
		a.Value = slog.StringValue(levelName(level))
	}
	return a
}

func levelName(level Level) string {
	if level == LevelFatal {
		return "FATAL"
	}
	return level.String()
}

// Enabled says whether the default output would write a line of this level. When
// it would not because of SetLevel, that costs one atomic load.
func Enabled(level Level) bool {
	return int64(level) >= threshold.Load() && output().Enabled(context.Background(), level)
}

// Debug writes a line at LevelDebug to the default output. It formats as
// fmt.Sprintf does, and only if the level is on.
func Debug(format string, args ...any) { (*Logger)(nil).printf(LevelDebug, format, args...) }

// Info writes a line at LevelInfo to the default output.
func Info(format string, args ...any) { (*Logger)(nil).printf(LevelInfo, format, args...) }

// Warn writes a line at LevelWarn to the default output.
func Warn(format string, args ...any) { (*Logger)(nil).printf(LevelWarn, format, args...) }

// Error writes a line at LevelError to the default output.
func Error(format string, args ...any) { (*Logger)(nil).printf(LevelError, format, args...) }
