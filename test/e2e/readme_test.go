//go:build unix

package e2e

import (
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/xiaonanln/goverse/test/spawn"
)

// TestReadmes does what the samples' READMEs and the guide tell a reader to do, and
// compares what they promise: `$ go run` starts the program (and kills the one before), with
// the flags that stand there, `$ curl` runs as it is written, except for the ports, and `$ goverse` beside the program's
// data. In an answer, … is anything.
func TestReadmes(t *testing.T) {
	t.Parallel()
	for _, page := range readmes {
		t.Run(strings.TrimSuffix(page.path, ".md"), func(t *testing.T) {
			text, err := os.ReadFile("../../" + page.path)
			if err != nil {
				t.Fatal(err)
			}
			if lines := strings.Count(string(text), "\n"); page.lines > 0 && lines > page.lines {
				t.Errorf("the README has %d lines; it is to fit on a screen", lines)
			}
			s := newSite(t, page.binary)
			if asked := s.follow(t, steps(string(text))); asked < page.asked {
				t.Errorf("only %d commands were found", asked)
			}
		})
	}
}

var readmes = []struct {
	path   string
	binary func() (string, error)
	lines  int // at most; 0: any
	asked  int // commands, at least
}{
	{"samples/chat/README.md", chatBinary, 70, 3},
	{"samples/counter/README.md", counterBinary, 70, 3},
	{"docs/guide/start.md", counterBinary, 0, 4},
	{"docs/guide/durability.md", counterBinary, 0, 2},
	{"docs/guide/cluster.md", counterBinary, 0, 3},
	{"docs/guide/clients.md", counterBinary, 0, 3},
	{"docs/guide/operating.md", counterBinary, 0, 5},
}

// Every curl line of the guide and of those READMEs is one that TestReadmes runs: on a page
// that it follows, behind a prompt.
func TestEveryCurlLineIsRun(t *testing.T) {
	pages, err := filepath.Glob("../../docs/guide/*.md")
	if err != nil || len(pages) == 0 {
		t.Fatal(pages, err)
	}
	followed := map[string]bool{}
	for _, page := range readmes {
		followed["../../"+page.path] = true
		if !strings.HasPrefix(page.path, "docs/guide/") {
			pages = append(pages, "../../"+page.path)
		}
	}
	for _, page := range pages {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		run := 0
		for _, c := range steps(string(text)) {
			if strings.HasPrefix(c.line, "curl ") {
				run++
			}
		}
		there := len(regexp.MustCompile(`(?m)^\s*(\$ )?curl `).FindAll(text, -1))
		if run != there || there > 0 && !followed[page] {
			t.Errorf("%s has %d curl lines, and %d behind a prompt; is it followed: %v", page, there, run, followed[page])
		}
	}
}

// follow does steps, and says how many ask for an answer.
func (s *site) follow(t *testing.T, list []step) (asked int) {
	t.Helper()
	const operators = "localhost:48100"
	ops := spawn.FreeAddress(t)
	var p *program
	for _, c := range list {
		var got string
		switch {
		case strings.HasPrefix(c.line, "go run ./samples/"):
			if p != nil {
				p.kill()
			}
			flags := strings.Fields(strings.ReplaceAll(c.line, operators, ops))[3:]
			p = s.start(t, flags...)
			continue
		case p == nil:
			t.Fatalf("%s: the program does not run yet", c.line)
		case strings.HasPrefix(c.line, "curl "):
			got = curl(t, strings.NewReplacer("localhost:48000", s.http, operators, ops).Replace(c.line))
		case strings.HasPrefix(c.line, "goverse "):
			got = s.goverse(t, strings.Fields(c.line)[1:]...)
		default:
			t.Errorf("what is %q?", c.line)
			continue
		}
		asked++
		if !c.promises(got) {
			t.Errorf("%s\nanswers  %s\npromised %s", c.line, got, c.answer)
		}
	}
	return asked
}

// goverse runs the command line beside the program's data, and returns what it prints.
func (s *site) goverse(t *testing.T, args ...string) string {
	t.Helper()
	path, err := goverseBinary()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(within(t, 30*time.Second), path, args...)
	cmd.Env = append(os.Environ(), "GOVERSE_DATA_DIR="+s.data)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("goverse %v: %v\n%s", args, err, out)
	}
	return string(out)
}

// step is a line of a README's console block, and the lines below it.
type step struct{ line, answer string }

func steps(markdown string) (list []step) {
	console := false
	for line := range strings.Lines(markdown) {
		line = strings.TrimRight(line, "\n")
		typed, isCommand := strings.CutPrefix(line, "$ ")
		switch {
		case strings.HasPrefix(line, "```"):
			console = line == "```console"
		case console && isCommand:
			list = append(list, step{line: typed})
		case console && len(list) > 0:
			list[len(list)-1].answer += line
		}
	}
	return list
}

func (c step) promises(answer string) bool {
	pattern := strings.ReplaceAll(regexp.QuoteMeta(c.answer), "…", ".*")
	return regexp.MustCompile("^(?s:" + pattern + ")$").MatchString(strings.TrimSpace(answer))
}

// curl runs a command line, or where there is no curl does what it would.
func curl(t *testing.T, line string) string {
	t.Helper()
	if _, err := exec.LookPath("curl"); err == nil {
		out, err := exec.CommandContext(within(t, 20*time.Second), "sh", "-c", strings.Replace(line, "curl", "curl -sS", 1)).CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v\n%s", line, err, out)
		}
		return string(out)
	}
	method, data, address, header := http.MethodGet, "", "", http.Header{}
	words := regexp.MustCompile(`'[^']*'|\S+`).FindAllString(line, -1)
	for i := 1; i < len(words); i++ {
		switch words[i] {
		case "-X":
			i++
			method = words[i]
		case "-d":
			i++
			method, data = http.MethodPost, strings.Trim(words[i], "'")
		case "-H":
			i++
			name, value, _ := strings.Cut(strings.Trim(words[i], "'"), ": ")
			header.Set(name, value)
		default:
			address = strings.Trim(words[i], "'")
		}
	}
	r, err := http.NewRequestWithContext(within(t, 20*time.Second), method, "http://"+address, strings.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	r.Header = header
	if data != "" {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded") // as curl -d does
	}
	transport := &http.Transport{DisableKeepAlives: true}
	resp, err := transport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

// Both ways of curl answer alike, so that the way that is not taken here is right, too.
func TestCurl(t *testing.T) {
	s := newSite(t, counterBinary)
	s.start(t)
	line := "curl -d '{\"amount\": 5}' " + s.http + "/api/v1/objects/Counter/x/Add"
	once := "curl -H 'X-Goverse-Call-ID: as it is' -d '{\"amount\": 5}' " + s.http + "/api/v1/objects/Counter/y/Add"
	t.Run("as it is here", func(t *testing.T) {
		for _, line := range []string{line, once} {
			if got := curl(t, line); got != `{"value":"5"}` {
				t.Error(got)
			}
		}
	})
	t.Run("without the program", func(t *testing.T) {
		t.Setenv("PATH", t.TempDir())
		if got := curl(t, line); got != `{"value":"10"}` {
			t.Error(got)
		}
		if got := curl(t, once); got != `{"value":"5"}` {
			t.Error(got)
		}
		if got := curl(t, "curl '"+s.http+"/api/v1/objects/Counter/x/Read?'"); got != `{"value":"10"}` {
			t.Error(got)
		}
	})
}
