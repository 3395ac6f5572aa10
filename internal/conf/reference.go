package conf

import (
	"fmt"
	"strings"
)

// Reference is docs/reference/config.md.
func Reference() string {
	var b strings.Builder
	b.WriteString(referenceHead)
	writeRows(&b, "")
	for _, f := range fields {
		if f.group {
			fmt.Fprintf(&b, "\n## `%s`\n\n%s%s\n\n", f.path, f.doc, changes(f))
			writeRows(&b, f.path)
		}
	}
	return b.String()
}

// writeRows writes the keys of a group that have no keys of their own.
func writeRows(b *strings.Builder, group string) {
	b.WriteString(rowsHead)
	for _, f := range fields {
		if parentOf(f.path) == group && !f.group {
			b.WriteString(f.row())
		}
	}
}

const referenceHead = `<!-- Written by internal/conf from the tags of its structs; go test ./internal/conf -update writes it anew. -->
# Configuration

One YAML file describes a cluster. A node program reads it with ` + "`--config FILE --node-id ID`" + `, a gate with
` + "`--config FILE --gate-id ID`" + `. For each value the first of these sources that has it counts:

1. the flag on the command line, as ` + "`--etcd-prefix /team`" + `
2. the environment, as ` + "`GOVERSE_ETCD_PREFIX=/team`" + `: each flag has a variable; an empty one is none
3. the file
4. the default

` + "`goverse config check FILE`" + ` tells all that is wrong with a file, with its lines; ` + "`goverse config show`" + ` tells each value and where it
came from. The file is strict: a key that is not listed here, a key that is there twice, a value of another type, an anchor, an
alias, a tag and a second document are errors.

A running program reads the file again when it changes, within 2 s, and on SIGHUP. It takes up what is marked *now*, says of each other
change when it will count, and keeps all its values when the file is wrong.

`

const rowsHead = "| key | type | flag | default | a change counts | meaning |\n|---|---|---|---|---|---|\n"

func (f field) row() string {
	flag, standard := "", ""
	if f.flag != "" {
		flag = "`--" + f.flag + "`"
		if f.standard != "" {
			standard = "`" + f.standard + "`"
		}
	}
	name := f.path[strings.LastIndex(f.path, ".")+1:]
	return fmt.Sprintf("| `%s` | %s | %s | %s | %s | %s |\n", name, f.kind, flag, standard, when[f.reload], f.doc)
}

var when = map[string]string{Now: "now", Restart: "at a restart", Never: "in a new cluster"}

func changes(f field) string {
	if f.kind != "list" || f.reload != Now {
		return ""
	}
	return " A change counts now."
}

func parentOf(path string) string { return path[:max(0, strings.LastIndex(path, "."))] }
