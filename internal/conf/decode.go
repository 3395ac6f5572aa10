package conf

import (
	"bytes"
	"encoding"
	"errors"
	"fmt"
	"io"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// Bounds of what is read: a configuration is written by people.
const (
	maxFile  = 1 << 20
	maxDepth = 32
)

// Lines tells the line of each key that a file has, by its path: cluster.etcd.prefix,
// nodes[0].id.
type Lines map[string]int

// Decode reads the YAML of a file called name into the struct that into points to, by
// its yaml tags. It is strict: keys that the struct does not have, keys that come twice,
// values of another type, anchors, aliases, tags and a second document are problems, all
// of them reported at once, as Problems.
func Decode(name string, data []byte, into any) (Lines, error) {
	d := &decoder{file: name, lines: Lines{}}
	if root := d.parse(data); root != nil {
		d.value(root, reflect.ValueOf(into).Elem(), "", 0)
	}
	return d.lines, d.problems.orNil()
}

type decoder struct {
	file     string
	lines    Lines
	problems Problems
}

func (d *decoder) wrong(line int, path, format string, args ...any) {
	d.problems = append(d.problems, Problem{d.file, line, path, fmt.Sprintf(format, args...)})
}

// parse is the document's root; nil for one that is empty or cannot be read.
func (d *decoder) parse(data []byte) (root *yaml.Node) {
	defer func() {
		if p := recover(); p != nil { // the parser is not ours, and what it reads may be anything
			d.wrong(0, "", "this is no YAML: %v", p)
			root = nil
		}
	}()
	if len(data) > maxFile {
		d.wrong(0, "", "the file has %d bytes; a configuration has at most %d", len(data), maxFile)
		return nil
	}
	parser := yaml.NewDecoder(bytes.NewReader(data))
	var document, more yaml.Node
	if err := parser.Decode(&document); errors.Is(err, io.EOF) {
		return nil
	} else if err != nil {
		d.wrong(0, "", "%v", err)
		return nil
	}
	if err := parser.Decode(&more); err == nil {
		d.wrong(more.Line, "", "a second document begins here; one file is one document")
	} else if !errors.Is(err, io.EOF) {
		d.wrong(0, "", "%v", err)
	}
	return document.Content[0]
}

// value reads n into v. Whatever does not fit leaves v as it is.
func (d *decoder) value(n *yaml.Node, v reflect.Value, path string, depth int) {
	switch {
	case n.Kind == yaml.AliasNode || n.Anchor != "":
		d.wrong(n.Line, path, "anchors and aliases (& and *) are not for configurations; write the value out")
		return
	case n.Style&yaml.TaggedStyle != 0:
		d.wrong(n.Line, path, "the tag %s is not for configurations; leave it out", n.Tag)
		return
	case depth > maxDepth:
		d.wrong(n.Line, path, "this is nested too deeply")
		return
	}
	if v.Kind() == reflect.Pointer {
		v.Set(reflect.New(v.Type().Elem()))
		v = v.Elem()
	}
	if t, ok := v.Addr().Interface().(encoding.TextUnmarshaler); ok {
		d.text(n, t, path)
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		d.structure(n, v, path, depth)
	case reflect.Slice:
		d.list(n, v, path, depth)
	case reflect.Map:
		d.words(n, v, path)
	default:
		d.scalar(n, v, path)
	}
}

func (d *decoder) structure(n *yaml.Node, v reflect.Value, path string, depth int) {
	if empty(n) {
		return
	}
	if n.Kind != yaml.MappingNode {
		d.wrong(n.Line, path, "this is %s; want the keys %s", kind(n), strings.Join(keys(v.Type()), ", "))
		return
	}
	d.entries(n, path, func(key string, line int, value *yaml.Node) {
		at := join(path, key)
		i, ok := fieldOf(v.Type(), key)
		if !ok {
			d.wrong(line, at, "there is no such key%s", suggestion(key, keys(v.Type())))
			return
		}
		d.value(value, v.Field(i), at, depth+1)
		if words := v.Type().Field(i).Tag.Get("oneof"); words != "" && v.Field(i).Kind() == reflect.String {
			d.oneOf(line, at, v.Field(i).String(), strings.Split(words, ","))
		}
	})
}

func (d *decoder) oneOf(line int, path, word string, words []string) {
	if word != "" && !slices.Contains(words, word) {
		d.wrong(line, path, "%q: want %s", word, strings.Join(words, ", "))
	}
}

// entries hands over what a mapping has, each key once.
func (d *decoder) entries(n *yaml.Node, path string, each func(key string, line int, value *yaml.Node)) {
	first := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		if key.Kind != yaml.ScalarNode || key.Anchor != "" {
			d.wrong(key.Line, path, "a key is a word; this is %s", kind(key))
			continue
		}
		at := join(path, key.Value)
		if line, twice := first[key.Value]; twice {
			d.wrong(key.Line, at, "the key is there twice, first in line %d", line)
			continue
		}
		first[key.Value] = key.Line
		d.lines[at] = key.Line
		each(key.Value, key.Line, value)
	}
}

