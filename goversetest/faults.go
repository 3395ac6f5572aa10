package goversetest

import (
	"slices"
	"time"

	"github.com/xiaonanln/goverse/cluster/etcdmanager/memkv"
)

// Faults that only a simulated world can have. Members are named as in World.Nodes
// and World.Gates.

// Partition lets nothing through between two members, in either direction, until
// Heal: what is sent is held back, and a connection that is silent for too long is
// given up. Both still reach etcd.
func (w *World) Partition(a, b string) {
	w.T.Helper()
	s := w.sim("Partition")
	s.net.Partition(s.where(a), s.where(b))
}

// PartitionOneWay holds back only what from sends to to.
func (w *World) PartitionOneWay(from, to string) {
	w.T.Helper()
	s := w.sim("PartitionOneWay")
	s.net.PartitionOneWay(s.where(from), s.where(to))
}

// Delay makes every message between members take d, from now on.
func (w *World) Delay(d time.Duration) {
	w.T.Helper()
	w.sim("Delay").net.Delay(d)
}

// LoseAnswers loses the next n answers that a node gives: the calls run, and nobody
// learns how they ended.
func (w *World) LoseAnswers(node string, n int) {
	w.T.Helper()
	s := w.sim("LoseAnswers")
	s.net.LoseAnswers(s.where(node), n)
}

// CutFromEtcd lets nothing of a member reach etcd, until Heal. Its lease ends, and
// until then it stops serving by itself.
func (w *World) CutFromEtcd(member string) {
	w.T.Helper()
	w.sim("CutFromEtcd").member(member).conn.Set(memkv.Cut)
}

// LoseEtcdAnswers lets what a member writes reach etcd, but not the answers, until
// Heal.
func (w *World) LoseEtcdAnswers(member string) {
	w.T.Helper()
	w.sim("LoseEtcdAnswers").member(member).conn.Set(memkv.AnswersLost)
}

// DelayEtcd holds back what a member writes to etcd, until Heal, when all of it takes
// effect.
func (w *World) DelayEtcd(member string) {
	w.T.Helper()
	w.sim("DelayEtcd").member(member).conn.Set(memkv.Late)
}

// StraggleToEtcd makes the next n writes of a member reach etcd only after d, and
// leaves them without an answer, while everything else of it goes through.
func (w *World) StraggleToEtcd(member string, n int, d time.Duration) {
	w.T.Helper()
	w.sim("StraggleToEtcd").member(member).conn.straggle(n, d)
}

// Pause lets a member stand still as far as anybody else can tell: nothing leaves it
// and nothing reaches it, until Resume or Heal. What runs in it goes on.
func (w *World) Pause(member string) {
	w.T.Helper()
	s := w.sim("Pause")
	s.member(member).conn.Set(memkv.Cut)
	s.others(member, s.net.Partition)
}

// Resume ends a Pause, and with it every other fault of that member.
func (w *World) Resume(member string) {
	w.T.Helper()
	s := w.sim("Resume")
	s.member(member).conn.Set(memkv.Healthy)
	s.others(member, s.net.Heal)
}

// others calls do with the addresses of a member and of each other one.
func (s *sim) others(member string, do func(a, b string)) {
	s.t.Helper()
	self := s.where(member)
	for name := range s.all {
		if at := s.where(name); at != self {
			do(self, at)
		}
	}
}

// RestartEtcd ends all connections to etcd and gives every lease its whole time again.
func (w *World) RestartEtcd() {
	w.T.Helper()
	w.sim("RestartEtcd").etcd.Restart()
}

// EtcdSnapshot is a copy of all that etcd has, for RestoreEtcd.
func (w *World) EtcdSnapshot() memkv.Snapshot {
	w.T.Helper()
	return w.sim("EtcdSnapshot").etcd.Snapshot()
}

// RestoreEtcd puts etcd back to a snapshot, or with the zero Snapshot wipes it. No
// watch is told of it.
func (w *World) RestoreEtcd(snap memkv.Snapshot) {
	w.T.Helper()
	w.sim("RestoreEtcd").etcd.Restore(snap)
}

// Heal ends every fault: what still waits for its turn to be lost is not lost.
func (w *World) Heal() {
	w.T.Helper()
	s := w.sim("Heal")
	s.net.HealAll()
	s.net.Delay(0)
	for name, p := range s.all {
		p.conn.Set(memkv.Healthy)
		p.conn.straggle(0, 0)
		s.net.LoseAnswers(s.where(name), 0)
	}
}

// Alarms is what the members have said so far that a person should look into.
func (w *World) Alarms() []string {
	w.T.Helper()
	s := w.sim("Alarms")
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.alarms)
}

// sim is the world where what is to be done can be done.
func (w *World) sim(what string) *sim {
	w.T.Helper()
	w.onlySimulated(what)
	return w.place.(*sim)
}

// member is one member.
func (s *sim) member(name string) *simProcess {
	s.t.Helper()
	if p := s.nodes[name]; p != nil {
		return p
	}
	p := s.gates[name]
	if p == nil {
		s.t.Fatalf("%q does not run", name)
	}
	return p
}

func (s *sim) where(name string) string {
	s.t.Helper()
	if s.member(name).node != nil {
		return s.address(name)
	}
	return gateAddress(name)
}
