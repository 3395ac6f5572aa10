package cluster

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/xiaonanln/goverse/cluster/sharding"
	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/object"
)

// askedAtOnce is how many nodes are asked for their catalogs at a time, and one may take
// catalogPatience to answer.
const (
	askedAtOnce     = 16
	catalogPatience = 2 * time.Second
)

// catalogs is what the nodes said last of their types. One node's catalog is kept for as
// long as the node lives, and asked for again by its digest.
type catalogs struct {
	turn  chan struct{}             // held by who asks
	known map[string]object.Catalog // by registration; of who has the turn
}

func newCatalogs() catalogs { return catalogs{turn: make(chan struct{}, 1)} }

// Catalogs asks all nodes what types they have, and returns each different answer once,
// the newest first: where two nodes differ about a type, the first that has it is right.
// silent is how many did not answer, of which what they said before counts. It fails when
// nothing is known of any node. It asks each time, for one caller after the other.
func (c *Cluster) Catalogs(ctx context.Context) (list []object.Catalog, silent int, err error) {
	ctx, cancel := c.patient(ctx)
	defer cancel()
	select {
	case c.catalogs.turn <- struct{}{}:
		defer func() { <-c.catalogs.turn }()
	case <-ctx.Done():
		return nil, 0, fault.Waited(ctx, "the nodes are being asked already").On("Catalogs", "")
	}
	members := c.View().Members()
	answers, errs := make([]object.Catalog, len(members)), make([]error, len(members))
	ask := func(i int, known string) { answers[i], errs[i] = c.catalogOf(ctx, members[i], known) }
	if len(members) > 0 {
		ask(0, "") // the others are likely to have the same, and need not send it
	}
	seats := make(chan struct{}, askedAtOnce)
	var asking sync.WaitGroup
	for i := 1; i < len(members); i++ {
		seats <- struct{}{}
		asking.Go(func() {
			defer func() { <-seats }()
			ask(i, answers[0].Digest)
		})
	}
	asking.Wait()
	list, silent = c.catalogs.keep(members, answers, errs)
	if len(list) > 0 {
		return list, silent, nil
	}
	if len(members) == 0 {
		return nil, 0, fault.New(fault.NotReady, "no node is running that could say what types there are").On("Catalogs", "")
	}
	return nil, silent, fault.New(fault.NotReady, "no node says what types it has: %w", errors.Join(errs...)).On("Catalogs", "")
}

// catalogOf asks one node. To one that was asked before, known is what it said then.
func (c *Cluster) catalogOf(ctx context.Context, m sharding.Member, known string) (object.Catalog, error) {
	conn, err := c.conns.to(m.Address)
	if err != nil {
		return object.Catalog{}, fault.New(fault.NotReady, "%w", err)
	}
	if was, ok := c.catalogs.known[m.Registration]; ok {
		known = was.Digest
	}
	ctx, cancel := context.WithTimeout(ctx, catalogPatience)
	defer cancel()
	return conn.Catalog(ctx, known)
}

// keep takes in what the members said, and forgets who is none.
func (k *catalogs) keep(members sharding.Members, answers []object.Catalog, errs []error) (list []object.Catalog, silent int) {
	whole := map[string]object.Catalog{} // by digest
	for _, c := range k.known {
		whole[c.Digest] = c
	}
	for i, c := range answers {
		if errs[i] == nil && len(c.Files) > 0 {
			whole[c.Digest] = c
		}
	}
	known := map[string]object.Catalog{}
	for i, m := range members {
		answer := answers[i]
		if errs[i] != nil {
			silent++
			answer = k.known[m.Registration]
		}
		if answer.Digest == "" {
			continue // it has never answered
		}
		c := whole[answer.Digest] // none for a node without types
		c.Digest, c.Since = answer.Digest, answer.Since
		known[m.Registration] = c
	}
	k.known = known
	return newestFirst(known), silent
}

// newestFirst is each catalog once, as its youngest holder has it.
func newestFirst(known map[string]object.Catalog) (list []object.Catalog) {
	for _, c := range known {
		i := slices.IndexFunc(list, func(o object.Catalog) bool { return o.Digest == c.Digest })
		switch {
		case i < 0:
			list = append(list, c)
		case c.Since.After(list[i].Since):
			list[i] = c
		}
	}
	slices.SortFunc(list, func(a, b object.Catalog) int {
		if o := b.Since.Compare(a.Since); o != 0 {
			return o
		}
		if a.Digest < b.Digest {
			return -1
		}
		return 1
	})
	return list
}
