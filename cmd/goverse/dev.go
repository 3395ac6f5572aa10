package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/xiaonanln/goverse/cluster/consensusmanager"
	"github.com/xiaonanln/goverse/cluster/etcdmanager"
	"github.com/xiaonanln/goverse/cluster/etcdmanager/embedded"
	"github.com/xiaonanln/goverse/cluster/sharding"
	"github.com/xiaonanln/goverse/inspector"
	"github.com/xiaonanln/goverse/internal/event"
)

// devFlags is what goverse dev is to run.
type devFlags struct {
	nodes     int
	host      string
	http      int
	inspector string
	watch     bool
}

func (p *program) dev() *cobra.Command {
	var f devFlags
	c := &cobra.Command{
		Use:   "dev [PACKAGE] [-- FLAGS]",
		Short: "Run a whole cluster of your program on this machine",
		Long: `dev builds the Go program in PACKAGE (default: the directory you are in) and runs a cluster of it on
this machine: nodes, each with a gate, on an etcd and a SQLite store in --data-dir, and the
inspector. The program is one that calls goverseapi.Main; goverse new makes one. What stands behind
-- goes to each of its processes.

While it runs it looks at the program's files. Once you have changed one it builds anew, and
replaces the processes one by one: each passes its objects on to the others, live state and all, and
no call of a client of the others fails. What does not build leaves the old program running.

The other commands need no flags beside it, in the same directory. A further process of your program,
under a debugger perhaps, joins with the flags that dev prints. Ctrl-C stops all; what is stored
stays in --data-dir for the next time.`,
		Example: `  goverse dev
  goverse dev ./cmd/shop --nodes 5
  goverse dev --http-port 9000 -- --log-level debug`,
		Args: func(c *cobra.Command, args []string) error {
			if own := c.ArgsLenAtDash(); own > 1 || own < 0 && len(args) > 1 {
				return fmt.Errorf("unexpected argument %q; flags of the program stand behind --", args[1])
			}
			return f.check()
		},
	}
	c.ValidArgsFunction = func(_ *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
		if list, how, behind := completeBehindDash(nodeFlags(), args, typed); behind || len(args) > 0 {
			return list, how
		}
		return nil, cobra.ShellCompDirectiveFilterDirs
	}
	c.Flags().IntVar(&f.nodes, "nodes", 3, "how many `processes` of the program run")
	c.Flags().StringVar(&f.host, "host", "127.0.0.1", "the `address` of this machine on which they listen")
	c.Flags().IntVar(&f.http, "http-port", 48000, "the first gate's HTTP `port`; the others' follow, as do 47000 for nodes and 49000 for gRPC")
	c.Flags().StringVar(&f.inspector, "inspector-listen", inspector.DefaultListenAddress, "`host:port` of the inspector; off for none")
	c.Flags().BoolVar(&f.watch, "watch", true, "build and replace the processes when a file of the program changes")
	c.RunE = does(func(c *cobra.Command, args []string) error {
		target, own := ".", c.ArgsLenAtDash()
		if len(args) > 0 && own != 0 {
			target, args = args[0], args[1:]
		}
		ctx, stop := signal.NotifyContext(c.Context(), os.Interrupt, syscall.SIGTERM)
		defer stop()
		return p.develop(ctx, f, target, args)
	})
	return c
}

func (f devFlags) check() error {
	const step = 1000 // between the ports of nodes, HTTP and gRPC
	switch {
	case f.nodes < 1 || f.nodes > 50:
		return fmt.Errorf("--nodes %d: want 1 to 50", f.nodes)
	case f.http <= step || f.http > 65535-step-f.nodes:
		return fmt.Errorf("--http-port %d: want %d to %d", f.http, step+1, 65535-step-f.nodes)
	}
	return nil
}

