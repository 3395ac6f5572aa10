package object

import "context"

// HistoryKeeper is a store that knows its past: it can tell when it lacks what it has
// acknowledged, because a backup was put back or a standby took over that was behind.
// Whoever used it before has then in memory what never was. A node closes what it holds,
// adopts the history, and stamps each shard at a fresh epoch before it reads anything
// for it: so a save of before counts only where nothing was loaded yet.
type HistoryKeeper interface {
	FencedProvider

	// History names the history that the store goes on with now, at some moment of the
	// call. The name changes when anything that was acknowledged may be undone, and at no
	// other time: not with a restart, nor with anything that is saved. It means something
	// to this process alone. It is asked about once a second.
	History(ctx context.Context) (string, error)

	// AdoptHistory goes on with a history, which must be the store's now; else, or if it
	// is not the same store any more, it fails and nothing has changed. The first history
	// that a store finds is adopted. Under one that was not, every other operation but
	// StoreID and Lanes may fail with ErrOtherHistory; for Commit that is ErrNotCommitted
	// too. Whoever shares the provider shares what was adopted.
	AdoptHistory(ctx context.Context, history string) error
}
