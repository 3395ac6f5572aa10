package openapi

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"regexp"
	"slices"
	"strings"
	"time"
)

// validator tells whether JSON is what a schema says. It knows the words that this
// package uses; any other is an error of the schema, so that none is overlooked.
type validator struct{ root obj }

func (v validator) check(schema any, value any, at string) error {
	if b, ok := schema.(bool); ok {
		if !b {
			return fmt.Errorf("%s: nothing is allowed here", at)
		}
		return nil
	}
	s, ok := schema.(obj)
	if !ok {
		return fmt.Errorf("%s: no schema: %v", at, schema)
	}
	for _, word := range slices.Sorted(maps.Keys(s)) {
		rule, ok := words[word]
		if !ok {
			return fmt.Errorf("%s: the schema has the word %s", at, word)
		}
		if rule == nil {
			continue
		}
		if err := rule(v, s, value, at); err != nil {
			return err
		}
	}
	return nil
}

// words is what each word of a schema demands; nil: nothing.
var words map[string]func(v validator, s obj, value any, at string) error

func init() { // they refer to each other
	words = map[string]func(v validator, s obj, value any, at string) error{
		"description": nil, "items": nil, "additionalProperties": nil, "contentEncoding": nil,
		"$ref": func(v validator, s obj, value any, at string) error {
			target, err := resolve(v.root, s["$ref"].(string))
			if err != nil {
				return fmt.Errorf("%s: %w", at, err)
			}
			return v.check(target, value, at)
		},
		"type":     checkType,
		"format":   checkFormat,
		"const":    func(v validator, s obj, value any, at string) error { return oneOfValues([]any{s["const"]}, value, at) },
		"enum":     func(v validator, s obj, value any, at string) error { return oneOfValues(s["enum"].([]any), value, at) },
		"required": checkRequired,
		"properties": func(v validator, s obj, value any, at string) error {
			return v.checkMembers(s, value, at)
		},
		"patternProperties": nil, // with the properties
		"propertyNames": func(v validator, s obj, value any, at string) error {
			for name := range members(value) {
				if err := v.check(s["propertyNames"], name, at+"/"+name); err != nil {
					return err
				}
			}
			return nil
		},
		"pattern": func(v validator, s obj, value any, at string) error {
			if text, ok := value.(string); ok && !regexp.MustCompile(s["pattern"].(string)).MatchString(text) {
				return fmt.Errorf("%s: %q is not of the form %s", at, text, s["pattern"])
			}
			return nil
		},
		"minimum": func(v validator, s obj, value any, at string) error {
			if n, ok := value.(float64); ok && n < s["minimum"].(float64) {
				return fmt.Errorf("%s: %v is too small", at, n)
			}
			return nil
		},
		"maximum": func(v validator, s obj, value any, at string) error {
			if n, ok := value.(float64); ok && n > s["maximum"].(float64) {
				return fmt.Errorf("%s: %v is too large", at, n)
			}
			return nil
		},
		"minLength": nil, "maxLength": nil, // of ids, which are no message's
		"not": func(v validator, s obj, value any, at string) error {
			if v.check(s["not"], value, at) == nil {
				return fmt.Errorf("%s: it is what it must not be", at)
			}
			return nil
		},
		"allOf": func(v validator, s obj, value any, at string) error {
			return v.count(s["allOf"].([]any), value, at, len(s["allOf"].([]any)), len(s["allOf"].([]any)))
		},
		"anyOf": func(v validator, s obj, value any, at string) error {
			return v.count(s["anyOf"].([]any), value, at, 1, len(s["anyOf"].([]any)))
		},
		"oneOf": func(v validator, s obj, value any, at string) error {
			return v.count(s["oneOf"].([]any), value, at, 1, 1)
		},
	}
}

func (v validator) count(list []any, value any, at string, least, most int) error {
	var errs []string
	fits := 0
	for _, s := range list {
		if err := v.check(s, value, at); err != nil {
			errs = append(errs, err.Error())
		} else {
			fits++
		}
	}
	if fits < least || fits > most {
		return fmt.Errorf("%s: %d of %d fit, %d to %d should: %s", at, fits, len(list), least, most, strings.Join(errs, "; "))
	}
	return nil
}

func (v validator) checkMembers(s obj, value any, at string) error {
	properties, _ := s["properties"].(obj)
	patterns, _ := s["patternProperties"].(obj)
	for name, member := range members(value) {
		if p, ok := properties[name]; ok {
			if err := v.check(p, member, at+"/"+name); err != nil {
				return err
			}
			continue
		}
		if slices.ContainsFunc(slices.Collect(maps.Keys(patterns)), func(p string) bool { return regexp.MustCompile(p).MatchString(name) }) {
			continue
		}
		if more, ok := s["additionalProperties"]; ok {
			if err := v.check(more, member, at+"/"+name); err != nil {
				return err
			}
		}
	}
	return nil
}

func members(value any) obj { m, _ := value.(obj); return m }

func checkType(v validator, s obj, value any, at string) error {
	var fits bool
	switch s["type"] {
	case "object":
		if _, fits = value.(obj); fits && s["properties"] == nil {
			return v.checkMembers(s, value, at)
		}
	case "array":
		var list []any
		list, fits = value.([]any)
		for i, one := range list {
			if err := v.check(s["items"], one, fmt.Sprintf("%s/%d", at, i)); err != nil {
				return err
			}
		}
	case "string":
		var text string
		if text, fits = value.(string); fits && s["contentEncoding"] == "base64" {
			if _, err := base64.StdEncoding.DecodeString(text); err != nil {
				return fmt.Errorf("%s: %w", at, err)
			}
		}
	case "boolean":
		_, fits = value.(bool)
	case "null":
		fits = value == nil
	case "number":
		_, fits = value.(float64)
	case "integer":
		var n float64
		n, fits = value.(float64)
		fits = fits && n == math.Trunc(n)
	}
	if !fits {
		return fmt.Errorf("%s: %v (%T) is no %v", at, value, value, s["type"])
	}
	return nil
}

func checkFormat(_ validator, s obj, value any, at string) error {
	switch text, _ := value.(string); s["format"] {
	case "date-time":
		if _, err := time.Parse(time.RFC3339Nano, text); err != nil {
			return fmt.Errorf("%s: %w", at, err)
		}
	case "int32", "uint32", "int64", "uint64", "float", "double":
	default:
		return fmt.Errorf("%s: the schema has the format %v", at, s["format"])
	}
	return nil
}

func checkRequired(_ validator, s obj, value any, at string) error {
	for _, name := range s["required"].([]any) {
		if _, ok := members(value)[name.(string)]; !ok {
			return fmt.Errorf("%s: %s is missing", at, name)
		}
	}
	return nil
}

func oneOfValues(list []any, value any, at string) error {
	if slices.Contains(list, value) {
		return nil
	}
	return fmt.Errorf("%s: %v is none of %v", at, value, list)
}

// resolve follows a reference within a document.
func resolve(root obj, ref string) (any, error) {
	path, ok := strings.CutPrefix(ref, "#/")
	if !ok {
		return nil, fmt.Errorf("%s leads out of the document", ref)
	}
	var here any = root
	for step := range strings.SplitSeq(path, "/") {
		m, ok := here.(obj)
		if !ok || m[step] == nil {
			return nil, fmt.Errorf("%s leads nowhere, from %s", ref, step)
		}
		here = m[step]
	}
	return here, nil
}

// parse reads JSON as the validator wants it.
func parse(b []byte) (any, error) {
	var v any
	err := json.Unmarshal(b, &v)
	return v, err
}
