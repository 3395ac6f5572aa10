package cluster

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/xiaonanln/goverse/goversetest"
	logbook_pb "github.com/xiaonanln/goverse/test/logbook/proto"
)

// An operator moves what clients call: no call fails, nothing is lost, and it stays where
// it was moved.
func TestMovesUnderLoad(t *testing.T) {
	const logs = 4
	goversetest.Run(t, of(3), func(w *goversetest.World) {
		stop := make(chan struct{})
		written := [logs]int{}
		var calling sync.WaitGroup
		for i := range logs {
			c := w.Connect()
			calling.Go(func() {
				for n := 1; ; n++ {
					select {
					case <-stop:
						return
					default:
					}
					for _, typ := range []string{"VolatileLog", "DurableLog"} {
						mark, err := c.TryCall(fmt.Sprintf("%s/%d", typ, i), "Append", &logbook_pb.Entry{Id: fmt.Sprint(n), WorkMicros: 2000})
						if err != nil {
							t.Errorf("%s/%d: %v", typ, i, err)
							return
						}
						if got := mark.(*logbook_pb.Mark).Length; got != int64(n) {
							t.Errorf("%s/%d has %d entries after %d", typ, i, got, n)
						}
					}
					written[i] = n
				}
			})
		}
		moves := 12
		if w.Simulated() {
			moves = 24
		}
		for i := range moves {
			w.MoveTo(fmt.Sprintf("VolatileLog/%d", i%logs), w.Nodes()[(i+i/logs)%3])
		}
		close(stop)
		calling.Wait()
		at := map[string]string{}
		for i := range logs {
			ref := fmt.Sprintf("VolatileLog/%d", i)
			w.MoveTo(ref, "node2")
			at[ref] = "node2"
		}
		w.Settle()
		if w.Simulated() {
			w.Advance(30 * time.Second)
		}
		c := w.Connect()
		for ref, node := range at {
			if got := w.Holder(ref); got != node {
				t.Errorf("%s was moved to %s, and is at %s", ref, node, got)
			}
		}
		for i := range logs {
			if mark := c.Call(fmt.Sprintf("VolatileLog/%d", i), "Append", &logbook_pb.Entry{Id: "last"}).(*logbook_pb.Mark); mark.Length != int64(written[i]+1) {
				t.Errorf("%d entries were written, and there are %d", written[i], mark.Length-1)
			}
		}
	})
}
