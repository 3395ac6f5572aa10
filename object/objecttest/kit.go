// Package objecttest is the contract of object.PersistenceProvider as a test kit:
//
//	func TestStore(t *testing.T) {
//		objecttest.Run(t, func(t testing.TB) object.PersistenceProvider {
//			return newStore(t)
//		})
//	}
//
// Every provider is held to the basic part. One that is an object.FencedProvider is
// held to the fenced part too: fences, versions, verdicts, deletions that stay.
// Whatever it offers besides it is held to as well: object.ExactlyOnceProvider,
// TxProvider, Lister, FenceKeeper, ClusterBinder, HistoryKeeper, and Collector. The
// test's log says what the provider keeps, what it does not, and what it does not offer.
// RunRewound holds a HistoryKeeper to what it promises for when it is put back.
package objecttest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/xiaonanln/goverse/object"
)

// CheckTimeout bounds each check; a provider that hangs fails it.
const CheckTimeout = 60 * time.Second

// Collector is what a provider may offer besides: the end of tombstones.
type Collector interface {
	// CollectTombstones forgets the deleted objects of fence's shard whose deletion
	// is older than olderThan, except the live ones, and returns how many. It does
	// nothing unless fence is the shard's.
	CollectTombstones(ctx context.Context, fence object.Fence, olderThan time.Duration, live []object.Ref) (int, error)
}

// Run holds a provider to its contract, each check in a subtest of its own. open
// is called once for each and may return the same store every time: checks use
// objects, shards and owners of their own, and leave them behind.
func Run(t *testing.T, open func(t testing.TB) object.PersistenceProvider) {
	var s summary
	for _, c := range checks() {
		t.Run(c.name, func(t *testing.T) {
			p := open(t)
			err := c.examine(t.Context(), p)
			s.add(c, err)
			s.offers = offers(p)
			switch {
			case err == errNotOffered:
				t.Skipf("not offered: %s", c.keeps)
			case err != nil:
				t.Errorf("does not keep: %s\n%v", c.keeps, err)
			}
		})
	}
	t.Log(s.String())
}

// check is one promise and the way to break it.
type check struct {
	name  string
	keeps string // the promise, in words
	run   func(context.Context, *kit) error
	needs func(object.PersistenceProvider) bool // nil: every provider is held to it
}

func checks() []check {
	return slices.Concat(basicChecks(), fencedChecks(), dataChecks(), recordChecks(), hookChecks(), surveyChecks(), historyChecks(), raceChecks())
}

var errNotOffered = fmt.Errorf("not offered")

func (c check) examine(ctx context.Context, p object.PersistenceProvider) error {
	if c.needs != nil && !c.needs(p) {
		return errNotOffered
	}
	ctx, cancel := context.WithTimeout(ctx, CheckTimeout)
	defer cancel()
	return c.run(ctx, newKit(p))
}

func fenced(p object.PersistenceProvider) bool {
	_, ok := p.(object.FencedProvider)
	return ok
}

func collects(p object.PersistenceProvider) bool {
	_, ok := p.(Collector)
	return ok && fenced(p)
}

// offers names what a provider is.
func offers(p object.PersistenceProvider) string {
	names := []string{"PersistenceProvider"}
	for _, part := range []struct {
		name string
		is   func(object.PersistenceProvider) bool
	}{
		{"FencedProvider", fenced}, {"ExactlyOnceProvider", exactlyOnce}, {"TxProvider", transacts}, {"Lister", lists},
		{"FenceKeeper", confirms}, {"ClusterBinder", binds}, {"HistoryKeeper", remembers}, {"Collector", collects},
	} {
		if part.is(p) {
			names = append(names, part.name)
		}
	}
	return strings.Join(names, ", ")
}

// summary is what the log says at the end.
type summary struct {
	offers     string
	keeps, not []string
}

func (s *summary) add(c check, err error) {
	if err == nil {
		s.keeps = append(s.keeps, c.keeps)
	} else {
		s.not = append(s.not, c.keeps)
	}
}

// String has a line "is: ..." with the interfaces, and a line "keeps: ..." or "does
// not keep: ..." for each promise.
func (s *summary) String() string {
	var b strings.Builder
	b.WriteString("\nis: " + s.offers)
	for _, p := range s.keeps {
		b.WriteString("\nkeeps: " + p)
	}
	for _, p := range s.not {
		b.WriteString("\ndoes not keep: " + p)
	}
	return b.String()
}

// kit is what one check works with: a provider, and names that nobody else uses.
type kit struct {
	object.PersistenceProvider
	fp     object.FencedProvider      // nil if the provider has no fences
	eo     object.ExactlyOnceProvider // nil if it keeps no records
	tag    string
	shards int
}

func newKit(p object.PersistenceProvider) *kit {
	fp, _ := p.(object.FencedProvider)
	eo, _ := p.(object.ExactlyOnceProvider)
	return &kit{PersistenceProvider: p, fp: fp, eo: eo, tag: object.NewID(), shards: rand.IntN(8192)}
}

// ref names an object of this check's own.
func (k *kit) ref(name string) object.Ref {
	return object.Ref{Type: "Kit", ID: name + "-" + k.tag}
}

// shard picks a shard that this check has not used yet.
func (k *kit) shard() int {
	k.shards++
	return k.shards % 8192
}

// doc is a small state that carries a number.
func doc(n int) []byte {
	return fmt.Appendf(nil, `{"@type":"type.googleapis.com/kit.State","n":%d}`, n)
}
