package conf

import (
	"errors"
	"flag"
	"fmt"
	"slices"
	"strings"
)

// Setting is what a flag is, and who said so.
type Setting struct {
	Flag  string `json:"flag"`
	Value string `json:"value"`
	// From is "default", "cluster.yaml:12", "GOVERSE_ETCD" or "--etcd".
	From string `json:"from"`
	Key  string `json:"key,omitempty"` // of the file, if it is said there

	raw   string // Value, also of a secret
	fixed bool   // the file has no say
}

// Default is where a value comes from that nobody gave.
const Default = "default"

// Variable is the environment's name of a flag.
func Variable(flag string) string {
	return "GOVERSE_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// Settle sets the flags of fs, which has parsed its command line, that were not given
// there: from the environment, where an empty variable is none, else from what the file
// says of them. It returns all flags with their values, in the order of their names.
func Settle(fs *flag.FlagSet, environment func(string) (string, bool), values []Value) ([]Setting, error) {
	said, errs := heard(fs, values)
	given := map[string]bool{}
	fs.Visit(func(f *flag.Flag) { given[f.Name] = true })
	var settings []Setting
	fs.VisitAll(func(f *flag.Flag) {
		s := Setting{Flag: f.Name, From: Default}
		v, inFile := said[f.Name]
		if inFile {
			s.Key = v.Path
		}
		variable := Variable(f.Name)
		text, inEnvironment := environment(variable)
		switch {
		case given[f.Name]:
			s.From, s.fixed = "--"+f.Name, true
		case inEnvironment && text != "":
			s.From, s.fixed = variable, true
			if err := fs.Set(f.Name, text); err != nil {
				errs = append(errs, fmt.Errorf("%s=%q: %w", variable, shown(f.Name, text), err))
			}
		case inFile:
			s.From = v.place()
			if err := fs.Set(f.Name, v.Text); err != nil {
				errs = append(errs, Problem{v.File, v.Line, v.Path, fmt.Sprintf("%q: %v", shown(f.Name, v.Text), err)})
			}
		}
		s.raw = f.Value.String()
		s.Value = shown(f.Name, s.raw)
		settings = append(settings, s)
	})
	return settings, errors.Join(errs...)
}

// UnknownFlag is the problem of a flag that another program may have.
type UnknownFlag struct{ Problem }

// heard is what the file says of each flag; the last word counts, which is the entry's.
func heard(fs *flag.FlagSet, values []Value) (said map[string]Value, errs []error) {
	said = map[string]Value{}
	var names []string
	fs.VisitAll(func(f *flag.Flag) { names = append(names, f.Name) })
	for _, v := range values {
		known := slices.Contains(names, v.Flag)
		switch {
		case known && reserved(v.Flag):
			errs = append(errs, Problem{v.File, v.Line, v.Path, "the file cannot say which file or entry is read"})
		case known:
			said[v.Flag] = v
		case !v.Shared:
			errs = append(errs, UnknownFlag{Problem{v.File, v.Line, v.Path, "this program has no such flag" + suggestion(v.Flag, names)}})
		}
	}
	return said, errs
}

// reserved are the flags that find the file's values.
func reserved(flag string) bool { return flag == "config" || flag == "node-id" || flag == "gate-id" }

// shown is a value as it may be seen by whoever reads a terminal or a log.
func shown(flag, text string) string {
	if secrets[flag] && text != "" {
		return "(hidden)"
	}
	return text
}

// Given is the value of a flag that the file cannot have, from the command line or the
// environment.
func Given(environment func(string) (string, bool), flag, onCommandLine string) string {
	if onCommandLine != "" {
		return onCommandLine
	}
	text, _ := environment(Variable(flag))
	return text
}

// From is where a flag's value came from.
func From(settings []Setting, flag string) string {
	for _, s := range settings {
		if s.Flag == flag {
			return s.From
		}
	}
	return Default
}
