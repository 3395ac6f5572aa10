//go:build unix

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/xiaonanln/goverse/test/spawn"
)

// etcdBinary is etcd itself, as its own module has it.
var etcdBinary = sync.OnceValues(func() (string, error) {
	binary := filepath.Join(workshop, "etcd")
	if out, err := exec.Command("go", "build", "-o", binary, "go.etcd.io/etcd/server/v3").CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build etcd: %w\n%s", err, out)
	}
	return binary, nil
})

// member is one of the processes of an etcd.
type member struct {
	name         string
	host         *host // nil on loopback
	client, peer string
	dir          string
	cluster      string // the names and addresses of all
	p            *program
}

// startMembers starts an etcd of n members, each on a host of its own where there is a
// world, and waits until they have a leader.
func startMembers(t *testing.T, w *world, n int) []*member {
	t.Helper()
	var members []*member
	var all []string
	for i := range n {
		m := &member{name: fmt.Sprint("etcd", i+1), dir: t.TempDir()}
		if w != nil {
			m.host = w.host()
			m.client, m.peer = net.JoinHostPort(m.host.address, "2379"), net.JoinHostPort(m.host.address, "2380")
		} else {
			m.client, m.peer = spawn.FreeAddress(t), spawn.FreeAddress(t)
		}
		all = append(all, m.name+"=http://"+m.peer)
		members = append(members, m)
	}
	for _, m := range members {
		m.cluster = strings.Join(all, ",")
		m.start(t)
	}
	leaderOf(t, members)
	return members
}

// start starts a member, which may have run before.
func (m *member) start(t *testing.T) {
	t.Helper()
	binary, err := etcdBinary()
	if err != nil {
		t.Fatal(err)
	}
	s := &site{binary: binary, dir: m.dir, host: m.host}
	m.p = s.launch(t, "--name", m.name, "--data-dir", filepath.Join(m.dir, "data"), "--log-level", "error",
		"--listen-client-urls", "http://"+m.client, "--advertise-client-urls", "http://"+m.client,
		"--listen-peer-urls", "http://"+m.peer, "--initial-advertise-peer-urls", "http://"+m.peer,
		"--initial-cluster", m.cluster)
}

// pause stops a member for a while.
func (m *member) pause(d time.Duration) {
	m.p.signal(syscall.SIGSTOP)
	time.Sleep(d) // the fault itself
	m.p.signal(syscall.SIGCONT)
}

// catchUp waits until a member that was started knows a leader.
func (m *member) catchUp(t *testing.T) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) { // between two questions
		if _, leader, err := m.status(); err == nil && leader != "" && leader != "0" {
			return
		}
	}
	t.Fatalf("%s finds no leader:\n%s", m.name, m.p.output())
}

// leaderOf waits until most members agree on a leader, and returns it.
func leaderOf(t *testing.T, members []*member) *member {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) { // between two questions
		votes := map[string]int{}
		by := map[string]*member{}
		for _, m := range members {
			own, leader, err := m.status()
			if err == nil {
				by[own] = m
				votes[leader]++
			}
		}
		for leader, n := range votes {
			if 2*n > len(members) && by[leader] != nil {
				return by[leader]
			}
		}
	}
	t.Fatal("etcd has no leader")
	return nil
}

// status asks a member who it is, and who leads.
func (m *member) status() (own, leader string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 500*time.Millisecond)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+m.client+"/v3/maintenance/status", strings.NewReader("{}"))
	if err != nil {
		return "", "", err
	}
	resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(r)
	if err != nil {
		return "", "", err
	}
	defer resp.Body.Close()
	var status struct {
		Header struct {
			MemberID string `json:"member_id"`
		}
		Leader string
	}
	if err := json.NewDecoder(resp.Body).Decode(&status); err != nil {
		return "", "", err
	}
	return status.Header.MemberID, status.Leader, nil
}
