package node

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/xiaonanln/goverse/cluster/sharding"
	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/internal/peer"
	"github.com/xiaonanln/goverse/object"
)

// frame5 is the state n of an object of shard 5.
func frame5(t testing.TB, id string, seq uint64, n int64) peer.Staged {
	t.Helper()
	state, err := packState(wrapperspb.Int64(n))
	if err != nil {
		t.Fatal(err)
	}
	return peer.Staged{Ref: object.Ref{Type: "Kept", ID: "shard#5/" + id}, Seq: seq, Created: time.Unix(1, 0), State: state}
}

func gone5(id string, seq uint64) peer.Staged {
	return peer.Staged{Ref: object.Ref{Type: "Kept", ID: "shard#5/" + id}, Seq: seq, Gone: true}
}

func stage5(handover string, epoch uint64, objects ...peer.Staged) *peer.Stage {
	return &peer.Stage{Shard: 5, Handover: handover, Holder: "n:9#r", Epoch: epoch, Objects: objects}
}

// receiver is a node that holds nothing.
func receiver(t testing.TB, setups ...any) *world {
	w := start(t, append([]any{setup(func(w *world, _ *Config) { w.epoch = 0 })}, setups...)...)
	w.Start()
	return w
}

func (w *world) take5(epoch uint64, handover string) {
	w.t.Helper()
	_, err := w.Open(bg, w.owner, w.trusted.Load, []Claim{{5, epoch, handover}})
	w.must(err)
	synctest.Wait()
}

// Of an object's frames the newest counts, in whatever order and how often they come.
func TestTheNewestFrameCounts(t *testing.T) {
	one, two, three := func(t testing.TB) peer.Staged { return frame5(t, "x", 1, 10) },
		func(t testing.TB) peer.Staged { return frame5(t, "y", 2, 20) },
		func(t testing.TB) peer.Staged { return frame5(t, "x", 3, 30) }
	for _, c := range []struct {
		name   string
		stages func(t testing.TB) [][]peer.Staged
		refuse int // which one
		x, y   int64
	}{
		{"one after the other", func(t testing.TB) [][]peer.Staged { return [][]peer.Staged{{one(t)}, {two(t)}, {three(t)}} }, -1, 30, 20},
		{"at once", func(t testing.TB) [][]peer.Staged { return [][]peer.Staged{{one(t), two(t), three(t)}} }, -1, 30, 20},
		{"twice", func(t testing.TB) [][]peer.Staged {
			return [][]peer.Staged{{one(t), two(t)}, {one(t), two(t)}, {three(t)}, {three(t)}}
		}, -1, 30, 20},
		{"an old copy late", func(t testing.TB) [][]peer.Staged {
			return [][]peer.Staged{{one(t)}, {two(t), three(t)}, {one(t)}, {two(t), three(t)}}
		}, -1, 30, 20},
		{"taken back", func(t testing.TB) [][]peer.Staged {
			return [][]peer.Staged{{one(t), two(t), three(t)}, {gone5("x", 4)}, {three(t)}}
		}, -1, 0, 20},
		{"taken back and begun anew", func(t testing.TB) [][]peer.Staged {
			return [][]peer.Staged{{one(t), gone5("x", 2), frame5(t, "x", 3, 7)}}
		}, -1, 7, 0},
		{"with a gap", func(t testing.TB) [][]peer.Staged { return [][]peer.Staged{{one(t)}, {three(t)}, {two(t)}} }, 1, 10, 20},
		{"without a beginning", func(t testing.TB) [][]peer.Staged { return [][]peer.Staged{{two(t), three(t)}} }, 0, 0, 0},
	} {
		bubble(t, c.name, func(t *testing.T) {
			w := receiver(t)
			for i, objects := range c.stages(t) {
				err := w.ServeStage(bg, stage5("h", 3, objects...))
				if (err != nil) != (i == c.refuse) {
					t.Errorf("stage %d: %v", i, err)
				}
			}
			w.take5(4, "h")
			w.want(bg, "Kept/shard#5/x.Read", c.x)
			w.want(bg, "Kept/shard#5/y.Read", c.y)
			if w.stages.bytes != 0 || len(w.stages.shards) > 0 {
				t.Errorf("%d bytes are still counted", w.stages.bytes)
			}
		})
	}
}

