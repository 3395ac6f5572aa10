// Command inspector shows the inspector's page on a cluster that is only pretended: as
// many nodes, shards, objects and calls as one likes, on a machine that has none of them.
// The page, its feed and its explanations are the inspector's own, on an etcd in memory;
// rates and objects are made up.
//
//	go run ./bench/inspector                    # 50 nodes, 50,000 objects
//	go run ./bench/inspector -nodes 3 -objects 300
//
// To have something happen: POST /simulated/join, /simulated/move?count=200,
// /simulated/drain?node=ADDRESS, /simulated/kill?node=ADDRESS.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/xiaonanln/goverse/cluster/etcdmanager/memkv"
	"github.com/xiaonanln/goverse/inspector"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "inspector:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, stdout io.Writer) error {
	flags := flag.NewFlagSet("inspector", flag.ContinueOnError)
	listen := flags.String("listen", "127.0.0.1:8080", "`host:port` of the page")
	nodes := flags.Int("nodes", 50, "nodes")
	gates := flags.Int("gates", 4, "gates")
	objects := flags.Int("objects", 50_000, "live objects")
	every := flags.Duration("every", time.Second, "`time` between two frames of rates")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *every < time.Millisecond {
		return fmt.Errorf("a frame every %v is too often", *every)
	}
	if *nodes < 1 || *nodes > 250 || *gates < 0 || *gates > 250 || *objects < 0 {
		return fmt.Errorf("%d nodes, %d gates and %d objects are no cluster: give 1 to 250 nodes", *nodes, *gates, *objects)
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	store := memkv.NewStore()
	defer store.Close()
	kv := store.Connect()
	defer kv.Close()
	c := &cluster{kv: kv}
	if err := c.begin(ctx, *nodes, *gates); err != nil {
		return err
	}
	i, err := inspector.New(inspector.Config{ListenAddress: "127.0.0.1:0", KV: kv})
	if err != nil {
		return err
	}
	var parts sync.WaitGroup
	defer parts.Wait()
	defer stop()
	opened, ended := make(chan string, 1), make(chan error, 1)
	parts.Go(func() { ended <- i.Run(ctx, func(address string) { opened <- address }) })
	var behind string
	select {
	case behind = <-opened:
	case err := <-ended:
		return err
	}
	return serve(ctx, *listen, &front{behind: behind, cluster: c, traffic: newTraffic(c, *objects), every: *every}, stdout)
}

// serve is the page's port until ctx ends.
func serve(ctx context.Context, listen string, f *front, stdout io.Writer) error {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", listen)
	if err != nil {
		return err
	}
	server := &http.Server{Handler: f.handler(), ReadHeaderTimeout: 10 * time.Second, BaseContext: func(net.Listener) context.Context { return ctx }}
	failed := make(chan error, 1)
	var parts sync.WaitGroup
	defer parts.Wait()
	parts.Go(func() { failed <- server.Serve(l) })
	fmt.Fprintf(stdout, "open     http://%s/\n", l.Addr())
	select {
	case err = <-failed:
	case <-ctx.Done():
	}
	_ = server.Close() // whoever looks is cut off
	return err
}
