package main

import (
	"fmt"
	"hash/fnv"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// files are those of a program. They are looked at from time to time: that works on every
// system, also where files are shared with a container.
type files struct {
	root, data string
	was, seen  uint64
}

// newFiles is those of the module in which target is, but for data.
func newFiles(target, data string) *files {
	f := &files{root: moduleOf(target), data: data}
	f.was = f.print()
	f.seen = f.was
	return f
}

// moduleOf is the folder with the go.mod that target belongs to, or target itself. Where
// target is no folder, it is an import path of the module that we are in.
func moduleOf(target string) string {
	if info, err := os.Stat(target); err != nil || !info.IsDir() {
		target = "."
	}
	start, err := filepath.Abs(target)
	if err != nil {
		return target
	}
	for dir := start; ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		if dir == filepath.Dir(dir) {
			return start
		}
	}
}

// changed says whether they have changed since it last said so, and stay the same now.
func (f *files) changed() bool {
	now := f.print()
	still := now == f.seen
	f.seen = now
	if !still || now == f.was {
		return false
	}
	f.was = now
	return true
}

// print is a fingerprint of the names, sizes and times of the files.
func (f *files) print() uint64 {
	h := fnv.New64a()
	_ = filepath.WalkDir(f.root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return nil // it has just gone
		case d.IsDir() && (path == f.data || path != f.root && (strings.HasPrefix(d.Name(), ".") || d.Name() == "node_modules")):
			return fs.SkipDir
		case d.IsDir() || !d.Type().IsRegular() || strings.HasPrefix(d.Name(), ".") || strings.HasSuffix(d.Name(), "_test.go"):
			return nil
		}
		if info, err := d.Info(); err == nil {
			fmt.Fprintln(h, path, info.Size(), info.ModTime().UnixNano())
		}
		return nil
	})
	return h.Sum64()
}
