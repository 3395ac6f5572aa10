package conf

import (
	"reflect"
	"strings"
	"time"
)

// The kinds of change, as the reload tag names them.
const (
	Now     = "now"     // taken up by a running program
	Restart = "restart" // by one that starts
	Never   = "never"   // by a new cluster
)

// field is one key of the file, as its tags describe it.
type field struct {
	path                 string // with [] for an entry of a list
	flag, standard, kind string
	reload, doc          string
	secret               bool
	group                bool // it has keys of its own
}

// fields are all keys of File, in its order.
var fields = fieldsOf(reflect.TypeFor[File](), "")

// secrets are the flags whose values are not shown.
var secrets = func() map[string]bool {
	hidden := map[string]bool{}
	for _, f := range fields {
		if f.secret {
			hidden[f.flag] = true
		}
	}
	return hidden
}()

// reloads says what becomes of a change of a flag's value; others take a restart.
var reloads = func() map[string]string {
	kinds := map[string]string{}
	for _, f := range fields {
		if f.flag != "" {
			kinds[f.flag] = f.reload
		}
	}
	return kinds
}()

func fieldsOf(t reflect.Type, path string) (list []field) {
	for i := range t.NumField() {
		f := t.Field(i)
		one := field{
			path: join(path, f.Tag.Get("yaml")), flag: f.Tag.Get("flag"), standard: f.Tag.Get("default"),
			reload: f.Tag.Get("reload"), doc: f.Tag.Get("doc"), secret: f.Tag.Get("secret") == "true",
		}
		if one.reload == "" {
			one.reload = Restart
		}
		below := f.Type
		switch {
		case below.Kind() == reflect.Pointer:
			below = below.Elem()
		case below.Kind() == reflect.Slice && below.Elem().Kind() == reflect.Struct:
			below = below.Elem()
			one.path += "[]"
		}
		one.kind = kindOf(f.Type)
		one.group = below.Kind() == reflect.Struct
		list = append(list, one)
		if one.group {
			list = append(list, fieldsOf(below, one.path)...)
		}
	}
	return list
}

func kindOf(t reflect.Type) string {
	switch {
	case t == reflect.TypeFor[time.Duration]():
		return "duration"
	case t.Kind() == reflect.Slice:
		return "list"
	case t.Kind() == reflect.Map:
		return "names and values"
	case t.Kind() == reflect.Struct || t.Kind() == reflect.Pointer:
		return "group"
	case t.Kind() == reflect.Int || t.Kind() == reflect.Float64:
		return "number"
	case t.Kind() == reflect.Bool:
		return "true or false"
	default:
		return "text"
	}
}

// Defaults is what the schema says of the flags that have a default for all programs.
func Defaults() map[string]string {
	standard := map[string]string{}
	for _, f := range fields {
		if strings.HasPrefix(f.path, "cluster.") || strings.HasPrefix(f.path, "postgres.") {
			standard[f.flag] = f.standard
		}
	}
	delete(standard, "")
	return standard
}
