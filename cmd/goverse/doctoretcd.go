package main

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/xiaonanln/goverse/cluster/diagnosis"
	"github.com/xiaonanln/goverse/cluster/etcdmanager"
)

// examiner is an etcd that can be asked how it is. One in memory cannot.
type examiner interface {
	Examine(ctx context.Context) *etcdmanager.Condition
}

// How full of what it may have etcd's database is when a person should hear of it, and
// when it is about to stop. defaultQuota is etcd's own, for those that do not tell theirs.
const (
	roomyPercent = 75
	fullPercent  = 90
	defaultQuota = 2 << 30
)

// etcd judges etcd itself.
func (x *examination) etcd(ctx context.Context, kv etcdmanager.KV) {
	e, ok := kv.(examiner)
	if !ok {
		return
	}
	c, before := e.Examine(ctx), len(x.Findings)
	x.alarms(c)
	answering := slices.DeleteFunc(slices.Clone(c.Endpoints), func(e etcdmanager.Endpoint) bool { return e.Err != nil })
	x.endpoints(c.Endpoints)
	x.etcdVersions(answering)
	for _, e := range answering {
		x.room(e)
	}
	if len(x.Findings) == before {
		x.well("etcd", "%s of version %s, with a leader, without an alarm, and with room", diagnosis.Some(len(answering), "endpoint"), answering[0].Version)
	}
}

// alarms judges what keeps etcd from its work until somebody disarms it.
func (x *examination) alarms(c *etcdmanager.Condition) {
	if c.AlarmsErr != nil {
		x.note("etcd", "etcdctl alarm list, as somebody whom etcd allows it", "its alarms are not told: %v", c.AlarmsErr)
	}
	by := map[etcdmanager.AlarmKind]int{}
	for _, a := range c.Alarms {
		by[a.Kind]++
	}
	for _, kind := range slices.Sorted(maps.Keys(by)) {
		members := diagnosis.Some(by[kind], "member")
		switch kind {
		case etcdmanager.AlarmNoSpace:
			x.wrong("etcd", "compact and defragment it (etcdctl compact, etcdctl defrag) or raise its --quota-backend-bytes, then etcdctl alarm disarm",
				"alarm NOSPACE of %s: it stores nothing more, so no shard can be taken over or moved", members)
		case etcdmanager.AlarmCorrupt:
			x.wrong("etcd", "find the member whose data differs (etcdctl endpoint hashkv), remove it and add it anew with an empty directory, then etcdctl alarm disarm",
				"alarm CORRUPT of %s: its members do not have the same data, and it answers nothing", members)
		default:
			x.wrong("etcd", "look up what etcd says of it, and then etcdctl alarm disarm", "alarm %v of %s", kind, members)
		}
	}
}

// endpoints judges whether all that are named answer, as parts of one etcd.
func (x *examination) endpoints(all []etcdmanager.Endpoint) {
	clusters := map[string][]string{}
	for _, e := range all {
		switch {
		case e.Err != nil:
			x.wrong("etcd", "start that member; if it is gone for good, replace it and leave its address out of every --etcd", "%s does not answer, while others do: %v", e.Address, e.Err)
			continue
		case !e.Led:
			x.wrong("etcd", "look at the network between etcd's members, and at its log", "%s answers, and knows no leader: it is cut off from the others, or most of them are down", e.Address)
		case e.Learner:
			x.wrong("etcd", "etcdctl member promote, or leave its address out of --etcd", "%s is a learner: it has no vote, and answers no reads", e.Address)
		}
		name := fmt.Sprintf("%x", e.Cluster)
		clusters[name] = append(clusters[name], e.Address)
	}
	if len(clusters) > 1 {
		x.wrong("etcd", "name the endpoints of one of them only, in the --etcd of every program", "the endpoints belong to different clusters: %s", groups(clusters))
	}
}

// etcdVersions judges whether the members are alike, and new enough.
func (x *examination) etcdVersions(answering []etcdmanager.Endpoint) {
	versions := map[string][]string{}
	for _, e := range answering {
		versions[e.Version] = append(versions[e.Version], e.Address)
		if e.TooOld != nil {
			x.wrong("etcd", "update it", "%s: %v", e.Address, e.TooOld)
		}
	}
	if len(versions) > 1 {
		x.note("etcd", "well during a rolling update of etcd; after it, update the members that lag behind", "different versions: %s", groups(versions))
	}
}

// room judges how full an endpoint's database is.
func (x *examination) room(e etcdmanager.Endpoint) {
	quota, says := cmp.Or(e.Quota, defaultQuota), "that it may have"
	if e.Quota == 0 {
		says = "that etcd lets it have by default; it does not tell its own"
	}
	percent := e.Size * 100 / quota
	text := fmt.Sprintf("the database of %s takes %s of the %s %s", e.Address, size(e.Size), size(quota), says)
	do := "raise its --quota-backend-bytes, and look who writes so much: a cluster takes a few MiB"
	if e.InUse < e.Size/2 {
		do = "etcdctl defrag: it needs only " + size(e.InUse)
	}
	switch {
	case percent >= fullPercent && e.Quota > 0:
		x.wrong("etcd", do, "%s: when it is full, nothing can be taken over or moved", text)
	case percent >= roomyPercent:
		x.note("etcd", do, "%s", text)
	}
}

// size is bytes for people.
func size(bytes int64) string {
	text := fmt.Sprintf("%.1f", float64(bytes)/(1<<20))
	return strings.TrimSuffix(text, ".0") + " MiB"
}
