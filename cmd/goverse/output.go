package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"unicode"
)

// answer is what a command shows: a value that becomes JSON with stable names, and
// that writes itself for people.
type answer interface{ table(w io.Writer) }

// show prints an answer in the format that was asked for.
func (p *program) show(a answer) error {
	if p.flags.output == "json" {
		return writeJSON(p.out, a)
	}
	var b bytes.Buffer
	a.table(&b)
	_, err := p.out.Write(b.Bytes())
	return err
}

func writeJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// columns aligns rows; the first is the heading.
func columns(w io.Writer, rows [][]string) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, row := range rows {
		for i := range row {
			row[i] = clean(row[i])
		}
		fmt.Fprintln(t, strings.Join(row, "\t"))
	}
	t.Flush()
}

// clean is s without what would move a terminal's cursor, or worse: what is in etcd
// may be anything.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) {
			return unicode.ReplacementChar
		}
		return r
	}, s)
}
