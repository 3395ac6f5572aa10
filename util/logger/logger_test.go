package logger

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"testing/slogtest"
	"unsafe"
)

// capture makes a buffer the default output and undoes it after the test.
func capture(t *testing.T, use func(io.Writer)) *bytes.Buffer {
	t.Helper()
	var b bytes.Buffer
	use(&b)
	t.Cleanup(func() { Use(nil) })
	return &b
}

// untimed drops the time that each line begins with.
func untimed(t *testing.T, lines string) string {
	t.Helper()
	const timestamp = len("2006-01-02 15:04:05.000 ")
	var out []string
	for _, l := range strings.SplitAfter(lines, "\n") {
		if l != "" && l[0] != '\t' {
			if len(l) < timestamp {
				t.Fatalf("no time in front of %q", l)
			}
			l = l[timestamp:]
		}
		out = append(out, l)
	}
	return strings.Join(out, "")
}

func TestTextLines(t *testing.T) {
	out := capture(t, UseText)
	SetLevel(LevelDebug)
	Info("Starting operation")
	Error("Operation failed: %v", errors.New("disk full"))
	Debug("Debug information: %s", "details")
	Warn("%d%%", 90)
	NewLogger("rooms").Warnf("%s is full", "general")
	(*Logger)(nil).Infof("a nil logger")
	new(Logger).Infof("a zero logger")
	(*Logger)(nil).Log(LevelInfo, "CallObject", slog.String("objType", "ChatRoom"),
		slog.String("id", "ChatRoom-general"), slog.String("method", "SendMessage"))
	(*Logger)(nil).Log(LevelError, "panic", slog.String("in", "A b"), slog.Any("err", errors.New("x=1")),
		slog.String("stack", "goroutine 1:\nmain.main()\n"), slog.String("none", ""), slog.Int("n", 7))
	Info("forged\n2030-01-01 00:00:00.000 ERROR: \x1b[31mred\r")
	NewLogger("a]\nERROR: b").Infof("x")
	want := "INFO: Starting operation\n" +
		"ERROR: Operation failed: disk full\n" +
		"DEBUG: Debug information: details\n" +
		"WARN: 90%\n" +
		"WARN: [rooms] general is full\n" +
		"INFO: a nil logger\n" +
		"INFO: a zero logger\n" +
		"INFO: CallObject objType=ChatRoom id=ChatRoom-general method=SendMessage\n" +
		"ERROR: panic in=\"A b\" err=\"x=1\" none=\"\" n=7\n\tstack:\n\tgoroutine 1:\n\tmain.main()\n" +
		"INFO: forged\n\t2030-01-01 00:00:00.000 ERROR: \\x1b[31mred\\r\n" +
		"INFO: [a]\n\tERROR: b] x\n"
	if got := untimed(t, out.String()); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

type loud struct{ t *testing.T }

func (l loud) String() string { l.t.Error("formatted for a level that is off"); return "" }

func TestLevelOffFormatsNothing(t *testing.T) {
	out := capture(t, UseText)
	Debug("%s", loud{t})
	NewLogger("x").Debugf("%s", loud{t})
	(*Logger)(nil).For(loud{t}).Debugf("x")
	SetLevel(LevelOff)
	Error("%s", loud{t})
	if out.Len() > 0 || Enabled(LevelFatal) {
		t.Errorf("written: %q", out)
	}
	l := NewLogger("x")
	if n := testing.AllocsPerRun(100, func() { l.Log(LevelInfo, "CallObject"); Info("x") }); n > 0 {
		t.Errorf("a line that is off allocates %v times", n)
	}
}

func TestJSON(t *testing.T) {
	out := capture(t, UseJSON)
	NewLogger("rooms").Log(LevelFatal, "two\nlines", slog.Int("n", 1))
	var got map[string]any
	if err := json.Unmarshal(out.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	if got["level"] != "FATAL" || got["msg"] != "two\nlines" || got["logger"] != "rooms" || got["n"] != 1.0 {
		t.Errorf("got %v", got)
	}
}

// A program's own slog.Logger decides by its own level; SetLevel narrows it.
func TestOwnSlog(t *testing.T) {
	var own bytes.Buffer
	s := slog.New(slog.NewJSONHandler(&own, &slog.HandlerOptions{Level: slog.LevelDebug}))
	capture(t, func(io.Writer) { Use(s) })
	Debug("one")
	SetLevel(LevelWarn)
	Info("two")
	if n := strings.Count(own.String(), "\n"); n != 1 {
		t.Errorf("%d lines: %s", n, &own)
	}
	SetLevel(LevelOff) // not New's business
	l := New(s).For(prefixed("x"))
	l.Debugf("three")
	if !strings.Contains(own.String(), `"three","logger":"x"`) || !l.Enabled(LevelDebug) {
		t.Errorf("New writes elsewhere: %s", &own)
	}
}

func TestFatalfEndsTheProcess(t *testing.T) {
	if os.Getenv("LOGGER_FATAL") != "" {
		NewLogger("x").Fatalf("no %s", "way")
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestFatalfEndsTheProcess$")
	cmd.Env = append(os.Environ(), "LOGGER_FATAL=1")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 1 || !strings.Contains(stderr.String(), "FATAL: [x] no way") {
		t.Errorf("ended with %v: %s", err, &stderr)
	}
}

// overlap fails when two lines are written at once.
type overlap struct {
	t     *testing.T
	busy  sync.Mutex
	lines int
}

func (o *overlap) Write(b []byte) (int, error) {
	if !o.busy.TryLock() {
		o.t.Error("two writes at once")
		return len(b), nil
	}
	defer o.busy.Unlock()
	if n := bytes.Count(b, []byte("\n")); n != 1 {
		o.t.Errorf("%d lines in one write: %q", n, b)
	}
	o.lines++
	return len(b), nil
}

func TestConcurrent(t *testing.T) {
	o := &overlap{t: t}
	capture(t, func(io.Writer) { UseText(o) })
	var done sync.WaitGroup
	for range 8 {
		done.Go(func() {
			l := NewLogger("l")
			for i := range 200 {
				SetLevel(LevelInfo)
				l.Log(LevelInfo, "line", slog.Int("i", i))
			}
		})
	}
	done.Wait()
	if o.lines != 1600 {
		t.Errorf("%d lines", o.lines)
	}
}

// The text handler keeps slog's contract.
func TestSlogContract(t *testing.T) {
	var b bytes.Buffer
	slogtest.Run(t, func(*testing.T) slog.Handler { b.Reset(); return NewTextHandler(&b, slog.LevelInfo) },
		func(t *testing.T) map[string]any { return parse(b.String()) })
}

func parse(line string) map[string]any {
	got := map[string]any{}
	head, rest, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
	if at := strings.LastIndex(head, " "); at >= 0 {
		got[slog.TimeKey], head = head[:at], head[at+1:]
	}
	got[slog.LevelKey] = head
	for i, word := range strings.Fields(rest) {
		key, value, ok := strings.Cut(word, "=")
		if !ok || i == 0 {
			got[slog.MessageKey] = word
			continue
		}
		at := got
		path := strings.Split(key, ".")
		for _, group := range path[:len(path)-1] {
			if at[group] == nil {
				at[group] = map[string]any{}
			}
			at = at[group].(map[string]any)
		}
		at[path[len(path)-1]] = value
	}
	return got
}

func TestLoggerIsSmall(t *testing.T) {
	if size := unsafe.Sizeof(Logger{}); size > 24 {
		t.Errorf("a Logger is %d bytes; a million objects hold one each", size)
	}
}

func BenchmarkOff(b *testing.B) {
	l := NewLogger("x")
	for b.Loop() {
		l.Debugf("text")
	}
}

func BenchmarkOperationLine(b *testing.B) {
	UseText(io.Discard)
	defer Use(nil)
	l := NewLogger("")
	for b.Loop() {
		l.Log(LevelInfo, "CallObject", slog.String("objType", "ChatRoom"), slog.String("id", "ChatRoom-general"), slog.String("method", "SendMessage"))
	}
}
