package objecttest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/xiaonanln/goverse/object"
)

func raceChecks() []check {
	return []check{
		{name: "Committers", keeps: "of commits that race for a version one wins", run: committers, needs: fenced},
		{name: "HandOvers", keeps: "after the new holder has stamped and loaded, nothing changes under the old fence", run: handOvers, needs: fenced},
	}
}

// committers has several goroutines of one holder count one object up.
func committers(ctx context.Context, k *kit) error {
	const workers, each = 8, 10
	h, err := k.hold(ctx, "a")
	if err != nil {
		return err
	}
	ref, errs := k.ref("a"), make([]error, workers)
	var wins [workers*each + 1]atomic.Int32 // commits per version
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for done := 0; done < each && errs[w] == nil; {
				var v uint64
				if v, errs[w] = countUp(ctx, h, ref); v > 0 && v < uint64(len(wins)) {
					wins[v].Add(1)
					done++
				}
			}
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	for v := 1; v < len(wins); v++ {
		if n := wins[v].Load(); n != 1 {
			return fmt.Errorf("version %d was committed %d times", v, n)
		}
	}
	return k.wantRecord(ctx, ref, doc(workers*each), workers*each)
}

// countUp loads an object and commits the next number. It returns the version, or 0
// if somebody else was quicker.
func countUp(ctx context.Context, h *holder, ref object.Ref) (uint64, error) {
	r, err := h.fp.Load(ctx, ref)
	if err != nil {
		return 0, fmt.Errorf("load: %w", err)
	}
	vs, err := h.commit(ctx, h.save(ref, doc(int(r.Version)+1), r.Version))
	switch {
	case err != nil:
		return 0, fmt.Errorf("commit: %w", err)
	case vs[0].Kind == object.Committed:
		return vs[0].Version, nil
	case vs[0].Kind == object.Conflict:
		return 0, nil
	}
	return 0, wantVerdict(vs[0], object.Conflict, 0)
}

const (
	handOverRounds = 60
	zombies        = 2 // goroutines that keep saving for the old holder
	afterwards     = 3 // saves that each zombie still tries after the hand-over
)

// handOvers hands a shard over again and again while the old holder keeps saving.
func handOvers(ctx context.Context, k *kit) error {
	report, err := RaceHandOvers(ctx, handOverRounds, k.fp)
	return cmp.Or(err, report.First)
}

// HandOverReport is what a race run has found.
type HandOverReport struct {
	HandOvers    int
	Bad          int   // hand-overs after which the state was not the newest acknowledged one
	First        error // the first of them, in words; nil if none was bad
	Acknowledged int   // saves, over the whole run
}

// String is a line for the test's log.
func (r HandOverReport) String() string {
	return fmt.Sprintf("%d hand-overs, %d bad, %d saves acknowledged", r.HandOvers, r.Bad, r.Acknowledged)
}

// RaceHandOvers hands one shard over n times, from a holder that keeps saving while,
// and after, the next one stamps the shard and loads the object: first at the old
// holder's own epoch, which a store must refuse, then above it. A hand-over is bad if
// the object changes after that load, if a save that was acknowledged is not in it,
// or if the heir's own first save fails.
//
// Holders use the providers in turn: give it several that share a store, as nodes do.
// An error says that the run could not be finished; a bad hand-over is none.
func RaceHandOvers(ctx context.Context, n int, providers ...object.FencedProvider) (HandOverReport, error) {
	r := &race{kit: newKit(providers[0]), providers: providers}
	old, err := r.hold(ctx, "0")
	if err != nil {
		return r.report, err
	}
	for r.report.HandOvers < n {
		if old, err = r.handOver(ctx, old); err != nil {
			return r.report, fmt.Errorf("hand-over %d: %w", r.report.HandOvers+1, err)
		}
		r.report.HandOvers++
	}
	return r.report, nil
}

// race is one run.
type race struct {
	*kit
	providers []object.FencedProvider
	report    HandOverReport
	version   atomic.Uint64 // of the object, going by what was acknowledged
}

// bad counts a bad hand-over once.
func (r *race) bad(err error) {
	r.report.Bad++
	if r.report.First == nil {
		r.report.First = fmt.Errorf("hand-over %d: %w", r.report.HandOvers+1, err)
	}
}

