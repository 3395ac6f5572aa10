package main

import (
	"bufio"
	"bytes"
	"cmp"
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"
)

// starter is the program that new copies. It is built and tested here like any other.
//
//go:embed starter
var starter embed.FS

const (
	ourModule     = "github.com/xiaonanln/goverse"
	starterModule = ourModule + "/cmd/goverse/starter"
)

func (p *program) newProject() *cobra.Command {
	var dir, source string
	c := &cobra.Command{
		Use:   "new MODULE",
		Short: "Begin a program: a directory that builds and runs",
		Long: `new makes a directory with a small Goverse program: an object type that is described by a .proto file,
the Go code that is generated from it, a test, and a README with the two commands that run and call
it. MODULE is the name of its Go module, as greeter or example.com/shop/greeter.

It uses the Goverse version that this command is of, or with --goverse the source in a directory.

With -o json: {"module", "dir", "files": [name], "next": [command]}.`,
		Example: `  goverse new greeter
  goverse new example.com/shop/greeter --dir ./greeter
  goverse new greeter --goverse ../goverse`,
		Args: takes("the module's name"),
		RunE: does(func(_ *cobra.Command, args []string) error {
			module := args[0]
			if !modulePath.MatchString(module) {
				return usagef("module %q: want letters, digits and -._ between slashes, as example.com/shop/greeter", module)
			}
			n := project{Module: module, Dir: cmp.Or(dir, path.Base(module)), Files: []string{}}
			if err := n.write(source); err != nil {
				return err
			}
			return p.show(n)
		}),
	}
	c.Flags().StringVar(&dir, "dir", "", "the `directory` to make (default: the last part of the module's name)")
	c.Flags().StringVar(&source, "goverse", "", "a `directory` with Goverse's source, which the program uses in place of a published version")
	return c
}

var modulePath = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*$`)

// project is the answer of new.
type project struct {
	Module string   `json:"module"`
	Dir    string   `json:"dir"`
	Files  []string `json:"files"`
	Next   []string `json:"next"`
}

func (n project) table(w io.Writer) {
	fmt.Fprintf(w, "%s is made, with %s. Next:\n\n", n.Dir, strings.Join(n.Files, ", "))
	for _, command := range n.Next {
		fmt.Fprintf(w, "  %s\n", command)
	}
}

// write makes the directory, which must not be there or be empty.
func (n *project) write(source string) error {
	if there, err := os.ReadDir(n.Dir); err == nil && len(there) > 0 {
		return fmt.Errorf("%s is there and not empty: name another with --dir", n.Dir)
	} else if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	files, err := n.module(source)
	if err != nil {
		return err
	}
	err = fs.WalkDir(starter, "starter", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := starter.ReadFile(name)
		files = append(files, file{strings.TrimPrefix(name, "starter/"), n.adapt(name, text)})
		return err
	})
	if err != nil {
		return err
	}
	for _, f := range files {
		target := filepath.Join(n.Dir, filepath.FromSlash(f.name))
		if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(target, f.text, 0o644); err != nil {
			return err
		}
		n.Files = append(n.Files, f.name)
	}
	n.Next = append([]string{"cd " + n.Dir}, n.Next...)
	n.Next = append(n.Next, "go run .", `curl -d '{"name":"Ada"}' localhost:48000/api/v1/objects/Greeter/front/Greet`)
	return nil
}

type file struct {
	name string
	text []byte
}

// adapt makes a file of the starter one of the new module. Generated code stays as it is:
// the descriptor in it counts its bytes.
func (n *project) adapt(name string, text []byte) []byte {
	if strings.HasSuffix(name, ".pb.go") {
		return text
	}
	text = bytes.ReplaceAll(text, []byte(starterModule), []byte(n.Module))
	text = bytes.ReplaceAll(text, []byte("# NAME"), []byte("# "+path.Base(n.Module)))
	return bytes.ReplaceAll(text, []byte("Command starter"), []byte("Command "+path.Base(n.Module)))
}

// module is go.mod, and go.sum where it is known.
func (n *project) module(source string) ([]file, error) {
	if source == "" {
		version := newBuild(buildInfo()).Version
		if version == "(devel)" || strings.Contains(version, "+dirty") {
			return nil, fmt.Errorf("this goverse was built from source that has no published version: name the directory of that source with --goverse")
		}
		n.Next = append(n.Next, "go mod tidy")
		return []file{{"go.mod", fmt.Appendf(nil, "module %s\n\ngo 1.26\n\nrequire %s %s\n", n.Module, ourModule, version)}}, nil
	}
	source, err := filepath.Abs(source)
	if err != nil {
		return nil, err
	}
	mod, err := os.ReadFile(filepath.Join(source, "go.mod"))
	if err != nil || !bytes.HasPrefix(mod, []byte("module "+ourModule+"\n")) {
		return nil, fmt.Errorf("--goverse %s: want a directory with the source of %s: %w", source, ourModule, cmp.Or(err, errors.New("its go.mod is another module's")))
	}
	sum, err := os.ReadFile(filepath.Join(source, "go.sum"))
	if err != nil {
		return nil, err
	}
	return []file{{"go.mod", n.replaced(source, mod)}, {"go.sum", sum}}, nil
}

// replaced is a go.mod that needs what Goverse's own does, and so nothing from elsewhere.
func (n *project) replaced(source string, ours []byte) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "module %s\n", n.Module)
	lines := bufio.NewScanner(bytes.NewReader(ours))
	for lines.Scan() {
		if !strings.HasPrefix(lines.Text(), "module ") {
			fmt.Fprintln(&b, lines.Text())
		}
	}
	fmt.Fprintf(&b, "\nrequire %s v0.0.0\n\nreplace %[1]s => %q\n", ourModule, source)
	return b.Bytes()
}

func buildInfo() *debug.BuildInfo {
	info, _ := debug.ReadBuildInfo()
	return info
}
