package node

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/types/known/anypb"
	"pgregory.net/rapid"

	"github.com/xiaonanln/goverse/internal/peer"
	"github.com/xiaonanln/goverse/object"
)

// Whatever waits, what is kept fits and is in order, whose frame is gone is told, and nobody
// who takes less than one who keeps frames of its own loses any, but all together.
func TestWhatIsGivenUp(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		waiting := rapid.SliceOfN(rapid.Custom(someFrame), 1, 40).Draw(t, "waiting")
		for i := range waiting {
			waiting[i].Seq = uint64(i)
		}
		limit := rapid.IntRange(0, 20000).Draw(t, "limit")
		kept, gaps, lost := giveUp(waiting, limit)
		var gap peer.PushFrame // all of them
		for _, g := range gaps {
			gap.Gap, gap.Broadcast, gap.ClientIDs = g.Gap, gap.Broadcast || g.Broadcast, append(gap.ClientIDs, g.ClientIDs...)
		}
		size, left := 0, map[uint64]bool{}
		for _, f := range kept {
			size += frameSize(&f)
			left[f.Seq] = true
		}
		if size > limit || !slices.IsSortedFunc(kept, func(a, b peer.PushFrame) int { return int(a.Seq) - int(b.Seq) }) {
			t.Fatalf("%d bytes are kept of %d: %v", size, limit, kept)
		}
		own := map[addressee]int{}
		for _, f := range waiting {
			own[addresseeOf(&f)] += frameSize(&f)
		}
		gone := 0
		for _, f := range waiting {
			if left[f.Seq] {
				continue
			}
			gone += messages([]peer.PushFrame{f})
			for _, id := range f.ClientIDs {
				if !gap.Broadcast && !slices.Contains(gap.ClientIDs, id) {
					t.Fatalf("%s does not hear of a loss", id)
				}
			}
			if f.Broadcast && !gap.Broadcast {
				t.Fatal("not all hear of a loss that is everybody's")
			}
			for _, k := range kept {
				if to := addresseeOf(&k); to != (addressee{}) && own[to] > own[addresseeOf(&f)] {
					t.Fatalf("%v loses and the greedier %v does not", f, k)
				}
			}
		}
		counted := 0
		for _, n := range lost {
			counted += n
		}
		if !gap.Gap || counted != gone {
			t.Fatalf("%d are counted of %d that are gone", counted, gone)
		}
	})
}

func someFrame(t *rapid.T) peer.PushFrame {
	id := func() string { return fmt.Sprintf("g:1/%d", rapid.IntRange(0, 4).Draw(t, "client")) }
	f := peer.PushFrame{Message: &anypb.Any{Value: make([]byte, rapid.IntRange(0, 2000).Draw(t, "bytes"))}}
	switch rapid.IntRange(0, 9).Draw(t, "kind") {
	case 0:
		f.Broadcast = true
	case 1:
		f.ClientIDs = []string{"g:1/0", "g:1/4"}
	case 2, 3:
		f.Change = &peer.Change{Ref: object.Ref{Type: "Doc", ID: id()}}
	case 4:
		f.Gap, f.Message, f.ClientIDs = true, nil, []string{id()}
	default:
		f.ClientIDs = []string{id()}
	}
	return f
}

// More than a frame can name are named in several, and nobody else loses anything.
func TestManyToName(t *testing.T) {
	quiet := peer.PushFrame{ClientIDs: []string{"g:1/quiet"}}
	waiting := []peer.PushFrame{quiet}
	for i := range 200 {
		waiting = append(waiting, peer.PushFrame{ClientIDs: []string{fmt.Sprintf("g:1/%s%d", strings.Repeat("x", 100), i)}})
	}
	kept, gaps, lost := giveUp(waiting, frameSize(&quiet))
	named := map[string]bool{}
	for _, g := range gaps {
		size := 0
		for _, id := range g.ClientIDs {
			named[id] = true
			size += len(id)
		}
		if !g.Gap || g.Broadcast || size == 0 || size > maxNamedBytes {
			t.Errorf("a gap of %d bytes: %v", size, g)
		}
	}
	if len(kept) != 1 || kept[0].ClientIDs[0] != "g:1/quiet" || len(gaps) < 2 || len(named) != 200 || len(lost) != 200 {
		t.Errorf("kept %d, told %d in %d, lost %d", len(kept), len(named), len(gaps), len(lost))
	}
}
