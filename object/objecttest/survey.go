package objecttest

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/xiaonanln/goverse/object"
)

// surveyChecks are for what shows or guards a store as a whole.
func surveyChecks() []check {
	return []check{
		{name: "List", keeps: "the live objects of a type are listed in the order of their ids, page by page", run: list, needs: lists},
		{name: "Confirm", keeps: "exactly the fences that are not the store's are told", run: confirm, needs: confirms},
		{name: "BindCluster", keeps: "a store belongs to the first cluster that takes it", run: bindCluster, needs: binds},
	}
}

func lists(p object.PersistenceProvider) bool    { _, ok := p.(object.Lister); return ok }
func confirms(p object.PersistenceProvider) bool { _, ok := p.(object.FenceKeeper); return ok }
func binds(p object.PersistenceProvider) bool    { _, ok := p.(object.ClusterBinder); return ok }

func list(ctx context.Context, k *kit) error {
	typ := "Kit" + k.tag
	// In the order of bytes; what a tool saves is an object like any other.
	ids := []string{" ", "A", "B", "_", "a", "a b", "ab", "b", "é", "～", "😀"}
	for _, i := range []int{3, 0, 10, 7, 1, 9, 2, 8, 4, 6, 5} {
		if err := k.SaveObject(ctx, typ, ids[i], doc(i)); err != nil {
			return err
		}
	}
	gone := []string{"AA", "c", "😀😀"}
	for _, id := range gone {
		if err := k.SaveObject(ctx, typ, id, doc(1)); err != nil {
			return err
		}
		if err := k.DeleteObject(ctx, typ, id); err != nil {
			return err
		}
	}
	for _, other := range []string{typ + "x", "K" + k.tag} {
		if err := k.SaveObject(ctx, other, "a", doc(1)); err != nil {
			return err
		}
	}
	for _, page := range []int{1, 4, len(ids), 1000} {
		if err := k.wantPages(ctx, typ, page, ids); err != nil {
			return fmt.Errorf("in pages of %d: %w", page, err)
		}
	}
	if got, err := k.PersistenceProvider.(object.Lister).List(ctx, typ, "", 0); err != nil || len(got) > 0 {
		return fmt.Errorf("a list of at most 0 objects: %+v, error %v", got, err)
	}
	return k.listedTimes(ctx, typ)
}

// wantPages reads a type page by page.
func (k *kit) wantPages(ctx context.Context, typ string, page int, want []string) error {
	var got []string
	for after := ""; ; after = got[len(got)-1] {
		list, err := k.PersistenceProvider.(object.Lister).List(ctx, typ, after, page)
		switch {
		case err != nil:
			return fmt.Errorf("list: %w", err)
		case len(list) > page:
			return fmt.Errorf("asked for %d objects and got %d", page, len(list))
		case len(got) > len(want):
			return fmt.Errorf("listed are %q, want %q", got, want)
		case len(list) == 0:
			if !slices.Equal(got, want) {
				return fmt.Errorf("listed are %q, want %q", got, want)
			}
			return nil
		}
		for _, l := range list {
			if l.Ref.Type != typ {
				return fmt.Errorf("%s is listed among %s", l.Ref, typ)
			}
			got = append(got, l.Ref.ID)
		}
	}
}

// listedTimes holds what is listed of one object against its saves.
func (k *kit) listedTimes(ctx context.Context, typ string) error {
	var versions [2]object.Listed
	for i := range versions {
		if err := k.SaveObject(ctx, typ, "timed", doc(i)); err != nil {
			return err
		}
		// After an id that nobody has.
		list, err := k.PersistenceProvider.(object.Lister).List(ctx, typ, "time", 1)
		if err != nil || len(list) != 1 || list[0].Ref.ID != "timed" {
			return fmt.Errorf("after %q comes %+v, error %v", "time", list, err)
		}
		versions[i] = list[0]
		if err := pause(ctx, 2*time.Millisecond); err != nil {
			return err
		}
	}
	a, b := versions[0], versions[1]
	switch {
	case a.Version != 1 || b.Version != 2:
		return fmt.Errorf("listed at version %d, then %d, want 1 and 2", a.Version, b.Version)
	case a.Created.IsZero() || !a.Created.Equal(b.Created):
		return fmt.Errorf("created at %v, after an update at %v", a.Created, b.Created)
	case !b.Updated.After(a.Updated) || a.Updated.Before(a.Created):
		return fmt.Errorf("created at %v, updated at %v, then at %v", a.Created, a.Updated, b.Updated)
	}
	return nil
}

