package object

import (
	"errors"
	"fmt"
	"strings"
)

// AutoLoad names objects that a cluster has from its beginning, without anybody calling them.
// They are created once the cluster is up, and come to life again wherever they belong after
// a death, a move or an end. To delete one is to have it made anew.
type AutoLoad struct {
	Type string
	ID   string // of the one object; or what ids end with, behind "shard#N/" or "node/"

	// PerShard is one object for each shard N, which lies on it: shard#N/ID.
	PerShard bool
	// PerNode is one object on each node, which it does not leave: ADDRESS/ID, where ADDRESS
	// is what the node advertises. As every such object it is volatile.
	PerNode bool
}

// maxAutoLoads bounds how many a cluster names.
const maxAutoLoads = 1000

// Check says what is wrong with a.
func (a AutoLoad) Check() error {
	err := ValidName(a.Type)
	switch {
	case a.Type == "":
		err = errors.New("it has no type")
	case err != nil:
		err = fmt.Errorf("the type %q: %w", a.Type, err)
	case a.ID == "":
		err = errors.New("it has no id")
	case a.PerShard && a.PerNode:
		err = errors.New("it is one per shard and one per node; say one of them, and name the object twice for both")
	case (a.PerShard || a.PerNode) && (strings.Contains(a.ID, "/") || strings.Contains(a.ID, "#")):
		err = fmt.Errorf("the id %q has a / or a #, and is put behind the shard's or the node's name: give it without", a.ID)
	default:
		err = ValidID(a.widest())
	}
	return err
}

// widest is the longest id that it comes to, as far as that is known here.
func (a AutoLoad) widest() string {
	if a.PerShard {
		return a.OfShard(8191)
	}
	return a.ID
}

// OfShard is the id of a shard's own object.
func (a AutoLoad) OfShard(shard int) string { return fmt.Sprintf("shard#%d/%s", shard, a.ID) }

// OfNode is the id of a node's own object.
func (a AutoLoad) OfNode(address string) string { return address + "/" + a.ID }

// CheckAutoLoads says of each entry of a list what is wrong with it; nil: nothing.
func CheckAutoLoads(list []AutoLoad) []error {
	wrong := make([]error, len(list))
	first := map[AutoLoad]int{}
	for i, a := range list {
		err := a.Check()
		if at, twice := first[a]; err == nil && twice {
			err = fmt.Errorf("entry %d is the same", at)
		} else if err == nil && i >= maxAutoLoads {
			err = fmt.Errorf("there are more than %d", maxAutoLoads)
		}
		if _, twice := first[a]; !twice {
			first[a] = i
		}
		wrong[i] = err
	}
	return wrong
}
