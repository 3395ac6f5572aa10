package main

import (
	"cmp"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

func (p *program) version() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version of this program",
		Long: `version prints the version of this program, and what it was built with.

With -o json: {"version", "revision", "modified": bool, "go"}.`,
		Args: takes(),
		RunE: does(func(*cobra.Command, []string) error {
			info, _ := debug.ReadBuildInfo()
			return p.show(newBuild(info))
		}),
	}
}

// build is the answer of version.
type build struct {
	Version  string `json:"version"`
	Revision string `json:"revision"`
	Modified bool   `json:"modified"`
	Go       string `json:"go"`
}

// newBuild reads what the linker left; info may be nil.
func newBuild(info *debug.BuildInfo) build {
	b := build{Version: "(devel)", Go: runtime.Version()}
	if info == nil {
		return b
	}
	b.Version = cmp.Or(info.Main.Version, b.Version)
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			b.Revision = s.Value
		case "vcs.modified":
			b.Modified = s.Value == "true"
		}
	}
	return b
}

func (b build) table(w io.Writer) {
	from := ""
	if b.Revision != "" {
		from = " " + b.Revision[:min(12, len(b.Revision))]
		if b.Modified {
			from += " with changes"
		}
	}
	fmt.Fprintf(w, "goverse %s%s, %s %s/%s\n", b.Version, from, b.Go, runtime.GOOS, runtime.GOARCH)
}
