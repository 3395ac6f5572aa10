package bench

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// BenchmarkStart measures a built binary from its start to its first answered call:
// fresh, and again on the data of the run before.
func BenchmarkStart(b *testing.B) {
	binary := filepath.Join(b.TempDir(), "counter")
	if out, err := exec.Command("go", "build", "-o", binary, "github.com/xiaonanln/goverse/samples/counter").CombinedOutput(); err != nil {
		b.Fatalf("%v\n%s", err, out)
	}
	b.Run("fresh", func(b *testing.B) {
		for b.Loop() {
			b.StopTimer()
			dir := b.TempDir()
			b.StartTimer()
			answer(b, binary, dir)
		}
	})
	b.Run("again", func(b *testing.B) {
		dir := b.TempDir()
		answer(b, binary, dir)
		for b.Loop() {
			answer(b, binary, dir)
		}
	})
}

// answer starts the binary, waits for the answer of one call, and stops it off the
// clock.
func answer(b *testing.B, binary, dir string) {
	b.StopTimer()
	ports := ports(b, 3)
	var out bytes.Buffer
	cmd := exec.Command(binary, "--data-dir", dir, "--listen", ports[0], "--http-listen", ports[1], "--gate-listen", ports[2])
	cmd.Stdout, cmd.Stderr = &out, &out
	b.StartTimer()
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	for began := time.Now(); ; {
		r, err := http.Post("http://"+ports[1]+"/api/v1/objects/Counter/x/Add", "application/json", strings.NewReader(`{"amount":1}`))
		if err == nil {
			body, _ := io.ReadAll(r.Body)
			r.Body.Close()
			if r.StatusCode != http.StatusOK {
				b.Fatalf("%s: %s", r.Status, body)
			}
			break
		}
		if time.Since(began) > 30*time.Second {
			b.Fatalf("no answer: %v\n%s", err, out.String())
		}
		<-time.After(2 * time.Millisecond) // until its port is open
	}
	b.StopTimer()
	cmd.Process.Signal(syscall.SIGTERM)
	if err := cmd.Wait(); err != nil {
		b.Fatalf("%v\n%s", err, out.String())
	}
	b.StartTimer()
}

func ports(b *testing.B, n int) (addresses []string) {
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			b.Fatal(err)
		}
		defer l.Close()
		addresses = append(addresses, l.Addr().String())
	}
	return addresses
}
