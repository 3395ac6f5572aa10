package peer

import (
	"context"
	"strconv"

	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/xiaonanln/goverse/bench/load/child"
	"github.com/xiaonanln/goverse/bench/load/fleet"
)

// goversePeer calls by typed references, from one node to another.
var goversePeer = Peer{
	Name: "goverse", Version: "this repository",
	Dial: func(ctx context.Context, _ string) (Far, error) {
		f, err := fleet.Start(ctx, false)
		if err != nil {
			return nil, err
		}
		far := &goverseFar{fleet: f}
		for _, id := range f.IDs(Objects, true) {
			far.refs = append(far.refs, fleet.NewRef(f.Node(), fleet.Lasting, id))
		}
		return far, nil
	},
	Open: func(ctx context.Context) (Near, error) {
		f, err := fleet.Start(ctx, false)
		if err != nil {
			return nil, err
		}
		return &goverseNear{fleet: f}, nil
	},
}

type goverseFar struct {
	fleet *fleet.Fleet
	refs  []fleet.Ref
}

func (g *goverseFar) Say(ctx context.Context, object int, m *wrapperspb.BytesValue) (*wrapperspb.BytesValue, error) {
	return g.refs[object].Say(ctx, m)
}

// Processes are those that a call keeps busy, beside this one.
func (g *goverseFar) Processes() []*child.Process { return g.fleet.Processes() }

func (g *goverseFar) Close() error { return g.fleet.Close() }

// goverseNear calls objects whose shards this process's node holds.
type goverseNear struct {
	fleet *fleet.Fleet
	ids   []string
	refs  []fleet.Ref
}

func (g *goverseNear) Prepare(n int) {
	for i := 0; len(g.ids) < n; i++ {
		if id := "object-" + strconv.Itoa(i); !g.fleet.Remote(id) {
			g.ids = append(g.ids, id)
		}
	}
	g.refs = make([]fleet.Ref, n)
}

func (g *goverseNear) Make(ctx context.Context, object int, m *wrapperspb.BytesValue) (*wrapperspb.BytesValue, error) {
	g.refs[object] = fleet.NewRef(g.fleet.Node(), fleet.Lasting, g.ids[object])
	return g.refs[object].Say(ctx, m)
}

func (g *goverseNear) Say(ctx context.Context, object int, m *wrapperspb.BytesValue) (*wrapperspb.BytesValue, error) {
	return g.refs[object].Say(ctx, m)
}

func (g *goverseNear) Close() error { return g.fleet.Close() }
