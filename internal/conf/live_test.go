package conf

import (
	"context"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// program is a running one, as Live sees it.
type program struct {
	t     *testing.T
	path  string
	again chan os.Signal

	mu      sync.Mutex
	said    []string
	applied []Change
	refuse  error // of Apply
}

// start runs a program with a file, inside a bubble.
func start(t *testing.T, text string, args ...string) *program {
	p := &program{t: t, path: filepath.Join(t.TempDir(), "cluster.yaml"), again: make(chan os.Signal, 1)}
	p.write(text)
	d, err := Read(p.path)
	if err != nil {
		t.Fatal(err)
	}
	fs := flag.NewFlagSet("", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.String("log-level", "info", "")
	fs.Int("min-quorum", 1, "")
	fs.Duration("call-timeout", 30*time.Second, "")
	fs.Func("own", "", func(string) error { panic("it is set again") })
	if err := fs.Parse(args); err != nil {
		t.Fatal(err)
	}
	values := func(d *Document) ([]Value, error) { return d.Node("") }
	list, err := values(d)
	if err != nil {
		t.Fatal(err)
	}
	settings, err := Settle(fs, func(string) (string, bool) { return "", false }, list)
	if err != nil {
		t.Fatal(err)
	}
	live := &Live{Started: d, Settings: settings, Flags: fs, Values: values, Say: p.say, Apply: p.apply}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- live.Run(ctx, Every, p.again) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return p
}

func (p *program) write(text string) {
	if err := os.WriteFile(p.path, []byte(text), 0o600); err != nil {
		p.t.Fatal(err)
	}
}

func (p *program) say(wrong bool, text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if wrong {
		text = "WARN " + text
	}
	p.said = append(p.said, strings.ReplaceAll(text, p.path, "F"))
}

func (p *program) apply(_ *Document, c []Change) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.applied = append(p.applied, c...)
	return p.refuse
}

// after is what was said and applied within a look at the file.
func (p *program) after(change func()) (said string, applied int) {
	change()
	time.Sleep(Every)
	synctest.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	said, applied = strings.Join(p.said, "\n"), len(p.applied)
	p.said, p.applied = nil, nil
	return said, applied
}

func TestARunningProgramFollowsItsFile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := start(t, "version: 1\ncluster: {log_level: info, min_quorum: 2}\n", "-call-timeout", "1s")
		expect := func(what string, wantApplied int, change func(), want ...string) {
			t.Helper()
			said, applied := p.after(change)
			if said != strings.Join(want, "\n") || applied != wantApplied {
				t.Errorf("%s: %d applied, said\n%s\nwant %d and\n%s", what, applied, said, wantApplied, strings.Join(want, "\n"))
			}
		}
		hup := func() { p.again <- syscall.SIGHUP }
		expect("nothing", 0, func() {})
		expect("SIGHUP", 0, hup, "F has not changed")
		expect("a level", 1, func() { p.write("version: 1\ncluster: {log_level: debug, min_quorum: 2}\n") },
			`cluster.log_level changed from "info" to "debug": it counts now`)
		expect("the same", 0, func() {})
		expect("more", 0, func() { p.write("version: 1\ncluster: {log_level: debug, min_quorum: 3, default_call_timeout: 9s}\n") },
			`WARN cluster.min_quorum changed from "2" to "3": it counts at a restart`)
		expect("the key is left out", 1, func() { p.write("version: 1\ncluster: {min_quorum: 3}\n") },
			`cluster.log_level changed from "debug" to "info": it counts now`)
		expect("broken", 0, func() { p.write("version: 1\nclustre: {}\n") },
			"WARN the configuration is kept as it was: F:2: clustre: there is no such key; did you mean cluster?")
		expect("still broken", 0, func() {})
		expect("a bad value", 0, func() { p.write("version: 1\nnode_flags: {call-timeout: soon, min-quorum: x}\n") },
			`WARN the configuration is kept as it was: F:2: node_flags.min-quorum: "x": parse error`)
		expect("gone", 0, func() { _ = os.Remove(p.path) },
			"WARN the configuration is kept as it was: the configuration cannot be read: open F: no such file or directory")
		expect("still gone", 0, func() {})
		expect("mended, and rules", 1, func() {
			p.write("version: 1\ncluster: {min_quorum: 3}\nobject_access_rules: [{access: REJECT}]\n")
		}, "object_access_rules changed: it counts now")
		expect("a comment", 0, func() {
			p.write("version: 1\ncluster: {min_quorum: 3}\nobject_access_rules: [{access: REJECT}] # nobody\n")
		}, "F was read again: nothing has changed for this program")
		p.mu.Lock()
		p.refuse = os.ErrInvalid
		p.mu.Unlock()
		expect("what cannot be taken up", 2, func() { p.write("version: 1\ncluster: {log_level: off, min_quorum: 3}\n") },
			"WARN the configuration is kept as it was: F:2: cluster.log_level: invalid argument")
	})
}
