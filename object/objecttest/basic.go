package objecttest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/xiaonanln/goverse/object"
)

func basicChecks() []check {
	return []check{
		{name: "SaveLoad", keeps: "the last saved state is loaded", run: saveLoad},
		{name: "NotStored", keeps: "an object without state is ErrNotStored", run: notStored},
		{name: "Delete", keeps: "a deleted state is gone, and deleting again is no error", run: deleteObject},
		{name: "Names", keeps: "objects with similar names are different objects", run: names},
		{name: "Buffers", keeps: "a saved or loaded buffer is the caller's", run: buffers},
		{name: "Parallel", keeps: "saves of many objects at once are all kept", run: parallel},
		{name: "Canceled", keeps: "a cancelled operation tells the truth", run: canceled},
		{name: "Honest", keeps: "data is kept as it is or refused", run: honest},
	}
}

// wantState demands what LoadObject returns; nil is ErrNotStored.
func (k *kit) wantState(ctx context.Context, ref object.Ref, want []byte) error {
	got, err := k.LoadObject(ctx, ref.Type, ref.ID)
	if want == nil {
		if !errors.Is(err, object.ErrNotStored) {
			return fmt.Errorf("load object %s: %q, error %v, want ErrNotStored", ref, got, err)
		}
		return nil
	}
	if err != nil {
		return fmt.Errorf("load object %s: %w", ref, err)
	}
	return same(got, want)
}

func saveLoad(ctx context.Context, k *kit) error {
	ref := k.ref("a")
	for n := range 3 {
		if err := k.SaveObject(ctx, ref.Type, ref.ID, doc(n)); err != nil {
			return fmt.Errorf("save object: %w", err)
		}
		if err := k.wantState(ctx, ref, doc(n)); err != nil {
			return err
		}
	}
	return nil
}

func notStored(ctx context.Context, k *kit) error {
	return k.wantState(ctx, k.ref("nobody"), nil)
}

func deleteObject(ctx context.Context, k *kit) error {
	ref := k.ref("a")
	del := func() error { return k.DeleteObject(ctx, ref.Type, ref.ID) }
	save := func() error { return k.SaveObject(ctx, ref.Type, ref.ID, doc(1)) }
	want := func(data []byte) func() error { return func() error { return k.wantState(ctx, ref, data) } }
	return steps(del, want(nil), save, del, want(nil), del, want(nil), save, want(doc(1)))
}

