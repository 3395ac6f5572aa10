package main

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/xiaonanln/goverse/cluster/sharding"
	"github.com/xiaonanln/goverse/inspector"
)

// weights says how many of the objects each type has, in percent.
var weights = []int{12, 5, 25, 1, 8, 4, 15, 30}

// calls says who calls whom how often, for each object of the called.
var calls = []struct {
	from, to int // -1: a client
	rate     float64
}{{-1, 1, 3}, {-1, 7, .4}, {-1, 0, .2}, {1, 7, .25}, {1, 2, .3}, {7, 6, .5}, {6, 7, .05}, {0, 4, .4}, {4, 7, .02}, {5, 3, 9}, {-1, 5, 1.2}, {7, 2, .1}}

const topObjects = 100

// traffic makes up what nodes would say of themselves.
type traffic struct {
	cluster *cluster
	objects int
	began   time.Time
}

func newTraffic(c *cluster, objects int) *traffic { return &traffic{c, objects, time.Now()} }

// at is how many objects of a type the nth of many nodes has: some have more than others.
func (t *traffic) at(kind, n, many int) int {
	uneven := 1 + 0.5*math.Sin(float64(n*7+kind*3))
	return int(uneven * float64(t.objects*weights[kind]) / 100 / float64(many))
}

// rates is a frame of the feed.
func (t *traffic) rates(now time.Time) *inspector.Rates {
	nodes, gates := t.cluster.members()
	wave := 1 + 0.3*math.Sin(now.Sub(t.began).Seconds()/7)
	r := &inspector.Rates{At: now.UnixMilli(), Top: t.top(nodes, wave)}
	perObject := make([]float64, len(types))
	total := make([]int, len(types))
	for _, c := range calls {
		perObject[c.to] += c.rate * wave
	}
	for n, address := range nodes {
		of := inspector.NodeRates{Address: address, P50: 80 + int64(n*7%60), P99: 900 + int64(n*131%2500), Queued: int64(n % 4), Commits: 40 * wave}
		for kind, name := range types {
			objects := t.at(kind, n, len(nodes))
			total[kind] += objects
			busy := float64(objects) * perObject[kind] * (0.95 + rand.Float64()/10)
			row := inspector.TypeRates{Type: name, Node: address, Objects: int64(objects), Calls: busy}
			if n == 3 && kind == 4 { // one that has trouble
				row.Errors = 2.5 * wave
			}
			of.Objects, of.Calls, of.Errors = of.Objects+row.Objects, of.Calls+row.Calls, of.Errors+row.Errors
			r.Types = append(r.Types, row)
		}
		r.Nodes = append(r.Nodes, of)
	}
	var clients float64
	for _, c := range calls {
		e := inspector.EdgeRates{From: "client", To: types[c.to], Calls: c.rate * wave * float64(total[c.to])}
		if c.from >= 0 {
			e.From = types[c.from]
		} else {
			clients += e.Calls
		}
		r.Edges = append(r.Edges, e)
	}
	for _, address := range gates {
		share := clients / float64(len(gates))
		r.Gates = append(r.Gates, inspector.GateRates{Address: address, Clients: int64(share / 2), Calls: share, Pushes: 3 * share})
	}
	return r
}

// top is the busiest objects: chat rooms, on all nodes.
func (t *traffic) top(nodes []string, wave float64) (list []inspector.Busiest) {
	for i := range topObjects {
		n := i % len(nodes)
		if i/len(nodes) < t.at(1, n, len(nodes)) {
			list = append(list, inspector.Busiest{Type: types[1], ID: id(1, n, i/len(nodes)), Node: nodes[n], Calls: wave * 400 / float64(i+1)})
		}
	}
	return list
}

func id(kind, n, i int) string { return fmt.Sprintf("%s-%d-%04d", strings.ToLower(types[kind]), n, i) }

// list is the first objects of a type, or of all, on a node, or on all, whose ids begin
// like prefix.
func (t *traffic) list(name, address, prefix string, limit int) []inspector.ObjectRow {
	nodes, _ := t.cluster.members()
	list := []inspector.ObjectRow{}
	for kind, typ := range types {
		for n, node := range nodes {
			if name != "" && name != typ || address != "" && address != node {
				continue
			}
			for i := 0; i < t.at(kind, n, len(nodes)) && len(list) < limit; i++ {
				if o := id(kind, n, i); strings.HasPrefix(o, prefix) {
					list = append(list, inspector.ObjectRow{Type: typ, ID: o, Node: node, Shard: int(sharding.Of(o, sharding.NumShards)), LastUsed: t.began.UnixMilli()})
				}
			}
		}
	}
	return list
}
