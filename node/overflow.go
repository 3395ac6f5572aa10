package node

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"github.com/xiaonanln/goverse/internal/peer"
	"github.com/xiaonanln/goverse/object"
)

// maxNamedBytes bounds the clients that one gap names, and that one for all does.
const maxNamedBytes = 8 << 10

// addressee is the one that a frame is for: a client, or who follows an object; zero: several.
type addressee struct {
	client string
	object object.Ref
}

func addresseeOf(f *peer.PushFrame) (to addressee) {
	switch {
	case f.Change != nil:
		to.object = f.Change.Ref
	case !f.Broadcast && len(f.ClientIDs) == 1:
		to.client = f.ClientIDs[0]
	}
	return to
}

// giveUp chooses among the frames that wait for a gate those to keep, at most limit bytes, in
// their order. The addressees whose frames take the most lose all of theirs first, so that one
// that is flooded costs the others nothing; gaps are the words to them. If that does not
// suffice, nothing is kept, and one gap is for all that something was for. lost counts the
// frames given up by addressee.
func giveUp(waiting []peer.PushFrame, limit int) (kept, gaps []peer.PushFrame, lost map[addressee]int) {
	own, rest := map[addressee]int{}, 0 // bytes
	for i := range waiting {
		size := frameSize(&waiting[i])
		own[addresseeOf(&waiting[i])] += size
		rest += size
	}
	delete(own, addressee{})
	lost = map[addressee]int{}
	var clients []string
	for _, to := range greediest(own) {
		if rest <= limit {
			break
		}
		lost[to] = 0
		rest -= own[to]
		if to.client != "" {
			clients = append(clients, to.client)
		}
	}
	if rest > limit {
		return nil, []peer.PushFrame{gapForAll(waiting)}, map[addressee]int{{}: messages(waiting)}
	}
	for i := range waiting {
		to := addresseeOf(&waiting[i])
		if _, gone := lost[to]; gone {
			lost[to] += messages(waiting[i : i+1])
		} else {
			kept = append(kept, waiting[i])
		}
	}
	return kept, gapsFor(clients), lost
}

// messages counts frames without those that only tell of a gap.
func messages(frames []peer.PushFrame) (n int) {
	for i := range frames {
		if !frames[i].Gap {
			n++
		}
	}
	return n
}

// gapsFor tells clients, in as many frames as it takes to name them. Without a client there
// is one too: who follows objects hears by it.
func gapsFor(clients []string) []peer.PushFrame {
	gaps, named := []peer.PushFrame{{Gap: true}}, 0
	for _, id := range clients {
		last := &gaps[len(gaps)-1]
		if named += len(id); named > maxNamedBytes && len(last.ClientIDs) > 0 {
			gaps, named = append(gaps, peer.PushFrame{Gap: true}), len(id)
			last = &gaps[len(gaps)-1]
		}
		last.ClientIDs = append(last.ClientIDs, id)
	}
	return gaps
}

// greediest are the addressees by what they take, the most first.
func greediest(bytes map[addressee]int) []addressee {
	return slices.SortedFunc(maps.Keys(bytes), func(a, b addressee) int {
		return cmp.Or(cmp.Compare(bytes[b], bytes[a]), strings.Compare(a.client, b.client), strings.Compare(a.object.String(), b.object.String()))
	})
}

// gapForAll tells the clients of frames that these are lost.
func gapForAll(frames []peer.PushFrame) peer.PushFrame {
	gap := peer.PushFrame{Gap: true}
	ids, size := map[string]bool{}, 0
	for i := range frames {
		gap.Broadcast = gap.Broadcast || frames[i].Broadcast
		for _, id := range frames[i].ClientIDs {
			if !ids[id] {
				ids[id] = true
				size += len(id)
			}
		}
	}
	if gap.Broadcast = gap.Broadcast || size > maxNamedBytes; !gap.Broadcast {
		gap.ClientIDs = slices.Sorted(maps.Keys(ids))
	}
	return gap
}
