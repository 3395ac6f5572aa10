package cluster

import (
	"context"
	"sync"
	"time"

	"github.com/xiaonanln/goverse/cluster/consensusmanager"
	"github.com/xiaonanln/goverse/cluster/etcdmanager"
	"github.com/xiaonanln/goverse/internal/peer"
)

var pushBackoff = etcdmanager.Backoff{First: 50 * time.Millisecond, Max: 2 * time.Second}

// pushes is which nodes' push streams are up.
type pushes struct {
	ready chan struct{}
	once  sync.Once // closes ready

	mu sync.Mutex // protects following field
	up map[string]bool
}

func newPushes() pushes { return pushes{ready: make(chan struct{}), up: map[string]bool{}} }

func (p *pushes) set(node string, up bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if up {
		p.up[node] = true
	} else {
		delete(p.up, node)
	}
}

func (p *pushes) isUp(node string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.up[node]
}

// PushesReady is closed the first time that FollowPushes has a stream to every live
// node.
func (c *Cluster) PushesReady() <-chan struct{} { return c.pushes.ready }

// FollowPushes hands deliver all that the cluster's nodes push to the clients of
// gate, until ctx ends. It keeps a stream to every live node and opens a lost one
// again, where it broke off. What is lost nevertheless is announced by a frame with Gap,
// to everybody where it is not known to whom. deliver is called for one frame of a node at
// a time, in order, and for several nodes at once; when it fails, that node's stream is
// opened anew. It is also
// told when a stream is up, and when it is not any more.
func (c *Cluster) FollowPushes(ctx context.Context, gate string, deliver func(peer.PushFrame) error) error {
	streams := map[string]func(){}
	ending := map[string]chan struct{}{} // closed when the node's last stream is over
	var running sync.WaitGroup
	defer running.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for {
		v := c.View()
		members := v.Members()
		for node, leave := range streams {
			if !members.Has(node) {
				leave()
				delete(streams, node)
			}
		}
		for node, ended := range ending {
			select {
			case <-ended:
				if streams[node] == nil {
					delete(ending, node)
				}
			default:
			}
		}
		for _, m := range members {
			if streams[m.Address] == nil {
				h := newHearer(c, m.Address, gate, deliver)
				member, leave := context.WithCancel(ctx)
				before, ended := ending[m.Address], make(chan struct{})
				streams[m.Address], ending[m.Address] = leave, ended
				running.Go(func() {
					defer close(ended)
					if before != nil {
						<-before
					}
					h.run(ctx, member)
				})
			}
		}
		c.checkPushes(v)
		select {
		case <-v.Superseded():
		case <-ctx.Done():
			return nil
		}
	}
}

// PushesUp says whether FollowPushes has a stream to every live node now.
func (c *Cluster) PushesUp() bool { return c.allUp(c.View()) }

func (c *Cluster) allUp(v *consensusmanager.View) bool {
	for _, m := range v.Members() {
		if !c.pushes.isUp(m.Address) {
			return false
		}
	}
	return len(v.Members()) > 0
}

// checkPushes tells, the first time, that no stream is missing.
func (c *Cluster) checkPushes(v *consensusmanager.View) {
	if c.allUp(v) {
		c.pushes.once.Do(func() { close(c.pushes.ready) })
	}
}
