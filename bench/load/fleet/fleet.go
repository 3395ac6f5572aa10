// Package fleet is a cluster of real processes to be measured: an etcd, a node and, if
// asked for, a gate, each a child; and one more node in this process, which calls. The
// objects that are called live on the child, so that every call crosses the wire.
package fleet

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/xiaonanln/goverse/bench/load/child"
	"github.com/xiaonanln/goverse/client/goverseclient"
	"github.com/xiaonanln/goverse/cluster/sharding"
	"github.com/xiaonanln/goverse/goverseapi"
	"github.com/xiaonanln/goverse/object"
	"github.com/xiaonanln/goverse/util/logger"
)

// patience is for how long a cluster may take to form.
const patience = 3 * time.Minute

// Fleet is a cluster that answers.
type Fleet struct {
	member    *goverseapi.Server
	remote    string // the other node's address
	stop      context.CancelFunc
	ran       chan error // what the member's Run returned
	dir       string
	client    *goverseclient.Client
	processes []*child.Process
}

// Start starts the processes and returns when the cluster answers. The program's main
// must be a child where child.Role says so: see Roles.
func Start(ctx context.Context, withGate bool) (*Fleet, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, fmt.Errorf("the cluster did not form within %v", patience))
	defer cancel()
	f := &Fleet{ran: make(chan error, 1), stop: func() {}}
	f.ran <- nil
	if err := f.form(ctx, withGate); err != nil {
		return nil, errors.Join(because(ctx, err), f.Close())
	}
	return f, nil
}

func (f *Fleet) form(ctx context.Context, withGate bool) error {
	var err error
	if f.dir, err = os.MkdirTemp("", "goverse-bench-"); err != nil {
		return err
	}
	etcd, err := f.start(ctx, "etcd", dirEnv+"="+f.dir)
	if err != nil {
		return err
	}
	env := []string{etcdEnv + "=" + etcd.Address, dirEnv + "=" + f.dir}
	node, err := f.start(ctx, "node", env...)
	if err != nil {
		return err
	}
	f.remote = node.Address
	if err := f.join(etcd.Address); err != nil {
		return err
	}
	if err := f.settle(ctx, node.Ended()); err != nil {
		return err
	}
	if !withGate {
		return nil
	}
	gate, err := f.start(ctx, "gate", env...)
	if err != nil {
		return err
	}
	if f.client, err = goverseclient.NewClient([]string{gate.Address}); err != nil {
		return err
	}
	return f.client.Connect(ctx)
}

// because is err, with why ctx has ended if it has.
func because(ctx context.Context, err error) error {
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%w: %w", context.Cause(ctx), err)
	}
	return err
}

func (f *Fleet) start(ctx context.Context, role string, env ...string) (*child.Process, error) {
	p, err := child.Start(ctx, role, env...)
	if err == nil {
		f.processes = append(f.processes, p)
	}
	return p, err
}

// join runs the member of this process.
func (f *Fleet) join(etcd string) (err error) {
	logger.SetLevel(logger.LevelError)
	if f.member, err = newMember(etcd, f.dir); err != nil {
		return err
	}
	ctx, stop := context.WithCancel(context.Background())
	f.stop = stop
	<-f.ran
	go func() { f.ran <- f.member.Run(ctx) }()
	return nil
}

// settle waits until each shard has a holder, and both members have shards.
func (f *Fleet) settle(ctx context.Context, died <-chan struct{}) error {
	select {
	case <-f.member.Joined():
	case err := <-f.ran:
		f.ran <- nil
		return errors.Join(errors.New("this process's node could not join"), err)
	case <-ctx.Done():
		return ctx.Err()
	}
	for {
		v := f.member.Cluster().View()
		held := map[string]int{}
		for i := range v.Table.Len() {
			holder, _ := v.Holder(sharding.ID(i))
			held[holder]++
		}
		if held[""] == 0 && held[f.remote] > 0 && held[f.member.Address()] > 0 {
			return nil
		}
		select {
		case <-v.Superseded():
		case <-died:
			return errors.New("the other node ended before the cluster had formed")
		case <-ctx.Done():
			return fmt.Errorf("shards by holder are %v: %w", held, ctx.Err())
		}
	}
}

// Remote says whether the object with an id lives on the other node.
func (f *Fleet) Remote(id string) bool {
	v := f.member.Cluster().View()
	holder, _ := v.Holder(sharding.Of(id, v.Table.Len()))
	return holder == f.remote
}

// IDs are n ids of objects that live on the other node, or else here.
func (f *Fleet) IDs(n int, remote bool) []string {
	ids := make([]string, 0, n)
	for i := 0; len(ids) < n; i++ {
		if id := "object-" + strconv.Itoa(i); f.Remote(id) == remote {
			ids = append(ids, id)
		}
	}
	return ids
}

// Node is the way to objects from this process's node.
func (f *Fleet) Node() object.Caller { return f.member }

// Gate is the way to objects of a client; nil without a gate.
func (f *Fleet) Gate() object.Caller { return f.client }

// Processes are the children.
func (f *Fleet) Processes() []*child.Process { return f.processes }

// Close ends the cluster, those first who need the others.
func (f *Fleet) Close() error {
	var problems []error
	if f.client != nil {
		problems = append(problems, f.client.Close())
	}
	end := func(role string) {
		for _, p := range f.processes {
			if p.Role == role {
				problems = append(problems, p.End())
			}
		}
	}
	end("gate")
	f.stop()
	problems = append(problems, <-f.ran)
	f.ran <- nil
	end("node")
	end("etcd")
	if f.dir != "" {
		problems = append(problems, os.RemoveAll(f.dir))
	}
	return errors.Join(problems...)
}