// handOver deposes old in the middle of its saves, and judges what the heir finds.
func (r *race) handOver(ctx context.Context, old *holder) (*holder, error) {
	ref, before := r.ref("a"), r.version.Load()
	z := haunt(ctx, old, ref, &r.version)
	defer z.rest()
	if err := z.wait(z.busy); err != nil {
		return nil, err
	}
	heir, err := r.heir(ctx, old)
	if err != nil {
		return nil, err
	}
	loaded, err := heir.fp.Load(ctx, ref)
	if err != nil {
		return nil, err
	}
	z.deposed.Store(true)
	if err := z.wait(z.done); err != nil {
		return nil, err
	}
	if err := r.fresh(ctx, heir, loaded); err != nil {
		r.bad(err)
	}
	r.report.Acknowledged += int(r.version.Load() - before)
	now, err := heir.fp.Load(ctx, ref)
	r.version.Store(now.Version) // whatever was bad, the next round begins clean
	return heir, err
}

// heir stamps the shard for the next holder.
func (r *race) heir(ctx context.Context, old *holder) (*holder, error) {
	next := r.report.HandOvers + 1
	h := &holder{fp: r.providers[next%len(r.providers)], Fence: old.Fence}
	h.Owner = fmt.Sprintf("kit:1#%d-%s", next, r.tag)
	for {
		refused, err := h.fp.Stamp(ctx, h.Owner, []object.Fence{h.Fence})
		switch {
		case err != nil:
			return nil, fmt.Errorf("stamp: %w", err)
		case len(refused) == 0:
			return h, nil
		case h.Epoch > refused[0].Epoch:
			return nil, fmt.Errorf("stamp %+v was refused by the lower fence %+v", h.Fence, refused[0])
		}
		h.Epoch = refused[0].Epoch + 1
	}
}

// fresh holds what the heir has loaded against what is stored once the old holder
// has fallen silent, and against what was acknowledged to it.
func (r *race) fresh(ctx context.Context, heir *holder, loaded object.Record) error {
	ref := r.ref("a")
	if err := r.wantRecord(ctx, ref, loaded.Data, loaded.Version); err != nil {
		return fmt.Errorf("changed under the old fence: %w", err)
	}
	if err := same(loaded.Data, doc(int(loaded.Version))); err != nil {
		return fmt.Errorf("version %d was saved from a version that was not the newest: %w", loaded.Version, err)
	}
	if n := r.version.Load(); n != loaded.Version {
		return fmt.Errorf("saves up to version %d were acknowledged, the heir loaded version %d", n, loaded.Version)
	}
	v, err := countUp(ctx, heir, ref)
	if err != nil || v != loaded.Version+1 {
		return fmt.Errorf("the heir's first save made version %d, error %v, want %d", v, err, loaded.Version+1)
	}
	r.version.Add(1)
	return nil
}

// zombie is a holder that goes on saving after it was deposed.
type zombie struct {
	deposed atomic.Bool
	busy    chan struct{} // closed after its first save
	done    chan struct{} // closed when it has tried enough afterwards
	cancel  context.CancelFunc
	wg      sync.WaitGroup
	err     atomic.Pointer[error]
}

func haunt(ctx context.Context, h *holder, ref object.Ref, acknowledged *atomic.Uint64) *zombie {
	ctx, cancel := context.WithCancel(ctx)
	z := &zombie{busy: make(chan struct{}), done: make(chan struct{}), cancel: cancel}
	var once sync.Once
	for range zombies {
		z.wg.Go(func() {
			defer once.Do(func() { close(z.busy) })
			for tries := 0; tries < afterwards && ctx.Err() == nil; {
				if z.deposed.Load() {
					tries++
				}
				if err := z.step(ctx, h, ref, acknowledged); err != nil {
					z.err.CompareAndSwap(nil, &err)
					return
				}
				once.Do(func() { close(z.busy) })
			}
		})
	}
	go func() {
		z.wg.Wait()
		close(z.done)
	}()
	return z
}

// step saves once, from the newest version.
func (z *zombie) step(ctx context.Context, h *holder, ref object.Ref, acknowledged *atomic.Uint64) error {
	r, err := h.fp.Load(ctx, ref)
	if err != nil {
		return err
	}
	vs, err := h.commit(ctx, h.save(ref, doc(int(r.Version)+1), r.Version))
	if err != nil {
		return err
	}
	if vs[0].Kind == object.Committed {
		acknowledged.Add(1)
	}
	return nil
}

// wait waits for one of the zombie's channels.
func (z *zombie) wait(ch <-chan struct{}) error {
	<-ch // closes at the latest when the check's context ends
	if err := z.err.Load(); err != nil {
		return fmt.Errorf("the old holder's save: %w", *err)
	}
	return nil
}

// rest ends the zombie and waits for it.
func (z *zombie) rest() {
	z.cancel()
	<-z.done
}