// Only the claim's own hand-over counts, and everything else of the shard goes.
func TestOnlyTheClaimsHandOverCounts(t *testing.T) {
	for _, c := range []struct {
		name, handover string
		epoch          uint64
		want           int64
		says           string
	}{
		{"the first", "h1", 4, 1, ""},
		{"the second", "h2", 4, 2, ""},
		{"none", "", 4, 0, ""},
		{"one that laid nothing", "h3", 4, 0, ""},
		{"an epoch minted past it", "h1", 9, 1, ""},
		{"its sender's epoch", "h1", 3, 0, "begin anew"},
		{"an earlier epoch", "h1", 2, 0, "begin anew"},
	} {
		bubble(t, c.name, func(t *testing.T) {
			w := receiver(t)
			w.must(w.ServeStage(bg, stage5("h1", 3, frame5(t, "x", 1, 1))))
			w.must(w.ServeStage(bg, stage5("h2", 3, frame5(t, "x", 1, 2))))
			other := stage5("h4", 3)
			other.Shard = 6
			w.must(w.ServeStage(bg, other))
			if got := names(w.Staged()); len(got) != 3 || got[0] != "5 h1 n:9#r 3" || got[1] != "5 h2 n:9#r 3" || got[2] != "6 h4 n:9#r 3" {
				t.Error(got)
			}
			w.take5(c.epoch, c.handover)
			w.want(bg, "Kept/shard#5/x.Read", c.want)
			if got := names(w.Staged()); len(got) != 1 || got[0] != "6 h4 n:9#r 3" {
				t.Error(got)
			}
			if says := w.said(); strings.Contains(says, "notice") != (c.says != "") || !strings.Contains(says, c.says) {
				t.Error(says)
			}
			w.Unstage([]Staging{{Shard: 7, Handover: "h4"}, {Shard: 6, Handover: "h1"}})
			if len(w.Staged()) != 1 {
				t.Error("another one was forgotten")
			}
			w.Unstage(w.Staged())
			if len(w.Staged()) != 0 || w.stages.bytes != 0 {
				t.Error(w.Staged(), w.stages.bytes)
			}
		})
	}
}

// Garbage is refused as a whole.
func TestStagesThatAreRefused(t *testing.T) {
	good := func(t testing.TB) *peer.Stage { return stage5("h", 3, frame5(t, "x", 1, 1), frame5(t, "y", 2, 2)) }
	for _, c := range []struct {
		name string
		kind fault.Kind
		bad  func(*peer.Stage)
	}{
		{"no such shard", fault.Invalid, func(s *peer.Stage) { s.Shard = shards }},
		{"a negative shard", fault.Invalid, func(s *peer.Stage) { s.Shard = -1 }},
		{"no hand-over", fault.Invalid, func(s *peer.Stage) { s.Handover = "" }},
		{"a giant hand-over", fault.Invalid, func(s *peer.Stage) { s.Handover = strings.Repeat("h", 200) }},
		{"no holder", fault.Invalid, func(s *peer.Stage) { s.Holder = "" }},
		{"no epoch", fault.Invalid, func(s *peer.Stage) { s.Epoch = 0 }},
		{"a bad id", fault.Invalid, func(s *peer.Stage) { s.Objects[1].Ref.ID = "" }},
		{"an id of another shard", fault.Invalid, func(s *peer.Stage) { s.Objects[1].Ref.ID = "shard#6/y" }},
		{"a pinned id", fault.Invalid, func(s *peer.Stage) { s.Objects[1].Ref.ID = "n:1/y" }},
		{"a type that is unknown here", fault.UnknownType, func(s *peer.Stage) { s.Objects[1].Ref.Type = "Strange" }},
		{"a type without state", fault.Invalid, func(s *peer.Stage) { s.Objects[1].Ref.Type = "Thing" }},
		{"no number", fault.Invalid, func(s *peer.Stage) { s.Objects[1].Seq = 0 }},
		{"no message", fault.Invalid, func(s *peer.Stage) { s.Objects[1].State = []byte("\xff\xff") }},
		{"too large", fault.TooLarge, func(s *peer.Stage) { s.Objects[1].State = make([]byte, MaxStateBytes+1) }},
	} {
		bubble(t, c.name, func(t *testing.T) {
			w := receiver(t)
			bad := good(t)
			c.bad(bad)
			isFault(t, w.ServeStage(bg, bad), c.kind, fault.NotExecuted)
			if len(w.Staged()) > 0 || w.stages.bytes > 0 {
				t.Error("something of it was kept")
			}
			w.must(w.ServeStage(bg, good(t)))
		})
	}
	bubble(t, "durable here", func(t *testing.T) {
		w := receiver(t, kept)
		isFault(t, w.ServeStage(bg, good(t)), fault.Invalid, fault.NotExecuted)
	})
	bubble(t, "before it runs", func(t *testing.T) {
		n := New(Config{Address: "n:1", NumShards: shards, Types: receiver(t).types})
		isFault(t, n.ServeStage(bg, good(t)), fault.NotReady, fault.NotExecuted)
	})
	bubble(t, "of somebody else", func(t *testing.T) {
		w := receiver(t)
		w.must(w.ServeStage(bg, good(t)))
		other := good(t)
		other.Holder = "n:8#r"
		isFault(t, w.ServeStage(bg, other), fault.Invalid, fault.NotExecuted)
		isFault(t, w.ServeStage(bg, stage5("h", 4)), fault.Invalid, fault.NotExecuted)
	})
	bubble(t, "too late", func(t *testing.T) {
		w := receiver(t)
		ctx, cancel := context.WithCancel(bg)
		cancel()
		isFault(t, w.ServeStage(ctx, good(t)), fault.Canceled, fault.NotExecuted)
	})
	bubble(t, "this node stops", func(t *testing.T) {
		w := receiver(t)
		w.must(w.close())
		isFault(t, w.ServeStage(bg, good(t)), fault.Draining, fault.NotExecuted)
	})
	bubble(t, "a shard that is held here", func(t *testing.T) {
		w := receiver(t)
		w.take5(3, "")
		isFault(t, w.ServeStage(bg, good(t)), fault.WrongHolder, fault.NotExecuted)
		// A sender with a later epoch knows more than this node, which will hear of it.
		w.must(w.ServeStage(bg, stage5("h", 4, frame5(t, "x", 1, 9))))
		w.Drop([]sharding.ID{5}, "test")
		w.must(w.ServeStage(bg, stage5("later", 5, frame5(t, "x", 1, 9)))) // and what was long ago says nothing
		w.take5(6, "later")
		w.want(bg, "Kept/shard#5/x.Read", 9)
	})
}