// names saves objects whose names differ in a way that a careless key forgets.
func names(ctx context.Context, k *kit) error {
	refs := []object.Ref{
		{Type: "Kit", ID: k.tag}, {Type: "kit", ID: k.tag}, {Type: "Kit", ID: strings.ToUpper(k.tag)},
		{Type: "Kit/a", ID: "b" + k.tag}, {Type: "Kit", ID: "a/b" + k.tag},
		{Type: "Kita", ID: "-" + k.tag}, {Type: "Kit", ID: "a-" + k.tag},
		{Type: "Kit", ID: k.tag + " "}, {Type: "Kit", ID: " " + k.tag},
		{Type: "Kit", ID: k.tag + "%"}, {Type: "Kit", ID: k.tag + "_"}, {Type: "Kit", ID: k.tag + "'; --"},
		{Type: "Kit", ID: k.tag + `"\`}, {Type: "Kit", ID: "../" + k.tag}, {Type: "Kit", ID: "shard#7/" + k.tag},
		{Type: "Kit", ID: k.tag + "é"}, {Type: "Kit", ID: k.tag + "e\u0301"}, {Type: "Kit", ID: k.tag + "😀"},
		{Type: "Kit", ID: k.tag + strings.Repeat("x", 512-len(k.tag))}, {Type: "Kit", ID: k.tag + strings.Repeat("x", 511-len(k.tag))},
	}
	for i, r := range refs {
		if err := k.SaveObject(ctx, r.Type, r.ID, doc(i)); err != nil {
			return fmt.Errorf("save object %q: %w", r, err)
		}
	}
	for i, r := range refs {
		if err := k.wantState(ctx, r, doc(i)); err != nil {
			return fmt.Errorf("%q: %w", r, err)
		}
	}
	return nil
}

// buffers changes what it handed in and what it got.
func buffers(ctx context.Context, k *kit) error {
	ref, buf := k.ref("a"), doc(1)
	if err := k.SaveObject(ctx, ref.Type, ref.ID, buf); err != nil {
		return err
	}
	clear(buf)
	got, err := k.LoadObject(ctx, ref.Type, ref.ID)
	if err != nil {
		return err
	}
	if err := same(got, doc(1)); err != nil {
		return fmt.Errorf("after the saved buffer changed: %w", err)
	}
	clear(got)
	if err := k.wantState(ctx, ref, doc(1)); err != nil {
		return fmt.Errorf("after the loaded buffer changed: %w", err)
	}
	if k.fp == nil {
		return nil
	}
	return fencedBuffers(ctx, k)
}

func fencedBuffers(ctx context.Context, k *kit) error {
	ref, buf := k.ref("b"), doc(1)
	h, err := k.hold(ctx, "a")
	if err != nil {
		return err
	}
	if err := h.wrote(ctx, ref, buf, 0); err != nil {
		return err
	}
	clear(buf)
	r, err := k.fp.Load(ctx, ref)
	if err != nil {
		return err
	}
	clear(r.Data)
	return k.wantRecord(ctx, ref, doc(1), 1)
}

func parallel(ctx context.Context, k *kit) error {
	const objects, saves = 16, 5
	errs := make([]error, objects)
	var wg sync.WaitGroup
	for i := range objects {
		wg.Go(func() {
			ref := k.ref(fmt.Sprint(i))
			for n := range saves {
				if err := k.SaveObject(ctx, ref.Type, ref.ID, doc(100*i+n)); err != nil {
					errs[i] = err
					return
				}
			}
			errs[i] = k.wantState(ctx, ref, doc(100*i+saves-1))
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// canceled calls with a context that has ended: an operation may still happen, but
// then it says so.
func canceled(ctx context.Context, k *kit) error {
	ref := k.ref("a")
	if err := k.SaveObject(ctx, ref.Type, ref.ID, doc(1)); err != nil {
		return err
	}
	gone, cancel := context.WithCancel(ctx)
	cancel()
	now := doc(1)
	if k.SaveObject(gone, ref.Type, ref.ID, doc(2)) == nil {
		now = doc(2)
	}
	if err := k.wantState(ctx, ref, now); err != nil {
		return fmt.Errorf("after SaveObject with a cancelled context: %w", err)
	}
	if data, err := k.LoadObject(gone, ref.Type, ref.ID); err == nil {
		if err := same(data, now); err != nil {
			return fmt.Errorf("load object with a cancelled context: %w", err)
		}
	} else if errors.Is(err, object.ErrNotStored) {
		return errors.New("load object with a cancelled context says ErrNotStored of a stored object")
	}
	return nil
}

// honest saves what is hard to keep: it must come back equal, or be refused. What is
// no good JSON must come back to the byte.
func honest(ctx context.Context, k *kit) error {
	for name, data := range goodData() {
		if err := k.keptOrRefused(ctx, k.ref(name), data, same); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	for name, data := range badData() {
		if err := k.keptOrRefused(ctx, k.ref(name), data, identical); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

func (k *kit) keptOrRefused(ctx context.Context, ref object.Ref, data []byte, equal func(got, want []byte) error) error {
	refused := k.SaveObject(ctx, ref.Type, ref.ID, data)
	if refused != nil {
		return k.wantState(ctx, ref, nil)
	}
	got, err := k.LoadObject(ctx, ref.Type, ref.ID)
	if err != nil {
		return fmt.Errorf("load object: %w", err)
	}
	return equal(got, data)
}

func identical(got, want []byte) error {
	if !bytes.Equal(got, want) {
		return fmt.Errorf("stored is %s, want %s", short(got), short(want))
	}
	return nil
}
