package cluster

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/xiaonanln/goverse/goversetest"
	"github.com/xiaonanln/goverse/object/memstore"
	logbook_pb "github.com/xiaonanln/goverse/test/logbook/proto"
)

// scribe appends to some logs and knows what they have.
type scribe struct {
	w      *goversetest.World
	client *goversetest.Client
	has    map[string][]string
	n      int
}

func newScribe(w *goversetest.World) *scribe {
	return &scribe{w: w, client: w.Connect(w.Gates()[0]), has: map[string][]string{}}
}

// write appends an entry to each of ten logs and reads them.
func (s *scribe) write() {
	s.w.T.Helper()
	for i := range 10 {
		s.n++
		ref, id := fmt.Sprint("DurableLog/", i), fmt.Sprint("e", s.n)
		if _, err := s.client.TryCall(ref, "Append", &logbook_pb.Entry{Id: id}); err != nil {
			s.w.T.Fatalf("%s: %v", ref, err)
		}
		s.has[ref] = append(s.has[ref], id)
	}
	s.read()
}

func (s *scribe) read() {
	s.w.T.Helper()
	for ref, want := range s.has {
		if got := s.client.Call(ref, "Read", &logbook_pb.ReadRequest{}).(*logbook_pb.Page).GetIds(); fmt.Sprint(got) != fmt.Sprint(want) {
			s.w.T.Fatalf("%s has %v, want %v", ref, got, want)
		}
	}
}

// snapshot is the store and what the logs have in it.
func (s *scribe) snapshot() (memstore.Snapshot, func()) {
	past, n := s.w.Store().Snapshot(), len(s.has["DurableLog/0"])
	return past, func() {
		for ref := range s.has {
			s.has[ref] = s.has[ref][:n:n]
		}
	}
}

// resume is when calls go well again.
func (s *scribe) resume() (after time.Duration) {
	s.w.T.Helper()
	for began := time.Now(); ; s.w.Advance(10 * time.Millisecond) {
		served := 0
		for ref := range s.has {
			if _, err := s.client.TryCall(ref, "Read", &logbook_pb.ReadRequest{}); err == nil {
				served++
			}
		}
		if after = time.Since(began); served == len(s.has) && after > 2*time.Second { // all have noticed
			return after
		}
		if after > time.Minute {
			s.w.T.Fatalf("%d of %d logs are served: %q", served, len(s.has), s.w.Alarms())
		}
	}
}

// The store is put back under running nodes: they say so, and go on with what it has.
func TestStoreIsPutBack(t *testing.T) {
	goversetest.Sim(t, of(3), func(w *goversetest.World) {
		s := newScribe(w)
		s.write()
		for range 3 {
			past, forget := s.snapshot()
			s.write()
			w.Store().Restore(past)
			forget()
			s.resume()
			s.read()
			s.write()
		}
		if n := strings.Count(strings.Join(w.Alarms(), "\n"), "may lack what it has acknowledged"); n != 9 {
			t.Errorf("it is said %d times:\n%s", n, strings.Join(w.Alarms(), "\n"))
		}
		w.Settle()
		s.write()
	})
}

// It is put back while a node has lost its lease, or while etcd is put back as well.
func TestStoreIsPutBackMeanwhile(t *testing.T) {
	for _, what := range []string{"a node is cut off", "all are cut off", "etcd is put back", "a node is new"} {
		t.Run(what, func(t *testing.T) {
			goversetest.Sim(t, of(3), func(w *goversetest.World) {
				s := newScribe(w)
				s.write()
				past, forget := s.snapshot()
				etcd := w.EtcdSnapshot()
				s.write()
				switch what {
				case "a node is cut off":
					w.CutFromEtcd("node2")
					w.Advance(7 * time.Second) // longer than its lease
				case "all are cut off":
					for _, node := range w.Nodes() {
						w.CutFromEtcd(node)
					}
					w.Advance(time.Minute)
				case "a node is new":
					w.AddNode()
				}
				w.Store().Restore(past)
				forget()
				switch what {
				case "etcd is put back":
					w.RestoreEtcd(etcd)
				case "all are cut off":
					w.Advance(10 * time.Second)
				}
				w.Heal()
				s.resume()
				s.read()
				s.write()
				w.Settle()
				s.write()
			})
		})
	}
}