// What peers lay here is bounded, in bytes and for each shard in number.
func TestStagesHereAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := receiver(t)
		large := frame5(t, "x", 1, 1)
		state, err := packState(wrapperspb.String(strings.Repeat("x", MaxStateBytes-100)))
		w.must(err)
		large.State = state
		fits := maxStaged / large.Size()
		for i := range fits {
			o := large
			o.Seq, o.Ref.ID = uint64(i+1), fmt.Sprintf("shard#5/%d", i)
			w.must(w.ServeStage(bg, stage5("h", 3, o)))
		}
		over := large
		over.Seq, over.Ref.ID = uint64(fits+1), "shard#5/over"
		err = w.ServeStage(bg, stage5("h", 3, over))
		isFault(t, err, fault.Overloaded, fault.NotExecuted)
		if fault.Of(err).RetryAfter == 0 {
			t.Error("it does not say when to come again")
		}
		again := large // in place of one that is here already
		again.Seq, again.Ref.ID = uint64(fits+1), "shard#5/1"
		w.must(w.ServeStage(bg, stage5("h", 3, again)))
		w.Unstage(w.Staged())
		if w.stages.bytes != 0 {
			t.Errorf("%d bytes are still counted", w.stages.bytes)
		}

		for i := range maxHandovers + 1 {
			w.must(w.ServeStage(bg, stage5(fmt.Sprint("h", i), 3, frame5(t, "x", 1, int64(i)))))
		}
		if got := names(w.Staged()); len(got) != maxHandovers || got[0] != "5 h1 n:9#r 3" {
			t.Error(got)
		}
		if err := w.ServeStage(bg, stage5("h0", 3, frame5(t, "y", 2, 1))); err == nil {
			t.Error("a hand-over goes on whose beginning was forgotten")
		}
		w.take5(4, "h0")
		w.want(bg, "Kept/shard#5/x.Read", 0)
		if says := w.said(); !strings.Contains(says, "begin anew") {
			t.Error("nobody is told of the loss:", says)
		}
		if len(w.Staged()) > 0 || w.stages.bytes != 0 {
			t.Error(w.Staged(), w.stages.bytes)
		}
	})
}

// Messages whose type this program lacks are found out when the object begins.
func TestStateOfAnUnknownMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := receiver(t)
		o := frame5(t, "x", 1, 1)
		o.State = []byte("\n\x0bstrange/one")
		if a, err := unpackAny(o.State); err != nil || a.TypeUrl != "strange/one" {
			t.Fatal(a, err)
		}
		w.must(w.ServeStage(bg, stage5("h", 3, o, frame5(t, "y", 2, 2))))
		w.take5(4, "h")
		if says := w.said(); !strings.Contains(says, "could not be restored") {
			t.Error(says)
		}
		w.want(bg, "Kept/shard#5/y.Read", 2)
		w.want(bg, "Kept/shard#5/x.Change", 1)
	})
}

func FuzzServeStage(f *testing.F) {
	good, _ := packState(wrapperspb.Int64(1))
	f.Add(5, "h", "n:9#r", uint64(3), "Kept", "shard#5/x", uint64(1), good, false)
	f.Add(-1, "", "", uint64(0), "", "", uint64(0), []byte(nil), true)
	w := receiver(f)
	f.Fuzz(func(t *testing.T, shard int, handover, holder string, epoch uint64, typ, id string, seq uint64, state []byte, gone bool) {
		in := &peer.Stage{Shard: shard, Handover: handover, Holder: holder, Epoch: epoch,
			Objects: []peer.Staged{{Ref: object.Ref{Type: typ, ID: id}, Seq: seq, State: state, Gone: gone}}}
		if err := w.ServeStage(bg, in); err != nil {
			if fault.OutcomeOf(err) != fault.NotExecuted {
				t.Error(err)
			}
			return
		}
		w.Unstage(w.Staged())
		if w.stages.bytes != 0 {
			t.Errorf("%d bytes are still counted", w.stages.bytes)
		}
	})
}

