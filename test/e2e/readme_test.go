//go:build unix

package e2e

import (
	"io"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"
)

// TestReadmes does what the samples' READMEs tell a reader to do, and compares what
// they promise: `$ go run` starts the program (and kills the one before), `$ curl`
// runs as it is written, except for the port. In an answer, … is anything.
func TestReadmes(t *testing.T) {
	t.Parallel()
	for sample, binary := range map[string]func() (string, error){"chat": chatBinary, "counter": counterBinary} {
		t.Run(sample, func(t *testing.T) {
			t.Parallel()
			readme, err := os.ReadFile("../../samples/" + sample + "/README.md")
			if err != nil {
				t.Fatal(err)
			}
			if lines := strings.Count(string(readme), "\n"); lines > 70 {
				t.Errorf("the README has %d lines; it is to fit on a screen", lines)
			}
			s := newSite(t, binary)
			var p *program
			asked := 0
			for _, c := range steps(string(readme)) {
				switch {
				case c.line == "go run ./samples/"+sample:
					if p != nil {
						p.kill()
					}
					p = s.start(t)
				case strings.HasPrefix(c.line, "curl "):
					if p == nil {
						t.Fatalf("%s: the program does not run yet", c.line)
					}
					asked++
					got := curl(t, strings.ReplaceAll(c.line, "localhost:48000", s.http))
					if !c.promises(got) {
						t.Errorf("%s\nanswers  %s\npromised %s", c.line, got, c.answer)
					}
				default:
					t.Errorf("what is %q?", c.line)
				}
			}
			if asked < 3 {
				t.Errorf("only %d curl lines were found", asked)
			}
		})
	}
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
