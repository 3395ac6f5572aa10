package conf

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"

	"github.com/xiaonanln/goverse/cluster/sharding"
	"github.com/xiaonanln/goverse/internal/access"
	"github.com/xiaonanln/goverse/object"
)

// check finds what is wrong with the values, beyond their types. Values that a flag
// stands for are judged by the program that has the flag, wherever they come from; here
// is what only the file can have. known is what reading it has found.
func (d *Document) check(known Problems) Problems {
	c := checker{d: d}
	c.version(known)
	if n := d.Cluster.Shards; n < 0 || n > sharding.NumShards {
		c.wrong("cluster.shards", "%d shards are not possible; want 1 to %d", n, sharding.NumShards)
	}
	c.members()
	c.rules()
	for i, err := range object.CheckAutoLoads(d.AutoLoads()) {
		if err != nil {
			c.wrong(fmt.Sprintf("cluster.auto_load_objects[%d]", i), "%v", err)
		}
	}
	return c.problems
}

type checker struct {
	d        *Document
	problems Problems
}

func (c *checker) version(known Problems) {
	unread := func(p Problem) bool { return p.Path == "version" || p.Path == "" } // or all of the file
	if c.d.Version == 1 || slices.ContainsFunc(known, unread) {
		return
	}
	if _, said := c.d.Lines["version"]; said {
		c.wrong("version", "this program reads version 1 of the file, not %d", c.d.Version)
	} else {
		c.wrong("", "the file must say its form: put version: 1 at its top")
	}
}

// wrong reports the key at path, or what it is in if the file does not have it.
func (c *checker) wrong(path, format string, args ...any) {
	line, at := 0, path
	for ; at != "" && line == 0; at = parent(at) {
		line = c.d.Lines[at]
	}
	c.problems = append(c.problems, Problem{c.d.Name, line, path, fmt.Sprintf(format, args...)})
}

func parent(path string) string {
	return path[:max(0, strings.LastIndexAny(path, ".["))]
}

// member is what nodes and gates have in common.
type member struct{ path, id, listen, advertise string }

func (c *checker) members() {
	var all []member
	for i, n := range c.d.Nodes {
		all = append(all, member{fmt.Sprintf("nodes[%d]", i), n.ID, n.Listen, n.Advertise})
	}
	for i, g := range c.d.Gates {
		all = append(all, member{fmt.Sprintf("gates[%d]", i), g.ID, g.Listen, g.Advertise})
	}
	for i, m := range all {
		if m.id == "" {
			c.wrong(m.path, "an entry has an id")
		}
		for _, other := range all[:i] {
			same := m.path[:5] == other.path[:5] // both nodes, or both gates
			if same && m.id != "" && m.id == other.id {
				c.wrong(m.path+".id", "%q is the id of %s already", m.id, other.path)
			}
			if key, address := m.named(); address != "" {
				if _, theirs := other.named(); theirs == address {
					c.wrong(m.path+"."+key, "%s is the address of %s already", address, other.path)
				}
			}
		}
	}
}

// named is the address by which others know a member, if the file tells it: two on one
// machine, or one, of which others hear. A bare :port may be on another machine.
func (m member) named() (key, address string) {
	key, address = "advertise_addr", m.advertise
	if address == "" {
		key, address = "grpc_addr", m.listen
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil || host == "" || port == "0" || net.ParseIP(host).IsUnspecified() {
		return key, ""
	}
	return key, address
}

// AutoLoads are the objects that the cluster has from its beginning.
func (f *File) AutoLoads() (list []object.AutoLoad) {
	for _, a := range f.Cluster.AutoLoad {
		list = append(list, object.AutoLoad(a))
	}
	return list
}

// Rules are the file's rules as the engines take them.
func (f *File) Rules() (methods []access.Rule, lifecycles []access.LifecycleRule) {
	for _, r := range f.Access {
		methods = append(methods, r.rule())
	}
	for _, r := range f.Lifecycle {
		lifecycles = append(lifecycles, r.rule())
	}
	return methods, lifecycles
}

func (r AccessRule) rule() access.Rule {
	return access.Rule{Type: r.Type, ID: r.ID, Method: r.Method, Access: access.Access(r.Access)}
}

func (r LifecycleRule) rule() access.LifecycleRule {
	return access.LifecycleRule{Type: r.Type, ID: r.ID, Lifecycle: access.Lifecycle(r.Lifecycle), Access: access.Access(r.Access)}
}

// rules has each rule judged by itself, to name its line.
func (c *checker) rules() {
	for i, r := range c.d.Access {
		_, err := access.Compile([]access.Rule{r.rule()}, nil)
		c.rule(fmt.Sprintf("object_access_rules[%d]", i), err)
	}
	for i, r := range c.d.Lifecycle {
		_, err := access.Compile(nil, []access.LifecycleRule{r.rule()})
		c.rule(fmt.Sprintf("object_lifecycle_rules[%d]", i), err)
	}
	methods, lifecycles := c.d.Rules()
	if _, err := access.Compile(methods, lifecycles); err != nil && len(c.problems) == 0 {
		c.wrong("", "%v", err) // there are too many
	}
}

func (c *checker) rule(path string, err error) {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		err = joined.Unwrap()[0]
	}
	if inner := errors.Unwrap(err); inner != nil {
		err = inner // without the number that it has by itself
	}
	if err != nil {
		c.wrong(path, "%v", err)
	}
}
