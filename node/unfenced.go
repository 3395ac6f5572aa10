package node

import (
	"context"
	"errors"

	"github.com/xiaonanln/goverse/object"
)

// unfenced lets a provider that only saves, loads and deletes stand where a fenced
// one is expected. It counts versions in memory and admits every writer: such a
// store keeps state, but cannot keep a deposed node from overwriting it.
type unfenced struct{ object.PersistenceProvider }

// StoreID implements object.FencedProvider. Two such stores cannot be told apart.
func (u unfenced) StoreID(context.Context) (string, error) { return "", nil }

// Stamp implements object.FencedProvider: it accepts everyone.
func (u unfenced) Stamp(context.Context, string, []object.Fence) ([]object.Fence, error) {
	return nil, nil
}

// Load implements object.FencedProvider.
func (u unfenced) Load(ctx context.Context, ref object.Ref) (object.Record, error) {
	data, err := u.LoadObject(ctx, ref.Type, ref.ID)
	if errors.Is(err, object.ErrNotStored) {
		return object.Record{}, nil
	}
	return object.Record{Data: data, Version: 1}, err
}

// Commit implements object.FencedProvider, one save at a time.
func (u unfenced) Commit(ctx context.Context, _ string, saves []object.Save) ([]object.Verdict, error) {
	verdicts := make([]object.Verdict, len(saves))
	for i, s := range saves {
		var err error
		if s.Data == nil {
			err = u.DeleteObject(ctx, s.Ref.Type, s.Ref.ID)
		} else {
			err = u.SaveObject(ctx, s.Ref.Type, s.Ref.ID, s.Data)
		}
		verdicts[i] = object.Verdict{Kind: object.Committed, Version: s.Base + 1}
		if err != nil {
			verdicts[i] = object.Verdict{Kind: object.Uncertain, Err: err}
		}
	}
	return verdicts, nil
}

// Lanes implements object.FencedProvider.
func (u unfenced) Lanes() int { return 4 }
