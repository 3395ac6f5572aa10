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
		report(b, func() time.Duration { return answer(b, binary, b.TempDir()) })
	})
	b.Run("again", func(b *testing.B) {
		dir := b.TempDir()
		answer(b, binary, dir)
		report(b, func() time.Duration { return answer(b, binary, dir) })
	})
}

// report shows the mean of start in place of the time of the whole loop, which also
// stops the programs.
func report(b *testing.B, start func() time.Duration) {
	var sum time.Duration
	for b.Loop() {
		sum += start()
	}
	b.ReportMetric(float64(sum.Milliseconds())/float64(b.N), "ms/start")
	b.ReportMetric(0, "ns/op")
}

// answer starts the binary, waits for the answer of one call, stops it, and returns
// how long the answer took.
func answer(b *testing.B, binary, dir string) (took time.Duration) {
	ports := ports(b, 3)
	var out bytes.Buffer
	cmd := exec.Command(binary, "--data-dir", dir, "--listen", ports[0], "--http-listen", ports[1], "--gate-listen", ports[2])
	cmd.Stdout, cmd.Stderr = &out, &out
	began := time.Now()
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	for {
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
	took = time.Since(began)
	cmd.Process.Signal(syscall.SIGTERM)
	if err := cmd.Wait(); err != nil {
		b.Fatalf("%v\n%s", err, out.String())
	}
	return took
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
