// Package conf reads a program's configuration from its four sources. A flag wins over
// the environment (--etcd-prefix is GOVERSE_ETCD_PREFIX), that over the cluster's file,
// and that over the default. What a key means and which flag it stands for is said once,
// in the tags of File.
//
// A program's flag set stays the place where its values are: Settle sets each flag that
// the command line left out, and says where each value came from.
package conf

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"
	"time"
)

// Document is a file that was read and found to be right.
type Document struct {
	File
	Name  string
	Lines Lines

	text []byte
}

// Read reads and checks the file at path.
func Read(path string) (*Document, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("the configuration cannot be read: %w", err)
	}
	return Parse(path, data)
}

// Parse checks the text of a file called name. The error is Problems: all that is wrong.
func Parse(name string, data []byte) (*Document, error) {
	d := &Document{Name: name, text: data}
	var err error
	d.Lines, err = Decode(name, data, &d.File)
	var problems Problems
	errors.As(err, &problems)
	problems = append(problems, d.check(problems)...)
	if err := problems.orNil(); err != nil {
		return nil, err
	}
	return d, nil
}

// Value is what a file says of one flag.
type Value struct {
	Flag, Text string
	Path       string // of the key
	File       string
	Line       int
	Shared     bool // the key is for more programs than this one: it need not have the flag
}

func (v Value) place() string { return fmt.Sprintf("%s:%d", v.File, v.Line) }

// Node is what the file says of the flags of a node program: all that is said of the
// cluster, and its entry. An empty id is the only node that there is.
func (d *Document) Node(id string) ([]Value, error) {
	ids := make([]string, len(d.Nodes))
	for i, n := range d.Nodes {
		ids[i] = n.ID
	}
	i, err := d.pick("node", id, ids)
	if err != nil {
		return nil, err
	}
	values := d.common("node_flags", d.NodeFlags)
	if i >= 0 {
		at := fmt.Sprintf("nodes[%d]", i)
		values = append(values, d.valuesOf(reflect.ValueOf(d.Nodes[i]), at, true)...)
		values = append(values, d.named(at+".flags", d.Nodes[i].Flags)...)
	}
	return values, nil
}

// Gate is Node for a gate program.
func (d *Document) Gate(id string) ([]Value, error) {
	ids := make([]string, len(d.Gates))
	for i, g := range d.Gates {
		ids[i] = g.ID
	}
	i, err := d.pick("gate", id, ids)
	if err != nil {
		return nil, err
	}
	values := d.common("gate_flags", d.GateFlags)
	if i >= 0 {
		at := fmt.Sprintf("gates[%d]", i)
		values = append(values, d.valuesOf(reflect.ValueOf(d.Gates[i]), at, true)...)
		values = append(values, d.named(at+".flags", d.Gates[i].Flags)...)
	}
	return values, nil
}

// pick finds an entry; -1 for a file without any, where none is asked for.
func (d *Document) pick(what, id string, ids []string) (int, error) {
	if id == "" {
		switch len(ids) {
		case 0:
			return -1, nil
		case 1:
			return 0, nil
		}
		return 0, fmt.Errorf("%s has several %ss: say which one this is with --%s-id %s", d.Name, what, what, strings.Join(ids, " or "))
	}
	for i := range ids {
		if ids[i] == id {
			return i, nil
		}
	}
	if len(ids) == 0 {
		return 0, fmt.Errorf("%s has no %ss; %q cannot be one of them", d.Name, what, id)
	}
	return 0, fmt.Errorf("%s has no %s %q; there are %s", d.Name, what, id, strings.Join(ids, ", "))
}

func (d *Document) common(at string, flags map[string]string) []Value {
	values := d.valuesOf(reflect.ValueOf(d.Cluster), "cluster", true)
	values = append(values, d.valuesOf(reflect.ValueOf(d.Inspector), "inspector", true)...)
	if d.Postgres != nil {
		values = append(values, d.valuesOf(reflect.ValueOf(*d.Postgres), "postgres", true)...)
	}
	return append(values, d.named(at, flags)...)
}

// valuesOf is what the file says below path with keys that stand for flags.
func (d *Document) valuesOf(v reflect.Value, path string, shared bool) (values []Value) {
	for i := range v.NumField() {
		field := v.Type().Field(i)
		at := join(path, field.Tag.Get("yaml"))
		line, said := d.Lines[at]
		switch flag := field.Tag.Get("flag"); {
		case !said:
		case flag != "":
			values = append(values, Value{flag, textOf(v.Field(i)), at, d.Name, line, shared})
		case v.Field(i).Kind() == reflect.Struct:
			values = append(values, d.valuesOf(v.Field(i), at, shared)...)
		}
	}
	return values
}

func (d *Document) named(path string, flags map[string]string) (values []Value) {
	for _, name := range slices.Sorted(maps.Keys(flags)) {
		at := join(path, name)
		values = append(values, Value{name, flags[name], at, d.Name, d.Lines[at], false})
	}
	return values
}

// textOf is a value as a flag takes it.
func textOf(v reflect.Value) string {
	switch value := v.Interface().(type) {
	case []string:
		return strings.Join(value, ",")
	case time.Duration:
		return value.String()
	default:
		return fmt.Sprint(value)
	}
}
