package diagnosis

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/xiaonanln/goverse/cluster/sharding"
	"github.com/xiaonanln/goverse/object"
)

// The reasons are pure: a view in, sentences out. They follow the table of
// cluster/sharding/state.go.

// Shard explains a shard, which there is.
func Shard(v *Picture, n int) *Explanation {
	e := newExplanation("shard %d", n)
	e.shard(v, v.Table.Shard(sharding.ID(n)))
	return e
}

// Object explains where an object is. The cluster has shards.
func Object(v *Picture, ref object.Ref) *Explanation {
	e := newExplanation("object %s/%s", ref.Type, ref.ID)
	e.Object = &ObjectRow{Type: ref.Type, ID: ref.ID}
	if address, pinned := sharding.PinnedNode(ref.ID); pinned {
		e.Object.Placement = "node"
		e.pinned(v, address)
		if v.Members().Has(address) {
			e.types(v, ref.Type, address)
		}
		return e
	}
	shards := v.Table.Len()
	s := v.Table.Shard(sharding.Of(ref.ID, shards))
	switch {
	case pinnedToShard(ref.ID, s.ID):
		e.Object.Placement = "shard"
		e.fact("placement", "shard %d, because the id names it", s.ID)
	default:
		e.Object.Placement = "hash"
		e.fact("placement", "shard %d, by the hash of the id: FNV-1a 32 of %q mod %d", s.ID, ref.ID, shards)
		if strings.HasPrefix(ref.ID, sharding.FixedPrefix) {
			e.note("the id begins like one that names its shard, but that takes %s<number>/<name> with a number from 0 to %d; so its hash counts", sharding.FixedPrefix, shards-1)
		}
	}
	e.shard(v, s)
	holder, _ := v.Holder(s.ID)
	e.types(v, ref.Type, holder)
	return e
}

// pinnedToShard says whether the id names its shard, rather than hashing to it.
func pinnedToShard(id string, shard sharding.ID) bool {
	rest, ok := strings.CutPrefix(id, sharding.FixedPrefix)
	if !ok {
		return false
	}
	digits, _, ok := strings.Cut(rest, "/")
	n, err := strconv.ParseUint(digits, 10, 16)
	return ok && err == nil && len(digits) <= 4 && sharding.ID(n) == shard
}

// pinned is about an object that lives on one node alone.
func (e *Explanation) pinned(v *Picture, address string) {
	e.fact("placement", "the node %s, because the id names it; no shard", address)
	e.fact("node", "%s", standing(v, address, ""))
	e.cluster(v)
	if v.Members().Has(address) {
		e.Summary = fmt.Sprintf("%s runs its calls, and no other node ever will: the object is volatile and ends with that process", address)
		return
	}
	e.Summary = fmt.Sprintf("No node is registered as %s, and no other may run it: calls wait for that node until their deadline", address)
	e.acts(address, "has to come back; the object then begins anew, because it is volatile")
	e.waits("a node with exactly this advertise address: start it, or use an id that names no node")
}

// types says who can run objects of a type.
func (e *Explanation) types(v *Picture, name, holder string) {
	var have []string
	known := map[string]bool{}
	for _, address := range v.Addresses() {
		m, _ := v.Member(address)
		for _, t := range m.Types {
			known[t] = true
			if t == name {
				have = append(have, address)
			}
		}
	}
	switch {
	case len(known) == 0:
	case len(have) == 0:
		e.note("no live node has registered the type %s, so calls to it fail; registered: %s", name, strings.Join(slices.Sorted(maps.Keys(known)), ", "))
	case holder != "" && !slices.Contains(have, holder):
		e.note("the node %s has not registered the type %s, so calls fail there; it is registered at %s", holder, name, strings.Join(have, ", "))
	}
}

// cluster states the facts that are the same for all.
func (e *Explanation) cluster(v *Picture) {
	e.fact("leader", "%s", cmp.Or(v.Leader.Address, "none"))
	formed := "formed"
	if !v.Formed {
		formed = "not formed"
	}
	e.fact("cluster", "%s, %d of %d nodes ready", formed, v.Ready(), len(v.Members()))
}

