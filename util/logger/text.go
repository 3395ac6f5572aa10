package logger

import (
	"context"
	"io"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"
)

// nameKey is the attribute of a Logger's name.
const nameKey = "logger"

// textHandler writes "2006-01-02 15:04:05.000 INFO: [name] message key=value". No
// text can forge a line: a line break in a message, and below it a value of
// several lines such as a stack, go on indented by a tab.
type textHandler struct {
	level  slog.Leveler
	prefix string // of the keys of an open group: "group."
	attrs  []byte // of WithAttrs, already in their final form
	name   string
	below  []byte

	mu *sync.Mutex // serialises writes to w, for all handlers derived from one
	w  io.Writer
}

// NewTextHandler returns the handler of the text format.
func NewTextHandler(w io.Writer, level slog.Leveler) slog.Handler {
	return &textHandler{level: level, mu: new(sync.Mutex), w: w}
}

func (h *textHandler) Enabled(_ context.Context, level Level) bool { return level >= h.level.Level() }

func (h *textHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	if len(attrs) == 0 {
		return h
	}
	derived := *h
	l := line{attrs: slices.Clone(h.attrs), below: slices.Clone(h.below), name: h.name}
	for _, a := range attrs {
		l.add(h.prefix, a)
	}
	derived.attrs, derived.below, derived.name = l.attrs, l.below, l.name
	return &derived
}

func (h *textHandler) WithGroup(name string) slog.Handler {
	if name == "" {
		return h
	}
	derived := *h
	derived.prefix += name + "."
	return &derived
}

// line collects attributes.
type line struct {
	attrs []byte // " key=value key=value"
	below []byte // "\n\tkey:\n\tfirst line\n\tsecond line"
	name  string
}

var lines = sync.Pool{New: func() any { return new(line) }}

func (h *textHandler) Handle(_ context.Context, r slog.Record) error {
	l := lines.Get().(*line)
	defer lines.Put(l)
	l.attrs, l.below, l.name = append(l.attrs[:0], h.attrs...), append(l.below[:0], h.below...), h.name
	r.Attrs(func(a slog.Attr) bool { l.add(h.prefix, a); return true })

	out := make([]byte, 0, 64+len(r.Message)+len(l.attrs)+len(l.below))
	if !r.Time.IsZero() {
		out = r.Time.AppendFormat(out, "2006-01-02 15:04:05.000 ")
	}
	out = append(append(out, levelName(r.Level)...), ": "...)
	if l.name != "" {
		out = append(appendText(append(out, '['), l.name), "] "...)
	}
	out = appendText(out, r.Message)
	out = append(append(append(out, l.attrs...), l.below...), '\n')

	h.mu.Lock()
	defer h.mu.Unlock()
	_, err := h.w.Write(out)
	return err
}

func (l *line) add(prefix string, a slog.Attr) {
	value := a.Value.Resolve()
	switch {
	case value.Kind() == slog.KindGroup:
		if a.Key != "" {
			prefix += a.Key + "."
		}
		for _, inner := range value.Group() {
			l.add(prefix, inner)
		}
		return
	case a.Equal(slog.Attr{}):
		return
	case prefix == "" && a.Key == nameKey:
		l.name = value.String()
		return
	}
	text := valueText(value)
	if strings.Contains(text, "\n") {
		l.below = append(l.below, "\n\t"...)
		l.below = append(appendWord(l.below, prefix+a.Key), ":\n\t"...)
		l.below = appendText(l.below, strings.TrimRight(text, "\n"))
		return
	}
	l.attrs = append(appendWord(append(l.attrs, ' '), prefix+a.Key), '=')
	l.attrs = appendWord(l.attrs, text)
}

func valueText(v slog.Value) string {
	if v.Kind() == slog.KindTime {
		return v.Time().Format(time.RFC3339Nano)
	}
	return v.String()
}

// appendText appends s as it is, but for what would break or forge a line.
func appendText(b []byte, s string) []byte {
	for _, r := range s {
		switch {
		case r == '\n':
			b = append(b, "\n\t"...)
		case r == '\t' || unicode.IsPrint(r):
			b = utf8.AppendRune(b, r)
		default: // a terminal's control sequence, a carriage return
			quoted := strconv.QuoteRune(r)
			b = append(b, quoted[1:len(quoted)-1]...)
		}
	}
	return b
}

// appendWord appends s, quoted unless it is one plain word.
func appendWord(b []byte, s string) []byte {
	plain := s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return r == '"' || r == '=' || r == utf8.RuneError || !unicode.IsGraphic(r) || unicode.IsSpace(r)
	})
	if plain {
		return append(b, s...)
	}
	return strconv.AppendQuote(b, s)
}
