package e2e

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// world is a network that nobody else is in: a switch, and hosts that each have a
// network namespace of their own. The test that is in it runs in a process of its
// own, whose namespace has the switch. No namespace has a name: files that are open
// hold them, so that nothing is left of them when the process ends, however it does.
type world struct {
	t     *testing.T
	home  *host
	hosts []*host
}

// host is one machine of a world.
type host struct {
	w       *world
	number  int
	ns      *os.File // nil for the world's own process
	address string   // without a port
}

// inWorld runs the rest of a test in a world: in a process of its own, whose network
// is empty. Where the machine does not allow that, test gets nil or, if need be, is
// skipped.
func inWorld(t *testing.T, necessary bool, test func(w *world)) {
	t.Helper()
	if testing.Short() {
		t.Skip("builds and runs real processes: not with -short")
	}
	if os.Getenv(worldVariable) == t.Name() {
		test(newWorld(t))
		return
	}
	t.Parallel()
	switch why := noWorld(); {
	case why == "":
		runInWorld(t)
	case necessary:
		t.Skip("NOT TESTED: cuts between single processes. " + why)
	default:
		t.Log("NOT TESTED: cuts between single processes; everything is on loopback. " + why)
		test(nil)
	}
}

// The variables that tell a test's other process what it is, and where the programs
// have been built.
const (
	worldVariable    = "GOVERSE_E2E_WORLD"
	workshopVariable = "GOVERSE_E2E_WORKSHOP"
)

// ipTool is the program ip of iproute2.
func ipTool() (string, error) {
	for _, path := range []string{"/usr/sbin/ip", "/sbin/ip"} { // not on everybody's PATH
		if _, err := os.Stat(path); err == nil {
			return path, nil
		}
	}
	return exec.LookPath("ip")
}

// noWorld says why there can be none, or "".
func noWorld() string {
	ip, err := ipTool()
	if err != nil {
		return "There is no program ip; install iproute2."
	}
	cmd := exec.Command(ip, "-batch", "-")
	cmd.Stdin = strings.NewReader("link add name switch type bridge\nlink add name port2 type veth peer name eth0\n")
	secluded(cmd)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Sprintf("This user may have no network namespaces: %v %s", err, out)
	}
	return ""
}

// secluded gives a process a network namespace of its own; who is not root needs a
// user namespace for that.
func secluded(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Cloneflags: unix.CLONE_NEWNET}
	if os.Geteuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= unix.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
}

// runInWorld runs the test that called it in a process that has a network of its own.
func runInWorld(t *testing.T) {
	t.Helper()
	args := []string{"-test.run=^" + t.Name() + "$", "-test.v", "-test.count=1"}
	if deadline, ok := t.Deadline(); ok {
		args = append(args, fmt.Sprint("-test.timeout=", time.Until(deadline)-10*time.Second)) // it speaks first
	}
	flag.Visit(func(f *flag.Flag) {
		if strings.HasPrefix(f.Name, "e2e.") {
			args = append(args, "-"+f.Name+"="+f.Value.String())
		}
	})
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe", args...)
	cmd.Env = append(os.Environ(), worldVariable+"="+t.Name(), workshopVariable+"="+workshop, "TMPDIR="+t.TempDir())
	secluded(cmd)
	out, err := cmd.CombinedOutput()
	t.Logf("in a network of its own:\n%s", out)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Error("the process has not run the test")
	}
}

// network is what hosts of a world are numbered in.
const network = "10.99.0."

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t}
	w.home = &host{w: w, number: 1, address: network + "1"}
	w.hosts = []*host{w.home}
	w.home.ip("link set lo up",
		"link add name switch type bridge",
		"link set switch address "+w.home.mac()+" up",
		"address add "+w.home.address+"/24 dev switch")
	return w
}

