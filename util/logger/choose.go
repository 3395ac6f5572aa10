package logger

import (
	"fmt"
	"io"
	"strings"
)

var levelNames = map[string]Level{"debug": LevelDebug, "info": LevelInfo, "warn": LevelWarn, "error": LevelError, "off": LevelOff}

// ParseLevel is the level of a name: debug, info, warn, error or off.
func ParseLevel(name string) (Level, error) {
	level, ok := levelNames[strings.ToLower(name)]
	if !ok {
		return 0, fmt.Errorf("the log level %q: want debug, info, warn, error or off", name)
	}
	return level, nil
}

// LevelName is the name of the default output's level, as ParseLevel takes it; a level
// between two has the name of the one above it.
func LevelName() string {
	level := Level(threshold.Load())
	for _, name := range []string{"debug", "info", "warn", "error"} {
		if level <= levelNames[name] {
			return name
		}
	}
	return "off"
}

// CheckFormat says what is wrong with the name of a format: it is text or json.
func CheckFormat(format string) error {
	if format != "text" && format != "json" {
		return fmt.Errorf("the log format %q: want text or json", format)
	}
	return nil
}

// UseFormat makes lines of a format, text or json, to w the default output.
func UseFormat(format string, w io.Writer) error {
	if err := CheckFormat(format); err != nil {
		return err
	}
	if format == "json" {
		UseJSON(w)
	} else {
		UseText(w)
	}
	return nil
}
