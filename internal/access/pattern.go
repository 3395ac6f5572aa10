package access

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
)

// maxPattern bounds a name in a rule, in bytes.
const maxPattern = 1024

// pattern is a name in a rule.
type pattern struct {
	any     bool
	literal string
	whole   *regexp.Regexp // nil: the literal
}

func parsePattern(s string) (pattern, error) {
	switch {
	case s == "":
		return pattern{any: true}, nil
	case len(s) > maxPattern:
		return pattern{}, fmt.Errorf("it has %d bytes; at most %d are allowed", len(s), maxPattern)
	case !strings.HasPrefix(s, "/"):
		return pattern{literal: s}, nil
	case len(s) < 3 || !strings.HasSuffix(s, "/"):
		return pattern{}, errors.New("a regular expression stands between slashes, as /Get.*/; a name that begins with a slash is written as one")
	}
	// By itself first: "a)|(b" would be no longer anchored.
	if _, err := regexp.Compile(s[1 : len(s)-1]); err != nil {
		return pattern{}, err
	}
	whole, err := regexp.Compile(`\A(?:` + s[1:len(s)-1] + `)\z`)
	return pattern{whole: whole}, err
}

func (p *pattern) matches(name string) bool {
	switch {
	case p.any:
		return true
	case p.whole != nil:
		return p.whole.MatchString(name)
	}
	return p.literal == name
}
