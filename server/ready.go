package server

import "sync"

// readiness tells whoever asked, once the cluster is ready. It needs no goroutine.
type readiness struct {
	mu     sync.Mutex
	ready  bool
	asking []chan bool
}

// ask returns a channel of its own for each caller: it yields true once, and is
// closed behind it.
func (r *readiness) ask() <-chan bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := make(chan bool, 1)
	if r.ready {
		tell(c)
	} else {
		r.asking = append(r.asking, c)
	}
	return c
}

func (r *readiness) set() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ready = true
	for _, c := range r.asking {
		tell(c)
	}
	r.asking = nil
}

func tell(c chan bool) {
	c <- true
	close(c)
}

// ClusterReady yields true, once for each channel that it returned, when calls can
// be expected to succeed for the first time: this node is registered, its cluster
// has its quorum, and its shards are open.
func (s *Server) ClusterReady() <-chan bool { return s.readiness.ask() }
