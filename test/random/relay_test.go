package random

import (
	"fmt"
	"slices"
	"testing"

	"github.com/xiaonanln/goverse/goverseapi"
	"github.com/xiaonanln/goverse/goversetest"
	"github.com/xiaonanln/goverse/test/logbook"
	logbook_pb "github.com/xiaonanln/goverse/test/logbook/proto"
)

// A node leaves while it has no way to one of the others: what lives only in its memory
// goes to that one by the third.
func TestStopWithoutARoad(t *testing.T) {
	for name, cut := range map[string]func(w *goversetest.World, a, b string){
		"both ways": (*goversetest.World).Partition,
		"one way":   (*goversetest.World).PartitionOneWay,
	} {
		t.Run(name, func(t *testing.T) {
			cluster := goversetest.Cluster{Nodes: 3, Gates: 1, Types: []goversetest.Type{
				goversetest.Of((*logbook.VolatileLog)(nil), goverseapi.WithDurability(goverseapi.Volatile)),
			}}
			goversetest.Sim(t, cluster, func(w *goversetest.World) {
				const logs = 40
				for i := range logs {
					w.Call(fmt.Sprintf("VolatileLog/%d", i), "Append", &logbook_pb.Entry{Id: "first"})
				}
				nodes := w.Nodes()
				cut(w, nodes[0], nodes[1])
				w.Stop(nodes[0])
				for i := range logs {
					ref := fmt.Sprintf("VolatileLog/%d", i)
					page := w.Call(ref, "Read", &logbook_pb.ReadRequest{}).(*logbook_pb.Page)
					if !slices.Equal(page.GetIds(), []string{"first"}) {
						t.Errorf("%s has %q", ref, page.GetIds())
					}
				}
			})
		})
	}
}
