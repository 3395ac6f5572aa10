//go:build unix

package e2e

import (
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// The JavaScript client in Node.js against a real gate, which is killed under it, and
// the code of its README.
func TestJavaScriptClient(t *testing.T) {
	t.Parallel()
	s := newSite(t, chatBinary)
	node := findNode(t)
	p := s.start(t)
	orders := make(chan func())
	control := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		done := make(chan struct{})
		order := func() {
			defer close(done)
			switch r.URL.Path {
			case "/kill":
				p.kill()
			case "/start":
				p = s.start(t)
			}
		}
		select {
		case orders <- order:
			<-done
		case <-r.Context().Done(): // whoever ordered it is gone
		}
	}))
	defer control.Close()

	files, err := filepath.Glob("../../client/js/test/gate/*.test.js")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	// Node.js 20 has its WebSocket behind a flag; later ones take the flag for granted.
	cmd := exec.CommandContext(t.Context(), node, append([]string{"--experimental-websocket", "--test", "--test-concurrency=1", "--test-reporter=spec"}, files...)...)
	cmd.Env = append(os.Environ(), "GOVERSE_TEST_GATE="+s.url(""), "GOVERSE_TEST_CONTROL="+control.URL)
	said := make(chan string, 1)
	go func() {
		out, err := cmd.CombinedOutput()
		if err != nil {
			out = append(out, ("\nFAILED: " + err.Error())...)
		}
		said <- string(out)
	}()
	for {
		select {
		case order := <-orders: // here, where a test may fail
			order()
		case out := <-said:
			if strings.Contains(out, "FAILED: ") || strings.Contains(out, "NOT TESTED") {
				t.Error(out)
			}
			return
		}
	}
}

// findNode is a Node.js that the client is made for.
func findNode(t *testing.T) string {
	t.Helper()
	path, err := exec.LookPath("node")
	if err != nil {
		t.Skip("NOT TESTED: the JavaScript client against a real gate. There is no node in PATH; install Node.js 20 or newer.")
	}
	if err := exec.Command(path, "-e", "process.exit(parseInt(process.versions.node) < 20 ? 1 : 0)").Run(); err != nil {
		t.Skipf("NOT TESTED: the JavaScript client against a real gate. %s is older than Node.js 20.", path)
	}
	return path
}
