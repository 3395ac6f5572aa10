package conf

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"reflect"
	"time"
)

// Every is how often a running program looks whether its file has changed.
const Every = 2 * time.Second

// Live is the configuration of a program that runs: it follows the file and takes up what
// can change. A file that is wrong, or gone, changes nothing. Fill it in, then Run it
// once.
type Live struct {
	Started  *Document
	Settings []Setting                           // what the program started with, from Settle
	Flags    *flag.FlagSet                       // its flags; they are read, and never set
	Values   func(d *Document) ([]Value, error)  // what a file says of this program's flags
	Apply    func(d *Document, c []Change) error // takes up what counts now: c, all of one file. It is called by one goroutine
	Say      func(wrong bool, text string)       // tells a person
	Takes    func(flag string) bool              // flags that Apply takes up, beside those of keys that count now; may be nil

	current  *Document
	settings []Setting
}

// Run follows the file until ctx ends: it looks every so often, and at once, with an
// answer even if nothing has changed, when again has something. It returns nil.
func (l *Live) Run(ctx context.Context, every time.Duration, again <-chan os.Signal) error {
	l.current, l.settings = l.Started, l.Settings
	last := l.Started.text
	missing := false
	for {
		asked := wait(ctx, every, again)
		if ctx.Err() != nil {
			return nil
		}
		text, err := os.ReadFile(l.Started.Name)
		switch {
		case err != nil:
			if !missing || asked {
				l.refuse(fmt.Errorf("the configuration cannot be read: %w", err))
			}
			missing = true
		case !bytes.Equal(text, last):
			last, missing = text, false
			l.take(text)
		case asked || missing:
			missing = false
			l.Say(false, l.Started.Name+" has not changed")
		}
	}
}

// wait tells whether somebody asked.
func wait(ctx context.Context, every time.Duration, again <-chan os.Signal) (asked bool) {
	soon, cancel := context.WithTimeout(ctx, every)
	defer cancel()
	select {
	case <-soon.Done():
		return false
	case <-again:
		return true
	}
}

func (l *Live) refuse(err error) {
	l.Say(true, fmt.Sprintf("the configuration is kept as it was: %v", err))
}

// take reads a new text, and tells what becomes of each change.
func (l *Live) take(text []byte) {
	d, err := Parse(l.Started.Name, text)
	if err != nil {
		l.refuse(err)
		return
	}
	values, err := l.Values(d)
	if err != nil {
		l.refuse(err)
		return
	}
	settings, err := resettle(l.Flags, l.Settings, values)
	if err != nil {
		l.refuse(err)
		return
	}
	changes := append(Changes(l.settings, settings, l.Takes), Lists(&l.current.File, &d.File)...)
	var now []Change
	for _, c := range changes {
		if c.Counts == Now {
			now = append(now, c)
		}
	}
	if len(now) > 0 {
		if err := l.Apply(d, now); err != nil {
			l.refuse(blame(now, err))
			return
		}
	}
	l.current, l.settings = d, settings
	if len(changes) == 0 {
		l.Say(false, l.Started.Name+" was read again: nothing has changed for this program")
	}
	for _, c := range changes {
		l.Say(c.Counts != Now, c.String())
	}
}

// resettle is what Settle would have made of other values of the file. It sets nothing.
func resettle(fs *flag.FlagSet, started []Setting, values []Value) ([]Setting, error) {
	said, errs := heard(fs, values)
	settings := make([]Setting, len(started))
	for i, s := range started {
		v, inFile := said[s.Flag]
		s.Key = v.Path
		if f := fs.Lookup(s.Flag); !s.fixed && f != nil {
			s.From, s.raw = Default, f.DefValue
			if inFile {
				s.From = v.place()
				var err error
				if s.raw, err = tried(f.Value, v.Text); err != nil {
					errs = append(errs, Problem{v.File, v.Line, v.Path, fmt.Sprintf("%q: %v", shown(s.Flag, v.Text), err)})
				}
			}
			s.Value = shown(s.Flag, s.raw)
		}
		settings[i] = s
	}
	return settings, errors.Join(errs...)
}

// tried is what a flag would be after Set. A kind of flag that cannot be made anew takes
// the text as it is.
func tried(like flag.Value, text string) (result string, err error) {
	defer func() {
		if recover() != nil { // a program's own kind, which is nothing without its constructor
			result, err = text, nil
		}
	}()
	t := reflect.TypeOf(like)
	if t.Kind() != reflect.Pointer {
		return text, nil
	}
	v := reflect.New(t.Elem()).Interface().(flag.Value)
	if err := v.Set(text); err != nil {
		return "", err
	}
	return v.String(), nil
}
