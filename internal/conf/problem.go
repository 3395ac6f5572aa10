package conf

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Problem is one thing that is wrong with a file, and what to do about it.
type Problem struct {
	File string `json:"file"`
	Line int    `json:"line"` // 0: the file as a whole
	Path string `json:"key"`  // as in nodes[1].grpc_addr; empty: the file as a whole
	Text string `json:"problem"`
}

// Error is the problem as compilers write theirs.
func (p Problem) Error() string {
	var b strings.Builder
	b.WriteString(p.File)
	if p.Line > 0 {
		fmt.Fprintf(&b, ":%d", p.Line)
	}
	b.WriteString(": ")
	if p.Path != "" {
		b.WriteString(p.Path + ": ")
	}
	b.WriteString(p.Text)
	return b.String()
}

// Problems is all that is wrong with a file, in its order, as one error.
type Problems []Problem

// Error has a line for each problem.
func (p Problems) Error() string {
	lines := make([]string, len(p))
	for i := range p {
		lines[i] = p[i].Error()
	}
	return strings.Join(lines, "\n")
}

// orNil is p in the order of its lines, nil if there are none.
func (p Problems) orNil() error {
	if len(p) == 0 {
		return nil
	}
	slices.SortStableFunc(p, func(a, b Problem) int { return cmp.Compare(a.Line, b.Line) })
	return p
}

// Each is the problems in err, which may be joined of several, in their order; others
// than a Problem are of the file as a whole.
func Each(file string, err error) (list []error) {
	switch e := err.(type) {
	case nil:
		return nil
	case Problems:
		for _, p := range e {
			list = append(list, p)
		}
		return list
	case Problem, UnknownFlag:
		return []error{e}
	case interface{ Unwrap() []error }:
		for _, one := range e.Unwrap() {
			list = append(list, Each(file, one)...)
		}
		return list
	default:
		return []error{Problem{File: file, Text: err.Error()}}
	}
}

// nearest is the name that whoever wrote word may have meant; "" if none is close.
func nearest(word string, names []string) string {
	best, least := "", max(1, min(len(word), 40)/3)+1
	for _, name := range names {
		if d := distance(strings.ToLower(word), name); d < least {
			best, least = name, d
		}
	}
	return best
}

// distance is how many letters are to be added, left out or changed.
func distance(a, b string) int {
	if len(a) > 64 || len(b) > 64 {
		return 64
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}

// suggestion goes on after "there is no such key".
func suggestion(word string, names []string) string {
	if near := nearest(word, names); near != "" {
		return "; did you mean " + near + "?"
	}
	if len(names) > 12 {
		return ""
	}
	return "; there are " + strings.Join(names, ", ")
}
