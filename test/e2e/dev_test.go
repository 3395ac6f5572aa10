//go:build unix

package e2e

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A program begins with goverse new and grows under goverse dev: a change replaces its
// processes, and what its objects know goes on.
func TestNewAndDev(t *testing.T) {
	s := newSite(t, goverseBinary)
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	project := filepath.Join(s.dir, "greeter")
	begin := exec.Command(s.binary, "new", "greeter", "--dir", project, "--goverse", root)
	if text, err := begin.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	s.dir = project
	port := freePorts(t, 2)
	dev := s.launch(t, "dev", "--nodes", "2", "--http-port", fmt.Sprint(port), "--inspector-listen", "off")
	if !dev.says("Ctrl-C stops all.", 3*time.Minute) {
		t.Fatal("it is not ready")
	}
	greet := func(gate int, want string) {
		t.Helper()
		url := fmt.Sprintf("http://127.0.0.1:%d/api/v1/objects/Greeter/front/Greet", port+gate)
		resp, err := http.Post(url, "application/json", strings.NewReader(`{"name":"Ada"}`))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		var text bytes.Buffer
		text.ReadFrom(resp.Body)
		if text.String() != want {
			t.Errorf("%s, want %s", &text, want)
		}
	}
	defer http.DefaultClient.CloseIdleConnections()
	greet(0, `{"text":"Hello Ada, at front!","times":"1"}`)
	edit(t, filepath.Join(project, "main.go"), "Hello %s", "Welcome %s")
	if !dev.says("built and replaced", 3*time.Minute) {
		t.Fatal("it is not replaced")
	}
	greet(1, `{"text":"Welcome Ada, at front!","times":"2"}`)
	edit(t, filepath.Join(project, "main.go"), "package main", "package")
	if !dev.says("the old program goes on", time.Minute) {
		t.Fatal("it does not say that it was not built")
	}
	greet(0, `{"text":"Welcome Ada, at front!","times":"3"}`)
	beside := exec.Command(s.binary, "nodes")
	beside.Dir = project
	if text, err := beside.CombinedOutput(); err != nil || strings.Count(string(text), "ready") != 2 {
		t.Errorf("%v: %s", err, text)
	}
	dev.signal(syscall.SIGINT)
	select {
	case <-dev.ended:
	case <-time.After(time.Minute):
		t.Fatal("it does not stop")
	}
	if dev.err != nil {
		t.Errorf("it ends with %v", dev.err)
	}
	if c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
		c.Close()
		t.Error("a process of the program goes on")
	}
}

func edit(t *testing.T, name, before, after string) {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil || !bytes.Contains(text, []byte(before)) {
		t.Fatalf("%s: %v", name, err)
	}
	if err := os.WriteFile(name, bytes.Replace(text, []byte(before), []byte(after), 1), 0o644); err != nil {
		t.Fatal(err)
	}
}

// freePorts is an HTTP port for dev with nodes processes. It is of those that no outgoing
// connection gets.
func freePorts(t *testing.T, nodes int) int {
	t.Helper()
	for range 100 {
		port := 12000 + rand.IntN(18000)
		taken := false
		for i := range nodes {
			for _, p := range []int{port - 1000, port, port + 1000} {
				l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", p+i))
				if err != nil {
					taken = true
					continue
				}
				l.Close()
			}
		}
		if !taken {
			return port
		}
	}
	t.Fatal("no ports are free")
	return 0
}