// town is what goverse dev runs: an etcd, an inspector, and processes of a program.
type town struct {
	p       *program
	flags   devFlags
	target  string // the Go package
	args    []string
	dir     string
	etcd    *embedded.Server
	kv      etcdmanager.KV
	out     *chorus
	houses  []*house
	version int // of the program: how often it was built
}

// develop runs until ctx ends, and leaves nothing running behind.
func (p *program) develop(ctx context.Context, f devFlags, target string, args []string) (err error) {
	t := &town{p: p, flags: f, target: target, args: args, out: newChorus(p.err)}
	defer func() {
		if err == nil {
			t.say("stopped")
		}
	}()
	if t.dir, err = filepath.Abs(p.flags.dataDir); err != nil {
		return err
	}
	binary, err := t.build(ctx)
	if err != nil {
		return err
	}
	if t.etcd, err = embedded.Start(ctx, embedded.Config{Dir: t.dir}); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	defer func() { err = errors.Join(err, t.etcd.Close()) }()
	if t.kv, err = etcdmanager.Dial(etcdmanager.Config{Endpoints: []string{t.etcd.Endpoint()}}); err != nil {
		return err
	}
	defer t.kv.Close()
	defer t.stopAll()
	for i := range f.nodes {
		t.houses = append(t.houses, t.house(i))
		if err := t.open(ctx, t.houses[i], binary); err != nil {
			return t.ended(ctx, err)
		}
	}
	if err := t.settled(ctx); err != nil {
		return t.ended(ctx, err)
	}
	stop := t.inspect(ctx)
	defer stop()
	t.announce()
	return t.ended(ctx, t.live(ctx))
}

// ended: that ctx has ended is how it ends.
func (t *town) ended(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// build makes the program, each time as another file: the old one may be running.
func (t *town) build(ctx context.Context) (string, error) {
	dir := filepath.Join(t.dir, "dev")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	t.version++
	binary := filepath.Join(dir, fmt.Sprintf("program%d", t.version%2))
	c := exec.CommandContext(ctx, "go", "build", "-o", binary, t.target)
	c.Cancel = func() error { return c.Process.Signal(os.Interrupt) }
	c.WaitDelay = 5 * time.Second
	if text, err := c.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build %s: %w\n%s", t.target, err, text)
	}
	return binary, nil
}

// inspect shows the cluster until stop is called.
func (t *town) inspect(ctx context.Context) (stop func()) {
	if t.flags.inspector == "off" {
		return func() {}
	}
	i, err := inspector.New(inspector.Config{
		ListenAddress: t.flags.inspector, KV: t.kv, Prefix: t.p.flags.prefix, Token: os.Getenv(inspector.TokenVariable),
		Listener: event.Listener{},
	})
	if err != nil {
		t.say("there is no inspector: %v", err)
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	done, open := make(chan struct{}), make(chan string, 1)
	go func() {
		defer close(done)
		if err := i.Run(ctx, func(address string) { open <- address }); err != nil {
			t.say("there is no inspector: %v (--inspector-listen)", err)
		}
	}()
	select {
	case address := <-open:
		t.flags.inspector = "http://" + address + "/"
	case <-done:
		t.flags.inspector = "off"
	}
	return func() { cancel(); <-done }
}

// announce tells a person where things are.
func (t *town) announce() {
	first := t.houses[0]
	lines := []string{
		"open       http://" + first.http + "/",
		"HTTP       " + t.all(func(h *house) string { return "http://" + h.http }),
		"gRPC       " + t.all(func(h *house) string { return h.grpc }),
		"nodes      " + t.all(func(h *house) string { return h.node }),
		"inspector  " + t.flags.inspector,
		"etcd       " + t.etcd.Endpoint(),
		"data       " + t.dir,
		fmt.Sprintf("join       --etcd %s --data-dir %s --listen %s:0 --http-listen %[3]s:0 --gate-listen %[3]s:0", t.etcd.Endpoint(), t.dir, t.flags.host),
		"Ctrl-C stops all.",
	}
	fmt.Fprintln(t.p.out, strings.Join(lines, "\n"))
}

func (t *town) all(of func(*house) string) string {
	var list []string
	for _, h := range t.houses {
		list = append(list, of(h))
	}
	return strings.Join(list, " ")
}

func (t *town) say(format string, args ...any) { t.out.line("dev", fmt.Sprintf(format, args...)) }

// live watches the processes, and the program's files.
func (t *town) live(ctx context.Context) error {
	files := newFiles(t.target, t.dir)
	tick := time.NewTicker(lookAgain)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.etcd.Failed():
			return t.etcd.Err()
		case <-tick.C:
		}
		for _, h := range t.houses {
			if err := h.died(); err != nil {
				return err
			}
		}
		if t.flags.watch && files.changed() {
			if err := t.renew(ctx); err != nil {
				return err
			}
		}
	}
}