// host is a new machine, that reaches all others.
func (w *world) host() *host {
	w.t.Helper()
	h := &host{w: w, number: len(w.hosts) + 1}
	h.address = fmt.Sprint(network, h.number)
	err := inside(nil, func() (err error) {
		if err = unix.Unshare(unix.CLONE_NEWNET); err == nil {
			h.ns, err = os.Open("/proc/thread-self/ns/net")
		}
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { h.ns.Close() })
	w.home.ip(fmt.Sprintf("link add name %s type veth peer name eth0 netns /proc/%d/fd/%d", h.port(), os.Getpid(), h.ns.Fd()),
		"link set "+h.port()+" master switch up")
	h.ip("link set lo up", "link set eth0 address "+h.mac()+" up", "address add "+h.address+"/24 dev eth0")
	for _, other := range w.hosts {
		other.knows(h, h.mac())
		h.knows(other, other.mac())
	}
	w.hosts = append(w.hosts, h)
	return h
}

// port is where the host is plugged into the switch.
func (h *host) port() string { return fmt.Sprint("port", h.number) }

func (h *host) mac() string { return fmt.Sprintf("02:00:00:00:00:%02x", h.number) }

// nobody has this address of a network card: what is sent to it is lost.
const nobody = "02:ff:ff:ff:ff:ff"

// knows tells h at which card it finds another host.
func (h *host) knows(other *host, mac string) {
	device := "eth0"
	if h.ns == nil {
		device = "switch"
	}
	h.ip("neighbour replace " + other.address + " lladdr " + mac + " dev " + device + " nud permanent")
}

// cutTo loses what h sends to others; what they send to h comes.
func (h *host) cutTo(others ...*host) {
	for _, other := range others {
		h.knows(other, nobody)
	}
}

func (h *host) healTo(others ...*host) {
	for _, other := range others {
		h.knows(other, other.mac())
	}
}

// unplug pulls the cable of a host, plug puts it back.
func (h *host) unplug() { h.w.home.ip("link set " + h.port() + " down") }
func (h *host) plug()   { h.w.home.ip("link set " + h.port() + " up") }

// ip runs commands of the program ip on the host.
func (h *host) ip(commands ...string) {
	h.w.t.Helper()
	path, err := ipTool()
	if err != nil {
		h.w.t.Fatal(err)
	}
	cmd := exec.Command(path, "-batch", "-")
	cmd.Stdin = strings.NewReader(strings.Join(commands, "\n"))
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := h.start(cmd); err != nil {
		h.w.t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		h.w.t.Fatalf("on %s: ip %q: %v %s", h.address, commands, err, &out)
	}
}

// start starts a process on the host.
func (h *host) start(cmd *exec.Cmd) error { return inside(h.ns, cmd.Start) }

// inside calls f on a thread that is in a namespace, if it is not nil, and leaves that
// which f goes to. A thread that does not find home ends the process.
func inside(ns *os.File, f func() error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	home, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return err
	}
	defer home.Close()
	if ns != nil {
		err = unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET)
	}
	if err == nil {
		err = f()
	}
	if lost := unix.Setns(int(home.Fd()), unix.CLONE_NEWNET); lost != nil {
		panic(errors.Join(err, lost))
	}
	return err
}

// A world's hosts reach each other; a cut loses one direction and an unplugged host
// both, without a word to either; and nothing of it is seen from outside.
func TestWorld(t *testing.T) {
	inWorld(t, true, func(w *world) {
		if w == nil {
			t.Fatal("no world")
		}
		a, b := w.host(), w.host()
		reaches := func(from, to *host, want bool) {
			t.Helper()
			err := from.says(to)
			for range 20 { // a cable that was just plugged in
				if want && err != nil {
					err = from.says(to)
				}
			}
			if (err == nil) != want {
				t.Errorf("from %s to %s: %v", from.address, to.address, err)
			}
		}
		reaches(a, b, true)
		reaches(w.home, b, true)
		a.cutTo(b)
		reaches(a, b, false)
		reaches(b, a, true)
		reaches(a, w.home, true)
		a.healTo(b)
		b.unplug()
		reaches(a, b, false)
		reaches(b, a, false)
		b.plug()
		reaches(a, b, true)
	})
	if names, _ := filepath.Glob("/sys/class/net/port*"); os.Getenv(worldVariable) == "" && len(names) > 0 {
		t.Errorf("outside there is %q", names)
	}
}

// says sends a datagram from one host to another, and waits for a moment until it is
// there.
func (h *host) says(to *host) error {
	var receiver, sender int
	err := inside(to.ns, func() (err error) { receiver, err = unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0); return err })
	if err != nil {
		return err
	}
	defer unix.Close(receiver)
	if err := inside(h.ns, func() (err error) { sender, err = unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0); return err }); err != nil {
		return err
	}
	defer unix.Close(sender)
	there := &unix.SockaddrInet4{Port: 9, Addr: [4]byte{10, 99, 0, byte(to.number)}}
	patience := unix.NsecToTimeval(int64(200 * time.Millisecond))
	err = errors.Join(unix.Bind(receiver, there), unix.SetsockoptTimeval(receiver, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &patience))
	if err != nil {
		return err
	}
	if err := unix.Sendto(sender, []byte("hello"), 0, there); err != nil {
		return fmt.Errorf("it noticed: %w", err)
	}
	_, _, err = unix.Recvfrom(receiver, make([]byte, 8), 0)
	return err
}