// standing is what is known of the node at address; with a registration, of that one.
func standing(v *Picture, address, registration string) string {
	m, ok := v.Members().Find(address)
	switch {
	case !ok:
		return address + " (gone)"
	case registration != "" && m.Registration != registration:
		return fmt.Sprintf("%s (gone: a later process has the address, as #%s)", address, m.Registration)
	}
	return fmt.Sprintf("%s (alive, %s)", address, StateOf(m))
}

// shard is about a shard's record.
func (e *Explanation) shard(v *Picture, s *sharding.Shard) {
	row := ShardRowOf(v, s)
	e.Shard = &row
	if s.Raw() == nil {
		e.fact("record", "none")
	} else {
		e.fact("record", "%v", s)
	}
	e.fact("state", "%s", row.State)
	if s.Current != "" {
		e.fact("holder", "%s", standing(v, s.Current, s.Registration))
	} else {
		e.fact("holder", "none")
	}
	if s.Target != "" {
		e.fact("target", "%s", standing(v, s.Target, ""))
	} else {
		e.fact("target", "none")
	}
	e.cluster(v)
	if s.Damaged {
		e.damaged(v)
		return
	}
	switch s.State(v.Members()) {
	case sharding.Unassigned:
		e.Summary = "No node holds it and none is to: calls wait"
		e.leads(v, "gives it to a node, which then claims it")
	case sharding.Assigned:
		e.Summary = fmt.Sprintf("No node holds it, and %s is to: calls wait until then", s.Target)
		e.claims(v, s, fmt.Sprintf("claims it, at epoch %d", s.Epoch+1))
	case sharding.Held:
		e.held(v, s)
	case sharding.Moving:
		e.moving(v, s)
	case sharding.Orphaned:
		e.Summary = fmt.Sprintf("Its holder, %s, is gone: its registration in etcd has ended. %s is to take it over; calls wait until then", s.Current, s.Target)
		e.claims(v, s, fmt.Sprintf("claims it over the dead holder, at epoch %d", s.Epoch+1))
	case sharding.Adrift:
		e.adrift(v, s)
	}
	e.wanted(v, s)
}

// damaged: nothing is known but that the record makes no sense.
func (e *Explanation) damaged(v *Picture) {
	e.Facts["state"] = Damaged
	e.Summary = "What stands in etcd for it makes no sense, so who holds it cannot be read there: a live holder goes on until its record is written anew"
	e.leads(v, "writes the record anew, with what it last knew of it")
}

// leads: the leader has to act.
func (e *Explanation) leads(v *Picture, how string) {
	e.acts(theLeader, "%s", how)
	e.waits(v.Leaderless())
	e.waits(unformed(v))
	e.waits(nobodyTakes(v))
}

// nobodyTakes says that no node would be given a shard; "" if one would.
func nobodyTakes(v *Picture) string {
	switch {
	case v.Ready() > 0:
		return ""
	case len(v.Members()) == 0:
		return "no node is there to take it: start one"
	}
	return "every node is draining, so none takes it: start another, or take an order back with goverse drain host:port --undo"
}

// claims: the target has to act.
func (e *Explanation) claims(v *Picture, s *sharding.Shard, how string) {
	target, _ := v.Members().Find(s.Target)
	if target.Draining {
		e.note("%s is draining and claims nothing", s.Target)
		e.leads(v, "gives it to another node, which then "+how)
		return
	}
	e.acts(s.Target, "%s", how)
	if v.Hold {
		e.waits(held)
	}
	if len(e.Waits) == 0 {
		e.note("that takes well under a second; if it stays so, look at the log of %s: its store may refuse the shard, or etcd not answer it", s.Target)
	}
}

func (e *Explanation) held(v *Picture, s *sharding.Shard) {
	e.Summary = fmt.Sprintf("%s holds it, and calls run there", s.Current)
	holder, _ := v.Members().Find(s.Current)
	if holder.Draining {
		e.leads(v, fmt.Sprintf("gives it to another node, because %s is draining", s.Current))
	}
}