func (d *decoder) list(n *yaml.Node, v reflect.Value, path string, depth int) {
	if empty(n) {
		return
	}
	if n.Kind != yaml.SequenceNode {
		d.wrong(n.Line, path, "this is %s; want a list, with - before each entry", kind(n))
		return
	}
	v.Set(reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content)))
	for i, entry := range n.Content {
		at := fmt.Sprintf("%s[%d]", path, i)
		d.lines[at] = entry.Line
		d.value(entry, v.Index(i), at, depth+1)
	}
}

// words reads a map of names to plain values, whatever their type.
func (d *decoder) words(n *yaml.Node, v reflect.Value, path string) {
	if empty(n) {
		return
	}
	if n.Kind != yaml.MappingNode {
		d.wrong(n.Line, path, "this is %s; want names with a value each", kind(n))
		return
	}
	v.Set(reflect.MakeMap(v.Type()))
	d.entries(n, path, func(key string, line int, value *yaml.Node) {
		if value.Kind != yaml.ScalarNode || value.Anchor != "" || empty(value) || value.Style&yaml.TaggedStyle != 0 {
			d.wrong(line, join(path, key), "this is %s; want a plain value", kind(value))
			return
		}
		v.SetMapIndex(reflect.ValueOf(key), reflect.ValueOf(value.Value))
	})
}

func (d *decoder) text(n *yaml.Node, t encoding.TextUnmarshaler, path string) {
	if n.Kind != yaml.ScalarNode || empty(n) {
		d.wrong(n.Line, path, "this is %s; want a word", kind(n))
		return
	}
	if err := t.UnmarshalText([]byte(n.Value)); err != nil {
		d.wrong(n.Line, path, "%v", err)
	}
}

func (d *decoder) scalar(n *yaml.Node, v reflect.Value, path string) {
	if empty(n) {
		d.wrong(n.Line, path, "the key has no value; leave it out for the default")
		return
	}
	want := wanted(v)
	if n.Kind != yaml.ScalarNode || !fits(n, v) {
		d.wrong(n.Line, path, "this is %s; want %s", kind(n), want)
		return
	}
	switch v.Interface().(type) {
	case time.Duration:
		span, err := time.ParseDuration(n.Value)
		if err != nil {
			d.wrong(n.Line, path, "%q is no duration; want %s", n.Value, want)
			return
		}
		v.SetInt(int64(span))
	case string:
		v.SetString(n.Value)
	case bool:
		v.SetBool(strings.EqualFold(n.Value, "true"))
	case float64:
		number, err := strconv.ParseFloat(n.Value, 64)
		if err != nil || math.IsNaN(number) || math.IsInf(number, 0) {
			d.wrong(n.Line, path, "%s is no number; want %s", n.Value, want)
			return
		}
		v.SetFloat(number)
	default: // a whole number
		number, err := strconv.ParseInt(n.Value, 0, v.Type().Bits())
		if err != nil {
			d.wrong(n.Line, path, "%s is too large, or no whole number", n.Value)
			return
		}
		v.SetInt(number)
	}
}

// fits says whether a scalar is of the field's type.
func fits(n *yaml.Node, v reflect.Value) bool {
	tag := n.ShortTag()
	switch v.Interface().(type) {
	case time.Duration, string:
		return tag == "!!str"
	case bool:
		return tag == "!!bool"
	case float64:
		return tag == "!!float" || tag == "!!int"
	default:
		return tag == "!!int"
	}
}

func wanted(v reflect.Value) string {
	switch v.Interface().(type) {
	case time.Duration:
		return "a duration with its unit, as 10s or 500ms"
	case string:
		return `text; put it in quotes if it looks like something else`
	case bool:
		return "true or false"
	case float64:
		return "a number, as 0.01"
	default:
		return "a whole number"
	}
}

// kind names what a node is, for people.
func kind(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a group of keys"
	case yaml.SequenceNode:
		return "a list"
	case yaml.AliasNode:
		return "an alias"
	}
	switch n.ShortTag() {
	case "!!null":
		return "empty"
	case "!!int", "!!float":
		return "the number " + n.Value
	case "!!bool":
		return n.Value
	case "!!timestamp":
		return "the date " + n.Value
	default:
		return fmt.Sprintf("the text %q", n.Value)
	}
}

func empty(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" }

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

// keys are the yaml names of a struct's fields, in their order.
func keys(t reflect.Type) []string {
	var names []string
	for i := range t.NumField() {
		if name := t.Field(i).Tag.Get("yaml"); name != "" {
			names = append(names, name)
		}
	}
	return names
}

func fieldOf(t reflect.Type, key string) (int, bool) {
	for i := range t.NumField() {
		if key != "" && t.Field(i).Tag.Get("yaml") == key {
			return i, true
		}
	}
	return 0, false
}
