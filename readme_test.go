package goverse

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestREADMEProgram compiles and runs the program of README.md, and does to it what
// the lines below it do.
func TestREADMEProgram(t *testing.T) {
	if testing.Short() {
		t.Skip("builds and runs a program: not with -short")
	}
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	program := regexp.MustCompile("(?s)```go\n(package main.*?)```").FindSubmatch(text)
	if program == nil {
		t.Fatal("README.md has no program")
	}
	binary := build(t, program[1])
	ports := freePorts(t, 3)
	cmd := exec.Command(binary, "--data-dir", filepath.Join(t.TempDir(), "data"),
		"--listen", ports[0], "--http-listen", ports[1], "--gate-listen", ports[2])
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		cmd.Process.Signal(syscall.SIGTERM)
		if err := cmd.Wait(); err != nil {
			t.Errorf("the program ended with %v:\n%s", err, out.String())
		}
	}()

	lines := regexp.MustCompile(`(?m)^curl -d (\S+) localhost:48000(\S+)\s+# (.*)$`).FindAllSubmatch(text, -1)
	if all := bytes.Count(text, []byte("\ncurl ")); len(lines) < 2 || len(lines) != all {
		t.Fatalf("README.md has %d curl lines for the program, and %d in all", len(lines), all)
	}
	for _, line := range lines {
		if got := post(t, "http://"+ports[1]+string(line[2]), string(line[1])); got != string(line[3]) {
			t.Errorf("%s\nanswers %s", line[0], got)
		}
	}
}

// build compiles a program outside this module, as a user's is.
func build(t *testing.T, source []byte) string {
	t.Helper()
	dir := t.TempDir()
	outsideModule(t, dir, "counter")
	if err := os.WriteFile(filepath.Join(dir, "main.go"), source, 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("go", "build", "-mod=mod", "-o", "counter", ".")
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return filepath.Join(dir, "counter")
}

// outsideModule makes dir a module with the versions of this one.
func outsideModule(t *testing.T, dir, name string) {
	t.Helper()
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	mod, err := os.ReadFile("go.mod")
	if err != nil {
		t.Fatal(err)
	}
	_, requires, _ := strings.Cut(string(mod), "\ngo ")
	sum, err := os.ReadFile("go.sum")
	if err != nil {
		t.Fatal(err)
	}
	for file, content := range map[string][]byte{
		"go.mod": fmt.Appendf(nil, "module %s\n\ngo %s\nrequire github.com/xiaonanln/goverse v0.0.0\n\nreplace github.com/xiaonanln/goverse => %s\n", name, requires, here),
		"go.sum": sum,
	} {
		if err := os.WriteFile(filepath.Join(dir, file), content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func freePorts(t *testing.T, n int) (addresses []string) {
	t.Helper()
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		addresses = append(addresses, l.Addr().String())
	}
	return addresses
}

// post sends what `curl -d` does, as soon as the program listens.
func post(t *testing.T, url, body string) string {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for {
		r, err := http.Post(url, "application/x-www-form-urlencoded", strings.NewReader(body))
		if err == nil {
			defer r.Body.Close()
			reply, err := io.ReadAll(r.Body)
			if err != nil {
				t.Fatal(err)
			}
			return strings.TrimSpace(string(reply))
		}
		if time.Now().After(deadline) {
			t.Fatalf("the program does not answer: %v", err)
		}
		<-time.After(20 * time.Millisecond) // until its port is open
	}
}