func (e *Explanation) moving(v *Picture, s *sharding.Shard) {
	e.Summary = fmt.Sprintf("%s holds it and calls run there, but it is on its way to %s", s.Current, s.Target)
	target, _ := v.Members().Find(s.Target)
	holder, _ := v.Members().Find(s.Current)
	switch {
	case target.Draining && !holder.Draining:
		e.leads(v, fmt.Sprintf("lets it stay, because %s is draining by now", s.Target))
	case target.Draining && v.Ready() > 0:
		e.leads(v, fmt.Sprintf("gives it to another node, because %s is draining by now", s.Target))
	default:
		e.acts(s.Current, "lets the running calls of the shard end, passes its objects to %s, and makes it the holder in one transaction, at epoch %d; calls that come meanwhile wait and run there", s.Target, s.Epoch+1)
		e.note("a shard moves in milliseconds; if this one stays, a method that runs on %s does not end, and its log names it", s.Current)
	}
}

func (e *Explanation) adrift(v *Picture, s *sharding.Shard) {
	aim := "nobody is to hold it"
	if s.Target != "" {
		aim = fmt.Sprintf("%s, which is to hold it, is gone", s.Target)
	}
	holder, alive := v.Members().Find(s.Current)
	alive = alive && holder.Registration == s.Registration
	switch {
	case alive && !holder.Draining:
		e.Summary = fmt.Sprintf("%s holds it and calls run there, but %s", s.Current, aim)
		e.leads(v, "lets it stay where it is")
	case alive:
		e.Summary = fmt.Sprintf("%s holds it and calls run there, but is draining, and %s", s.Current, aim)
		e.leads(v, "gives it to another node")
	default:
		e.Summary = fmt.Sprintf("No live node holds it, and %s: calls wait", aim)
		e.leads(v, "gives it to another node, which then claims it")
		e.note("nodes whose QuorumLoss is freeze or stop wait for those that are gone, as long as fewer than MinQuorum are ready")
	}
}

// Node explains a node, unless nothing is known of the address.
func Node(v *Picture, address string) (e *Explanation, known bool) {
	e = newExplanation("node %s", address)
	m, alive := v.Members().Find(address)
	loads := Loads(v)
	l := loads[address]
	to, from, lost := traffic(v, address)
	if !alive {
		if l == (Load{}) && lost == 0 && !slices.Contains(v.Strays, address) {
			return nil, false
		}
		e.gone(v, address, l, lost)
		return e, true
	}
	row := nodeRowOf(v, m, l)
	e.Node = &row
	e.fact("state", "%s", row.State)
	e.fact("registration", "%s", row.Registration)
	e.fact("shards", "holds %d, should hold %d; %d to come, %d to leave", l.Held, l.Target, l.In, l.Out)
	if l.In > 0 {
		e.fact("coming", "%s", list(from))
	}
	if l.Out > 0 {
		e.fact("leaving", "%s", list(to))
	}
	e.fact("types", "%s", cmp.Or(strings.Join(row.Types, ", "), "none"))
	e.fact("version", "%s", cmp.Or(row.Version, "not told"))
	e.fact("store", "%s", cmp.Or(row.Store, "not told"))
	e.cluster(v)
	if lost > 0 {
		e.note("%s still named after an earlier process with this address, which is gone", are(lost, "shard"))
	}
	if m.Draining {
		e.draining(v, address, l)
		return e, true
	}
	e.ready(v, address, l)
	return e, true
}

// NoNode explains an address of which nothing is known.
func NoNode(v *Picture, address string) *Explanation {
	e := newExplanation("node %s", address)
	e.cluster(v)
	e.Summary = fmt.Sprintf("No node is registered as %s, and no shard names it", address)
	return e
}

