package diagnosis

import "fmt"

// Warnings is what is wrong with the keys, and what keeps the cluster as a whole
// from its work.
func (v *Picture) Warnings() []string {
	list := v.Damages()
	if v.Meta == nil {
		return list
	}
	for _, why := range []string{v.Leaderless(), unformed(v)} {
		if why != "" {
			list = append(list, why)
		}
	}
	if v.Hold {
		list = append(list, held)
	}
	return list
}

// Damages is the keys that make no sense. A command that shows anything shows them.
func (v *Picture) Damages() []string {
	list := []string{}
	damage := v.Damage()
	for _, d := range damage[:min(len(damage), someDamage)] {
		list = append(list, "damaged: "+d)
	}
	if more := len(damage) - someDamage; more > 0 {
		list = append(list, fmt.Sprintf("damaged: %s more; goverse shards --state damaged lists the shards", Some(more, "key")))
	}
	for _, address := range v.Strays {
		list = append(list, fmt.Sprintf("there is the key %s but no such node: if it stays, delete it", v.NodeKey(address)))
	}
	return list
}

const someDamage = 10

const held = "nothing is claimed for the moment, because a holder of an earlier life of the cluster may still be speaking: this ends by itself after a lease time (some 6 s)"

// Leaderless says why nobody gives shards their targets; "" if somebody does.
func (v *Picture) Leaderless() string {
	if len(v.Members()) == 0 {
		return "there is no leader, because no node is running: start one"
	}
	smallest := v.Members()[0].Address
	if len(v.Strays) > 0 && v.Strays[0] < smallest {
		return fmt.Sprintf("nobody can lead: the key %s, of which there is no node, sorts before all nodes: delete it", v.NodeKey(v.Strays[0]))
	}
	switch {
	case v.Leader.Term == 0:
		return fmt.Sprintf("there is no leader at the moment: %s, the smallest address, is to take it within seconds", smallest)
	case v.Leader.Address == "":
		return fmt.Sprintf("nobody can lead: the key %s/leader is unreadable: delete it", v.Prefix)
	case !v.Members().Registered(v.Leader.Address, v.Leader.Registration):
		return fmt.Sprintf("nobody can lead: the key %s/leader names %s, which is gone: delete it if it stays", v.Prefix, v.Leader.Address)
	}
	return ""
}

// unformed says why no shard was ever given to a node; "" if they were.
func unformed(v *Picture) string {
	if v.Formed {
		return ""
	}
	return fmt.Sprintf("the cluster has not formed: it waits until its MinQuorum of ready nodes was the same for its stability delay; %s ready now", are(v.Ready(), "node"))
}

// are counts things with their verb.
func are(n int, thing string) string {
	if n == 1 {
		return "1 " + thing + " is"
	}
	return fmt.Sprintf("%d %ss are", n, thing)
}

// Some counts things: 1 shard, 2 shards.
func Some(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}
