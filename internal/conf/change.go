package conf

import (
	"cmp"
	"fmt"
	"reflect"
	"slices"
)

// Change is a value that differs between two readings of a file.
type Change struct {
	Flag     string // empty for a list of the file
	Key      string // of the file; empty: the file says nothing of it any more
	Old, New string // of a flag
	Counts   string // Now, Restart or Never
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

// Changes is what differs between the settings of one program, each from Settle.
func Changes(old, now []Setting) (list []Change) {
	was := map[string]Setting{}
	for _, s := range old {
		was[s.Flag] = s
	}
	for _, s := range now {
		before := was[s.Flag]
		switch {
		case before.raw != s.raw:
			list = append(list, Change{s.Flag, cmp.Or(s.Key, before.Key), before.Value, s.Value, cmp.Or(reloads[s.Flag], Restart)})
		}
	}
	return list
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
