package inspector

import (
	"encoding/json"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Bounds of a feed.
const (
	keptFrames  = 512  // deltas that a viewer who was away can still get
	keptChanges = 1000 // of the timeline
)

// Feed is what viewers see: a snapshot, then deltas with numbers. Each delta is encoded
// once. A viewer holds nothing here but its number: one that is slow gets a snapshot
// instead of what it missed, and costs nobody anything. All methods may be called
// concurrently.
type Feed struct {
	life string // of this feed: numbers of another mean nothing

	mu      sync.Mutex // protects following fields
	number  uint64     // of the last delta; a snapshot has the number that it contains
	scene   *Scene     // nil: nothing was seen yet
	stale   string     // why the scene is not of now; "": it is
	names   []string   // addresses, by their number
	numbers map[string]int
	changes []Change
	counted uint64   // changes so far
	frames  [][]byte // the last deltas
	past    past
	rates   []byte // the newest frame of them
	rated   uint64 // how many there were
	changed chan struct{}
}

// NewFeed is a feed that has seen nothing. life tells it from every other.
func NewFeed(life string) *Feed {
	return &Feed{life: life, numbers: map[string]int{}, changed: make(chan struct{})}
}

// snapshotFrame is all that a viewer needs to begin.
type snapshotFrame struct {
	Op      string   `json:"op"` // "snapshot"
	Life    string   `json:"life"`
	Number  uint64   `json:"number"`
	At      int64    `json:"at"`
	Stale   string   `json:"stale,omitempty"`
	Scene   *Scene   `json:"scene"` // null: nothing was seen yet
	Names   []string `json:"names"`
	Shards  [][]any  `json:"shards"` // by number: [epoch, current, target, state], and where an operator has ordered something, [node, "pin" or "move"]; addresses by their place in names, -1: none
	Changes []Change `json:"changes"`
}

// deltaFrame is what is new since the frame with the number before.
type deltaFrame struct {
	Op      string   `json:"op"` // "delta"
	Number  uint64   `json:"number"`
	At      int64    `json:"at"`
	Stale   string   `json:"stale,omitempty"`
	Scene   *Scene   `json:"scene,omitempty"`
	Names   []string `json:"names,omitempty"`  // more of them
	Shards  [][]any  `json:"shards,omitempty"` // that changed: [shard, epoch, current, target, state], and an order
	Changes []Change `json:"changes,omitempty"`
}

// Show makes scene what viewers see.
func (f *Feed) Show(scene *Scene) {
	f.mu.Lock()
	defer f.mu.Unlock()
	was := f.scene
	f.scene = scene
	if was == nil || len(was.Shards) != len(scene.Shards) || was.Cluster != scene.Cluster {
		f.restartLocked(scene)
		return
	}
	d := deltaFrame{Scene: scene, Changes: f.recordLocked(changesBetween(was, scene))}
	known, now := len(f.names), time.Now().UnixMilli()
	for i := range scene.Shards {
		if scene.Shards[i] != was.Shards[i] {
			f.past.add(now, i, was.Shards[i])
			d.Shards = append(d.Shards, append([]any{i}, f.rowLocked(&scene.Shards[i])...))
		}
	}
	d.Names = f.names[known:]
	f.stale = ""
	f.publishLocked(d)
}

// restartLocked makes every viewer begin anew.
func (f *Feed) restartLocked(scene *Scene) {
	f.recordLocked([]Change{{Kind: OfCluster, Text: "the inspector began to watch", Reason: "what happened before is not on its timeline"}})
	f.names, f.numbers, f.stale = nil, map[string]int{}, ""
	for i := range scene.Shards {
		f.rowLocked(&scene.Shards[i]) // names every address: a snapshot adds none
	}
	f.past.begin(time.Now().UnixMilli())
	f.frames = nil
	f.number++
	f.wakeLocked()
}

// Stale says that the scene is not of now, and why.
func (f *Feed) Stale(why string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.stale == why {
		return
	}
	f.stale = why
	f.publishLocked(deltaFrame{})
}

// Tell adds a change that no scene shows.
func (f *Feed) Tell(c Change) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.publishLocked(deltaFrame{Changes: f.recordLocked([]Change{c})})
}