// The store knew a later epoch, so the shard is opened only at one that was minted past
// it: what was laid here counts then, and once.
func TestAnEpochMintedPastTheHandOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := receiver(t)
		late := stage5("h1", 3, frame5(t, "x", 1, 10))
		w.must(w.ServeStage(bg, late))
		w.take5(8, "h1")
		w.want(bg, "Kept/shard#5/x.Change", 11)
		w.Drop([]sharding.ID{5}, "fence lost")
		isFault(t, w.ServeStage(bg, late), fault.WrongHolder, fault.NotExecuted) // a copy that was under way
		w.take5(12, "h1")
		w.want(bg, "Kept/shard#5/x.Read", 0)
		w.Drop([]sharding.ID{5}, "handed over")
		w.must(w.ServeStage(bg, stage5("h2", 13, frame5(t, "x", 1, 20)))) // and back by another
		w.take5(14, "h2")
		w.want(bg, "Kept/shard#5/x.Read", 20)
	})
}

// A holder that tries again and again to hand over a large shard leaves its attempts
// here: they do not keep its next one out, nor another shard's. What may still be
// needed stays: the last attempt of each, for as long as one can last.
func TestAbandonedStagesMakeRoom(t *testing.T) {
	state, err := packState(wrapperspb.String(strings.Repeat("x", MaxStateBytes-100)))
	if err != nil {
		t.Fatal(err)
	}
	large := func(t testing.TB, seq uint64) peer.Staged {
		o := frame5(t, fmt.Sprint("o", seq), seq, 1)
		o.State = state
		return o
	}
	lay := func(t testing.TB, w *world, handover string, frames int) error {
		for seq := range frames {
			if err := w.ServeStage(bg, stage5(handover, 3, large(t, uint64(seq+1)))); err != nil {
				return err
			}
		}
		return nil
	}
	room := maxStaged / (MaxStateBytes + 100) // frames
	bubble(t, "its own next attempt", func(t *testing.T) {
		w := receiver(t)
		w.set(func(h *hooks) { h.fromData = func(*Thing, proto.Message) error { return nil } })
		for i := range 3 {
			w.must(lay(t, w, fmt.Sprint("h", i), room))
		}
		if w.stages.bytes > maxStaged {
			t.Error(w.stages.bytes, "bytes are here")
		}
		isFault(t, w.ServeStage(bg, stage5("h1", 3, large(t, 1))), fault.WrongHolder, fault.NotExecuted) // a late copy
		w.take5(4, "h2")
		if w.NumObjects() != room || w.stages.bytes != 0 {
			t.Error(w.NumObjects(), "objects,", w.stages.bytes, "bytes")
		}
	})
	bubble(t, "another shard", func(t *testing.T) {
		w := receiver(t)
		for i := range 4 {
			w.must(lay(t, w, fmt.Sprint("h", i), room/4))
		}
		other := stage5("other", 3, large(t, 1))
		other.Shard, other.Objects[0].Ref.ID = 6, "shard#6/x"
		for seq := range room / 2 {
			other.Objects[0].Seq = uint64(seq + 1)
			other.Objects[0].Ref.ID = fmt.Sprint("shard#6/", seq)
			w.must(w.ServeStage(bg, other))
		}
		if got := names(w.Staged()); got[len(got)-2] != "5 h3 n:9#r 3" {
			t.Error("the newest attempt had to go:", got)
		}
	})
	bubble(t, "only what nobody needs", func(t *testing.T) {
		w := receiver(t)
		w.must(lay(t, w, "h", room))
		other := stage5("other", 3, large(t, 1))
		other.Shard, other.Objects[0].Ref.ID = 6, "shard#6/x"
		isFault(t, w.ServeStage(bg, other), fault.Overloaded, fault.NotExecuted)
		older := stage5("h0", 2)
		older.Holder = "n:8#q"
		w.must(w.ServeStage(bg, older))
		time.Sleep(stageIdle - time.Second)
		isFault(t, w.ServeStage(bg, other), fault.Overloaded, fault.NotExecuted)
		time.Sleep(2 * time.Second)
		w.must(w.ServeStage(bg, other))
		w.take5(4, "h")
		if says := w.said(); !strings.Contains(says, "begin anew") {
			t.Error("nobody is told of the loss:", says)
		}
	})
}
