package gatecmd

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/xiaonanln/goverse/cluster/etcdmanager/embedded"
	"github.com/xiaonanln/goverse/gate/gateserver"
	"github.com/xiaonanln/goverse/util/logger"
)

// lines is a log.
type lines struct {
	mu   sync.Mutex
	text strings.Builder
}

// Write implements io.Writer.
func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *lines) have(words string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Contains(l.text.String(), words)
}

// await looks again and again.
func await(t *testing.T, what string, done func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for tick := time.NewTicker(10 * time.Millisecond); !done(); {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// limitsAt are the limits that a gate says to hold; nil: it says nothing yet.
func limitsAt(address string) *gateserver.LimitsInside {
	r, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Get("http://" + address + "/debug/goverse")
	if err != nil {
		return nil
	}
	defer r.Body.Close()
	inside := new(gateserver.Inside)
	if r.StatusCode != http.StatusOK || json.NewDecoder(r.Body).Decode(inside) != nil {
		return nil
	}
	return &inside.Limits
}

func freeAddress(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// A gate takes the limits up that change in its file, tells what counts later, and keeps what
// it has when the file is wrong.
func TestLimitsChangeWhileAGateRuns(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a real etcd: not with -short")
	}
	etcd, err := embedded.Start(t.Context(), embedded.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer etcd.Close()
	said := new(lines)
	logger.UseText(said)
	defer logger.Use(nil)
	ops, file := freeAddress(t), filepath.Join(t.TempDir(), "cluster.yaml")
	write := func(flags string) {
		text := fmt.Sprintf("version: 1\ncluster: {etcd: {endpoints: [%q]}}\ngate_flags:\n%sgates:\n  - {id: g1, grpc_addr: %q, http_addr: off, ops_addr: %q}\n", etcd.Endpoint(), flags, "127.0.0.1:0", ops)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("  max-calls: 5\n")
	ctx, end := context.WithCancel(t.Context())
	ended := make(chan int, 1)
	go func() { ended <- Run(ctx, "gate", []string{"--config", file, "--gate-id", "g1"}, said, said) }()
	defer func() {
		end()
		if code := <-ended; code != 0 {
			t.Errorf("it ended with %d", code)
		}
	}()
	await(t, "the gate", func() bool { l := limitsAt(ops); return l != nil && l.Calls == 5 })

	write("  max-calls: 6\n  client-rate: 7\n  trusted-proxies: 10.0.0.0/8,10.1.2.3/32\n  resume-window: 9s\n")
	await(t, "new limits", func() bool {
		l := limitsAt(ops)
		return l != nil && l.Calls == 6 && l.ClientRate == 7 && len(l.TrustedProxies) == 2
	})
	await(t, "what counts later", func() bool {
		return said.have(`gate_flags.max-calls changed from "5" to "6": it counts now`) &&
			said.have(`gate_flags.resume-window changed from "1m0s" to "9s": it counts at a restart`)
	})

	write("  max-calls: 8\n  client-rate: -9\n")
	await(t, "a refusal", func() bool {
		return said.have(file+":4: gate_flags.max-calls") && said.have(file+":5: gate_flags.client-rate") && said.have("Limits.ClientRate is -9")
	})
	if l := limitsAt(ops); l.Calls != 6 || l.ClientRate != 7 {
		t.Errorf("a wrong file changed %+v", l)
	}

	write("  max-calls: 8x\n")
	await(t, "another refusal", func() bool { return said.have(file + `:4: gate_flags.max-calls: "8x"`) })
	write("")
	await(t, "the defaults", func() bool {
		l := limitsAt(ops)
		return l.Calls == 16384 && l.ClientRate == 20_000 && len(l.TrustedProxies) == 0
	})
}
