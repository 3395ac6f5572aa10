//go:build unix

package e2e

import (
	"fmt"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/xiaonanln/goverse/cluster/consensusmanager"
	"github.com/xiaonanln/goverse/cluster/sharding"
)

// Two people talk at one gate about a room that lives on another node. That node is
// stopped, started and killed; then their gate is. What was written before, meanwhile and after
// is there once each, in order.
func TestBrowsersThroughRestarts(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	browser := startBrowser(t)
	gate, node := f.chat(), f.chat()
	page, other := gate.start(t), node.start(t)
	f.nodes[gate.node], f.nodes[node.node] = page, other
	f.settle()
	room := f.roomOn(node.node, 0)

	ann, bob := openTab(t, browser, "ann"), openTab(t, browser, "bob")
	ann.enter(gate, room)
	bob.enter(gate, room)
	ann.sees("ann", "bob")
	var said []row
	write := func(b *tab, text string) {
		b.write(text)
		said = append(said, row{b.who, text})
	}
	all := func() {
		t.Helper()
		for _, b := range []*tab{ann, bob} {
			b.live()
			b.shows(said...)
			b.sees("ann", "bob")
		}
	}
	write(ann, "before anything")
	all()

	other.signal(syscall.SIGTERM)
	for n := range 5 {
		write(ann, fmt.Sprintf("while the node stops, %d", n))
	}
	if code, _ := other.exit(40 * time.Second); code != 0 {
		t.Errorf("the node ended with %d", code)
	}
	all()
	other = node.start(t)
	f.nodes[node.node] = other
	f.settle()
	room = f.roomOn(node.node, 1000) // wherever the first one is now
	for _, b := range []*tab{ann, bob} {
		eval[string](b, fmt.Sprintf(`location.hash = %q`, room))
	}
	said = nil
	write(bob, "before the kill")
	all()
	ann.wantNoProblems(false)
	bob.wantNoProblems(false)

	other.kill()
	for n := range 3 {
		write(ann, fmt.Sprintf("while the node is dead, %d", n))
	}
	all()
	other = node.start(t)
	f.nodes[node.node] = other
	write(bob, "the node is back")
	all()

	page.signal(syscall.SIGTERM)
	write(ann, "while the gate stops")
	if code, _ := page.exit(40 * time.Second); code != 0 {
		t.Errorf("the gate ended with %d", code)
	}
	ann.until("the page says that it reconnects", `document.getElementById("state").textContent.startsWith("reconnecting in ")`)
	write(ann, "while the gate is gone")
	page = gate.start(t)
	f.nodes[gate.node] = page
	all()
	write(bob, "after everything")
	all()
	ann.wantNoProblems(true)
	bob.wantNoProblems(true)
}

// chat is a site for the chat sample as a node of the fleet, with a gate in the same process.
func (f *fleet) chat() *site {
	f.t.Helper()
	s := newSite(f.t, chatBinary)
	s.data = filepath.Join(f.dir, "data")
	s.env = []string{"GOVERSE_ETCD=" + f.etcd, "GOVERSE_STABILITY=" + stability.String()}
	return s
}

// roomOn is the name of a room that lives on a node, with this number or a higher one.
func (f *fleet) roomOn(node string, number int) (room string) {
	f.t.Helper()
	f.until(func(v *consensusmanager.View) string {
		for n := range 1000 {
			room = fmt.Sprintf("room %d", number+n)
			if s := v.Table.Shard(sharding.Of(room, v.Table.Len())); s.Current == node && s.Target == node {
				return ""
			}
		}
		return "no room is on " + node
	})
	return room
}
