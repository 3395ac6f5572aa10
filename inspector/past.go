package inspector

import (
	"net/http"
	"strconv"
)

// keptMoves bounds how many changes of shards a feed can take back.
const keptMoves = 50_000

// past is where shards were: what was replaced, oldest first. Whoever wants the map of a
// moment takes back, from now, what came after it.
type past struct {
	from int64 // unix milliseconds: before it nothing is known
	list []replaced
}

type replaced struct {
	at    int64
	shard int
	was   Shard
}

// begin forgets everything.
func (p *past) begin(at int64) { *p = past{from: at} }

func (p *past) add(at int64, shard int, was Shard) {
	if len(p.list) == keptMoves {
		forgotten := p.list[:keptMoves/8]
		p.from = forgotten[len(forgotten)-1].at
		p.list = append([]replaced(nil), p.list[len(forgotten):]...)
	}
	p.list = append(p.list, replaced{at, shard, was})
}

// back makes shards, which are of now, those of a moment.
func (p *past) back(shards []Shard, at int64) {
	for i := len(p.list) - 1; i >= 0 && p.list[i].at > at; i-- {
		shards[p.list[i].shard] = p.list[i].was
	}
}

// pastFrame is the map of shards as it was.
type pastFrame struct {
	At     int64    `json:"at"`     // unix milliseconds
	From   int64    `json:"from"`   // the first moment that is kept
	Names  []string `json:"names"`  // addresses
	Shards [][]any  `json:"shards"` // as in a snapshot
}

// ShardsAt is the map of shards as it was at a moment, in unix milliseconds; of one
// before the first that is kept, as it was at that. It is nil while nothing was seen.
func (f *Feed) ShardsAt(at int64) []byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.scene == nil {
		return nil
	}
	at = max(at, f.past.from)
	frame := pastFrame{At: at, From: f.past.from, Shards: [][]any{}}
	shards := append([]Shard(nil), f.scene.Shards...)
	f.past.back(shards, at)
	for i := range shards {
		frame.Shards = append(frame.Shards, f.rowLocked(&shards[i]))
	}
	frame.Names = append([]string{}, f.names...)
	return encode(frame)
}

// shardsAt answers with the map of a moment.
func (i *Inspector) shardsAt(w http.ResponseWriter, r *http.Request) {
	at, err := strconv.ParseInt(r.URL.Query().Get("at"), 10, 64)
	if err != nil {
		fail(w, http.StatusBadRequest, "at=%q is no moment: give unix milliseconds", r.URL.Query().Get("at"))
		return
	}
	frame := i.feed.ShardsAt(at)
	if frame == nil {
		fail(w, http.StatusServiceUnavailable, "%s", nothingSeen)
		return
	}
	write(w, http.StatusOK, frame)
}

const nothingSeen = "nothing was seen of the cluster yet"