// traffic is where the shards of a node go to, and where those that it waits for
// are; and how many records name it by a registration that is gone.
func traffic(v *Picture, address string) (to, from map[string]int, lost int) {
	to, from = map[string]int{}, map[string]int{}
	for _, s := range v.Table.All() {
		alive := v.Members().Registered(s.Current, s.Registration)
		if s.Current == address && !alive {
			lost++
		}
		switch {
		case s.Target == address && (!alive || s.Current != address):
			switch {
			case alive:
				from["from "+s.Current]++
			case s.Current != "":
				from["of the dead "+s.Current]++
			default:
				from["that nobody holds"]++
			}
		case s.Current == address && alive && s.Target != address:
			to["to "+cmp.Or(s.Target, "nobody")]++
		}
	}
	return to, from, lost
}

func list(counts map[string]int) string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(counts)) {
		parts = append(parts, fmt.Sprintf("%d %s", counts[name], name))
	}
	return strings.Join(parts, ", ")
}

func (e *Explanation) ready(v *Picture, address string, l Load) {
	switch {
	case l.In == 0 && l.Out == 0 && l.Held > 0:
		e.Summary = fmt.Sprintf("It is well: it holds all %s that it should", Some(l.Held, "shard"))
	case l.In == 0 && l.Out == 0:
		e.Summary = "It is there, and was given no shard"
		e.acts(theLeader, "gives it its share once it has been there for the stability delay")
		e.waits(v.Leaderless())
		e.waits(unformed(v))
	default:
		e.Summary = fmt.Sprintf("It is at work: %s to come, %s to leave", Some(l.In, "shard"), Some(l.Out, "shard"))
		e.work(v, address, l)
	}
}

// work says who brings a ready node's shards to where they should be.
func (e *Explanation) work(v *Picture, address string, l Load) {
	free := 0
	for _, s := range v.Table.All() {
		if s.Target == address && !v.Members().Registered(s.Current, s.Registration) {
			free++
		}
	}
	switch {
	case free > 0:
		e.acts(address, "claims the %d that no live node holds", free)
		if v.Hold {
			e.waits(held)
		}
	case l.Out > 0:
		e.acts(address, "hands each over as soon as its running calls have ended")
	default:
		e.acts("the nodes that hold them", "hand each over as soon as its running calls have ended")
	}
}

func (e *Explanation) draining(v *Picture, address string, l Load) {
	why := "its process is stopping"
	if m, ok := v.Member(address); ok && m.DrainedByOperator() {
		why = "an operator said so"
		e.note("goverse drain %s --undo takes it back", address)
	}
	staying := l.Held - l.Out
	switch {
	case l.Held == 0 && l.Target == 0:
		e.Summary = fmt.Sprintf("It is draining, because %s, and has no shard left: its process can be stopped", why)
	case v.Ready() == 0:
		e.Summary = fmt.Sprintf("It is draining, because %s, but nobody takes what it holds (%s)", why, Some(l.Held, "shard"))
		e.leads(v, "gives them to other nodes")
	case staying > 0 || l.In > 0:
		e.Summary = fmt.Sprintf("It is draining, because %s: %s left, %d of them without another target yet", why, Some(l.Held, "shard"), staying)
		e.leads(v, "gives them to other nodes")
	default:
		e.Summary = fmt.Sprintf("It is draining, because %s: %s left, all of which are on their way", why, Some(l.Held, "shard"))
		e.acts(address, "hands each over as soon as its running calls have ended")
	}
}

func (e *Explanation) gone(v *Picture, address string, l Load, lost int) {
	e.fact("state", "gone")
	e.fact("shards", "%d name it as their holder, %d as their target", lost, l.Target)
	e.cluster(v)
	e.Summary = fmt.Sprintf("No node is registered as %s. Its process ended, or lost its lease in etcd", address)
	switch {
	case l.Target > 0:
		e.leads(v, "gives its shards to other nodes, which claim them")
	case lost > 0:
		e.acts("the targets of its shards", "claim them")
		if v.Hold {
			e.waits(held)
		}
	case slices.Contains(v.Strays, address):
		e.acts("a person", "deletes the key %s if it stays: it can keep others from leading", v.NodeKey(address))
	}
}
