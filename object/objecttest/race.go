package objecttest

import (
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
	ref := k.ref("a")
	old, err := k.hold(ctx, "0")
	if err != nil {
		return err
	}
	var acknowledged atomic.Uint64
	for round := range handOverRounds {
		if old, err = k.handOver(ctx, ref, old, round, &acknowledged); err != nil {
			return fmt.Errorf("hand-over %d: %w", round+1, err)
		}
	}
	n := acknowledged.Load()
	return k.wantRecord(ctx, ref, doc(int(n)), n)
}

// handOver deposes old in the middle of its saves. What the heir loads after its
// stamp must stay until the heir itself saves, and the saves that were acknowledged
// must all be in it.
func (k *kit) handOver(ctx context.Context, ref object.Ref, old *holder, round int, acknowledged *atomic.Uint64) (*holder, error) {
	z := haunt(ctx, old, ref, acknowledged)
	defer z.rest()
	if err := z.wait(z.busy); err != nil {
		return nil, err
	}
	heir, err := k.take(ctx, fmt.Sprint(round+1), old.Shard)
	if err != nil {
		return nil, err
	}
	loaded, err := k.fp.Load(ctx, ref)
	if err != nil {
		return nil, err
	}
	z.deposed.Store(true)
	if err := z.wait(z.done); err != nil {
		return nil, err
	}
	if err := k.wantRecord(ctx, ref, loaded.Data, loaded.Version); err != nil {
		return nil, fmt.Errorf("changed under the old fence: %w", err)
	}
	if n := acknowledged.Load(); n != loaded.Version {
		return nil, fmt.Errorf("%d saves were acknowledged, the heir loaded version %d", n, loaded.Version)
	}
	v, err := countUp(ctx, heir, ref)
	if err != nil || v != loaded.Version+1 {
		return nil, fmt.Errorf("the heir's first save made version %d, error %v, want %d", v, err, loaded.Version+1)
	}
	acknowledged.Add(1)
	return heir, nil
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