// lookAgain is how often files are looked at. A change counts once they stay the same.
const lookAgain = 500 * time.Millisecond

// renew replaces the processes one by one with those of a new build. A process that is alone
// has nobody to pass its objects to, so another one keeps them meanwhile.
func (t *town) renew(ctx context.Context) error {
	begun := time.Now()
	binary, err := t.build(ctx)
	if err != nil {
		t.say("%v", err)
		t.say("the old program goes on")
		return nil
	}
	if len(t.houses) == 1 {
		keeper := t.house(1)
		keeper.http, keeper.grpc, keeper.node = t.free(), t.free(), t.free()
		if err := t.open(ctx, keeper, binary); err != nil {
			return err
		}
		defer keeper.close()
	}
	for _, h := range t.houses {
		h.close()
		if err := t.open(ctx, h, binary); err != nil {
			return err
		}
		if err := t.settled(ctx); err != nil { // else it may have nothing yet that it could pass on
			return err
		}
	}
	t.say("built and replaced in %v", time.Since(begun).Round(100*time.Millisecond))
	return nil
}

// open starts a process and waits until it is a node of the cluster.
func (t *town) open(ctx context.Context, h *house, binary string) error {
	if err := h.start(binary, t.programFlags(h), t.out); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, startWithin, fmt.Errorf("%s has not joined the cluster within %v", h.name, startWithin))
	defer cancel()
	stopped := make(chan struct{})
	defer close(stopped)
	go func() {
		select {
		case <-h.ended:
			cancel()
		case <-stopped:
		}
	}()
	joined := false
	err := consensusmanager.Follow(ctx, t.kv, t.p.flags.prefix, func(v *consensusmanager.View) bool {
		_, joined = v.Member(h.node)
		return !joined
	})
	switch {
	case joined:
		return nil
	case h.died() != nil:
		return h.died()
	case ctx.Err() != nil:
		return context.Cause(ctx)
	}
	return err
}

// settled waits until every shard is with the node that is to hold it.
func (t *town) settled(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, startWithin, fmt.Errorf("the cluster is not ready after %v; goverse nodes and goverse shards say why", startWithin))
	defer cancel()
	err := consensusmanager.Follow(ctx, t.kv, t.p.flags.prefix, func(v *consensusmanager.View) bool {
		return v.Table.Len() == 0 || v.Census().States[sharding.Held] < v.Table.Len()
	})
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// startWithin bounds how long a process takes to be a node.
const startWithin = time.Minute

func (t *town) programFlags(h *house) []string {
	return append([]string{
		"--listen", h.node, "--http-listen", h.http, "--gate-listen", h.grpc, "--inspector-listen", "off", "--stability", "1s", "--shards", "512",
		"--etcd", t.etcd.Endpoint(), "--etcd-prefix", t.p.flags.prefix, "--data-dir", t.dir,
	}, t.args...)
}

// stopAll ends the processes, at once: none has anybody to pass its objects to.
func (t *town) stopAll() {
	for _, h := range t.houses {
		h.signal()
	}
	for _, h := range t.houses {
		h.close()
	}
}