func confirm(ctx context.Context, k *kit) error {
	h, err := k.hold(ctx, "a")
	if err != nil {
		return err
	}
	var fences, lost []object.Fence
	add := func(f object.Fence, isLost bool) {
		fences = append(fences, f)
		if isLost {
			lost = append(lost, f)
		}
	}
	mine := func() (object.Fence, error) { // another shard of the same owner
		f := object.Fence{Shard: k.shard(), Epoch: 1, Owner: h.Owner}
		for {
			refused, err := k.fp.Stamp(ctx, h.Owner, []object.Fence{f})
			if err != nil || len(refused) == 0 {
				return f, err
			}
			f.Epoch = refused[0].Epoch + 1
		}
	}
	for i := range 300 {
		f, err := mine()
		if err != nil {
			return err
		}
		switch i {
		case 10:
			f.Epoch--
		case 20:
			f.Epoch++
		case 30:
			if _, err := k.take(ctx, "heir", f.Shard); err != nil {
				return err
			}
		}
		add(f, i == 10 || i == 20 || i == 30)
	}
	add(object.Fence{Shard: h.Shard, Epoch: h.Epoch, Owner: h.Owner}, false)
	keeper := k.fp.(object.FenceKeeper)
	confirms := func(owner string, fences, want []object.Fence) error {
		got, err := keeper.Confirm(ctx, owner, fences)
		if err != nil {
			return fmt.Errorf("confirm: %w", err)
		}
		shards := func(list []object.Fence) (ns []int) {
			for _, f := range list {
				ns = append(ns, f.Shard)
			}
			slices.Sort(ns)
			return ns
		}
		if !slices.Equal(shards(got), shards(want)) {
			return fmt.Errorf("%d fences of %s: lost are shards %d, want %d", len(fences), owner, shards(got), shards(want))
		}
		return nil
	}
	return steps(
		func() error { return confirms(h.Owner, fences, lost) },
		func() error { return confirms(h.Owner, fences[:5], nil) },
		func() error { return confirms(h.Owner+"x", fences[:5], fences[:5]) },
		func() error { return confirms(h.Owner, nil, nil) },
		func() error {
			return confirms("nobody-"+k.tag, []object.Fence{{Shard: k.shard()}}, []object.Fence{{Shard: k.shards % 8192}})
		},
	)
}

// bindCluster lets many bind the store at once. It may be bound already.
func bindCluster(ctx context.Context, k *kit) error {
	b := k.PersistenceProvider.(object.ClusterBinder)
	before, err := b.BindCluster(ctx, "")
	if err != nil {
		return fmt.Errorf("ask for the cluster: %w", err)
	}
	var names, got [8]string
	var errs [8]error
	var wg sync.WaitGroup
	for i := range got {
		names[i] = k.id(fmt.Sprint("cluster", i))
		wg.Go(func() { got[i], errs[i] = b.BindCluster(ctx, names[i]) })
	}
	wg.Wait()
	after, err := b.BindCluster(ctx, "")
	if err != nil {
		return fmt.Errorf("ask for the cluster: %w", err)
	}
	for i, name := range got {
		if errs[i] != nil || name != after {
			return fmt.Errorf("bound to %q, error %v, and then it belongs to %q", name, errs[i], after)
		}
	}
	if before != "" && after != before || before == "" && !slices.Contains(names[:], after) {
		return fmt.Errorf("it belonged to %q, was bound to one of %q, and belongs to %q", before, names, after)
	}
	return nil
}
