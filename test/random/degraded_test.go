package random

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

// In degraded mode members lose etcd, one by one or all at once, and durable objects are
// served on. A deposed holder may then still run a method, but nothing of it is kept, and
// nobody is told what it read: the logs and the reads are judged as ever.
func TestDegraded(t *testing.T) { chapters(t, "degraded", *seeds/5, silence) }

func silence(seed uint64) story {
	s := story{seed: seed, chance: rand.New(rand.NewPCG(seed, 3)), lone: true}
	s.nodes = 2 + s.chance.IntN(3)
	s.acts = []act{
		{5, "cut from etcd", (*runner).cut},
		{4, "etcd silent", (*runner).cutAll},
		{2, "answers of etcd lost", (*runner).etcdDeaf},
		{2, "etcd restarts", (*runner).restartEtcd},
		{5, "heal", (*runner).heal},
		{2, "start", (*runner).start},
	}
	for _, a := range []act{
		{3, "pause", (*runner).pause},
		{2, "crash", (*runner).crash},
		{2, "stop", (*runner).stop},
		{2, "partition", (*runner).partition},
		{2, "answers lost", (*runner).loseAnswers},
		{1, "delay", (*runner).delay},
	} {
		if s.chance.IntN(2) == 0 {
			s.acts = append(s.acts, a)
		}
	}
	return s
}

// cutAll lets nobody reach etcd, for up to half a minute.
func (r *runner) cutAll() {
	r.crashed = true
	for _, m := range r.members() {
		r.w.CutFromEtcd(m)
	}
	r.in(time.Duration(r.chance.Int64N(int64(30*time.Second))), r.heal)
}

// blameless leaves out what degraded mode allows: that a holder which does not know yet
// that it was deposed runs a durable object's method, in vain.
func (r *runner) blameless(problems []string) []string {
	if !r.lone {
		return problems
	}
	return slices.DeleteFunc(problems, func(p string) bool { return strings.Contains(p, "DurableLog") })
}
