package embedded

import (
	"errors"
	"fmt"
	"runtime"
	"sync"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// doom turns etcd's way of dying into an error. etcd logs what it cannot go on from
// as fatal or panic, which would end this process: here it ends the goroutine, the
// server counts as failed, and whoever owns it hears why. Nothing else of etcd's log
// is written anywhere.
type doom struct {
	failed chan struct{}

	mu    sync.Mutex // protects following fields
	err   error      // why etcd failed
	doing string     // its last error line, for a start that hangs
}

func newDoom() *doom { return &doom{failed: make(chan struct{})} }

func (d *doom) logger() *zap.Logger {
	return zap.New(errorLines{d}, zap.WithFatalHook(d), zap.WithPanicHook(d))
}

// OnWrite is zap's hook for what is fatal.
func (d *doom) OnWrite(e *zapcore.CheckedEntry, fields []zapcore.Field) {
	d.fail(errors.New(line(e.Entry, fields)))
	runtime.Goexit()
}

// fail keeps the first reason.
func (d *doom) fail(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.err == nil {
		d.err = err
		close(d.failed)
	}
}

// reason is why etcd failed, or the last thing that it complained of.
func (d *doom) reason() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.err == nil && d.doing != "" {
		return errors.New(d.doing)
	}
	return d.err
}

// line is a log entry with its cause.
func line(e zapcore.Entry, fields []zapcore.Field) string {
	for _, f := range fields {
		if err, ok := f.Interface.(error); ok && f.Type == zapcore.ErrorType {
			return fmt.Sprintf("%s: %v", e.Message, err)
		}
	}
	return e.Message
}

// errorLines is a zap core that remembers the last error line.
type errorLines struct{ doom *doom }

func (errorLines) Enabled(l zapcore.Level) bool        { return l >= zapcore.ErrorLevel }
func (c errorLines) With([]zapcore.Field) zapcore.Core { return c }
func (errorLines) Sync() error                         { return nil }
func (c errorLines) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if c.Enabled(e.Level) {
		return ce.AddCore(e, c)
	}
	return ce
}

func (c errorLines) Write(e zapcore.Entry, fields []zapcore.Field) error {
	c.doom.mu.Lock()
	defer c.doom.mu.Unlock()
	c.doom.doing = line(e, fields)
	return nil
}