func (f *Feed) recordLocked(list []Change) []Change {
	for i := range list {
		f.counted++
		list[i].Number, list[i].At = f.counted, time.Now().UnixMilli()
	}
	f.changes = append(f.changes, list...)
	if more := len(f.changes) - keptChanges; more > 0 {
		f.changes = append([]Change(nil), f.changes[more:]...)
	}
	return list
}

// rowLocked is a shard as viewers get it.
func (f *Feed) rowLocked(s *Shard) []any {
	state := s.State.String()
	if s.Damaged {
		state = "damaged"
	}
	row := []any{s.Epoch, f.nameLocked(s.Current), f.nameLocked(s.Target), state}
	if s.wanted == "" {
		return row
	}
	how := "move"
	if s.pinned {
		how = "pin"
	}
	return append(row, f.nameLocked(s.wanted), how)
}

// nameLocked is the number of an address, a new one if need be; -1: it is none.
func (f *Feed) nameLocked(address string) int {
	if address == "" {
		return -1
	}
	n, ok := f.numbers[address]
	if !ok {
		n = len(f.names)
		f.numbers[address] = n
		f.names = append(f.names, address)
	}
	return n
}

func (f *Feed) publishLocked(d deltaFrame) {
	f.number++
	d.Op, d.Number, d.At, d.Stale = "delta", f.number, time.Now().UnixMilli(), f.stale
	f.frames = append(f.frames, encode(d))
	if len(f.frames) > keptFrames {
		f.frames = append([][]byte(nil), f.frames[1:]...)
	}
	f.wakeLocked()
}

func (f *Feed) wakeLocked() {
	close(f.changed)
	f.changed = make(chan struct{})
}

// Place is how far a viewer has come: of which feed, and the number of its last frame.
// The zero value is before everything.
type Place struct {
	Life   string
	Number uint64
}

// ParsePlace reads a place as a viewer gives it, life.number; anything else is the
// beginning.
func ParsePlace(s string) Place {
	life, number, _ := strings.Cut(s, ".")
	n, err := strconv.ParseUint(number, 10, 64)
	if err != nil {
		return Place{}
	}
	return Place{life, n}
}

// After is the frames that follow a place, the place after them, and what is closed
// when there is more. Where they cannot continue exactly there is one: a snapshot.
func (f *Feed) After(p Place) (frames [][]byte, next Place, changed <-chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	next = Place{f.life, f.number}
	behind := f.number - p.Number // wraps for one that is ahead, and so is large
	switch {
	case p.Life != f.life || behind > uint64(len(f.frames)):
		frames = [][]byte{f.snapshotLocked()}
	default:
		frames = append(frames, f.frames[uint64(len(f.frames))-behind:]...)
	}
	return frames, next, f.changed
}

// Rate makes frame the newest rates.
func (f *Feed) Rate(frame []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rates = frame
	f.rated++
	f.wakeLocked()
}

// Rates is the newest rates, if they are newer than the nth that were, and which they
// are; else nil. Ask After first: what it returns is closed when there are newer ones.
func (f *Feed) Rates(n uint64) (frame []byte, nth uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.rated == n {
		return nil, n
	}
	return f.rates, f.rated
}

// Snapshot is the scene as a viewer begins with it.
func (f *Feed) Snapshot() []byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.snapshotLocked()
}

func (f *Feed) snapshotLocked() []byte {
	s := snapshotFrame{
		Op: "snapshot", Life: f.life, Number: f.number, At: time.Now().UnixMilli(), Stale: f.stale, Scene: f.scene,
		Shards: [][]any{}, Changes: append([]Change{}, f.changes...),
	}
	if f.scene != nil {
		for i := range f.scene.Shards {
			s.Shards = append(s.Shards, f.rowLocked(&f.scene.Shards[i]))
		}
	}
	s.Names = append([]string{}, f.names...)
	return encode(s)
}

func encode(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // it is made of strings and numbers
	}
	return b
}
