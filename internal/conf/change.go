package conf

import (
	"cmp"
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// Change is a value that differs between two readings of a file.
type Change struct {
	Flag     string // empty for a list of the file
	Key      string // of the file; empty: the file says nothing of it any more
	Old, New string // of a flag
	Counts   string // Now, Restart or Never
	From     string // where New comes from, as in Setting
}

// String says what changed, and when it counts.
func (c Change) String() string {
	name := cmp.Or(c.Key, "--"+c.Flag)
	what := name + " changed"
	if c.Flag != "" {
		what = fmt.Sprintf("%s changed from %q to %q", name, c.Old, c.New)
	}
	switch c.Counts {
	case Now:
		return what + ": it counts now"
	case Never:
		return what + ": it never counts for a cluster that there is"
	default:
		return what + ": it counts at a restart"
	}
}

// Changes is what differs between the settings of one program, each from Settle. live says
// which flags the program takes up while it runs, beside those of keys that say so; it may be
// nil.
func Changes(old, now []Setting, live func(flag string) bool) (list []Change) {
	was := map[string]Setting{}
	for _, s := range old {
		was[s.Flag] = s
	}
	for _, s := range now {
		before := was[s.Flag]
		if before.raw == s.raw {
			continue
		}
		counts := cmp.Or(reloads[s.Flag], Restart)
		if live != nil && live(s.Flag) {
			counts = Now
		}
		list = append(list, Change{s.Flag, cmp.Or(s.Key, before.Key), before.Value, s.Value, counts, s.From})
	}
	return list
}

// blame says of changes that could not be taken up where they stand.
func blame(changes []Change, err error) error {
	var places []string
	for _, c := range changes {
		if c.Flag != "" && c.From != Default {
			places = append(places, c.From+": "+cmp.Or(c.Key, "--"+c.Flag))
		}
	}
	if len(places) == 0 {
		return err
	}
	return fmt.Errorf("%s: %w", strings.Join(places, ", "), err)
}

// Lists is what differs between the lists of two files, which no flag stands for.
func Lists(old, now *File) (list []Change) {
	for _, l := range []struct {
		key      string
		old, now any
		counts   string
	}{
		{"object_access_rules", old.Access, now.Access, Now},
		{"object_lifecycle_rules", old.Lifecycle, now.Lifecycle, Now},
		{"cluster.auto_load_objects", old.Cluster.AutoLoad, now.Cluster.AutoLoad, Restart},
	} {
		if !reflect.DeepEqual(l.old, l.now) {
			list = append(list, Change{Key: l.key, Counts: l.counts})
		}
	}
	return slices.Clip(list)
}
