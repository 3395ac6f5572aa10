// Package access decides who may call a method, create or delete an object. Rules are
// data, as they stand in a program or in the cluster's configuration; Rules is what they
// compile to. Nodes enforce them; gates only answer earlier.
package access

import "fmt"

// Access says who may do what a rule names.
type Access string

// The kinds of access. There is no default: a rule says one.
const (
	Reject   Access = "REJECT"   // nobody
	Internal Access = "INTERNAL" // objects and nodes; no client by itself
	External Access = "EXTERNAL" // clients only, and no object on a client's behalf
	Allow    Access = "ALLOW"    // everybody
)

func (a Access) validate() error {
	switch a {
	case Reject, Internal, External, Allow:
		return nil
	}
	return fmt.Errorf("its access is %q; it is REJECT, INTERNAL, EXTERNAL or ALLOW", string(a))
}

// allows says whether it lets a client, or else an object or a node, in.
func (a Access) allows(client bool) bool {
	switch a {
	case Internal:
		return !client
	case External:
		return client
	case Reject:
		return false
	}
	return true
}

// Rule is about calls of methods. Type, ID and Method are each a name as it is, or a
// regular expression of package regexp between slashes that has to match the whole name,
// as "/Get.*/"; empty is any.
type Rule struct {
	Type   string
	ID     string
	Method string
	Access Access
}

// LifecycleRule is about creating and deleting objects in so many words. An object that
// comes to life because it is called is not created, and a Rule's affair.
type LifecycleRule struct {
	Type      string // as in Rule
	ID        string
	Lifecycle Lifecycle
	Access    Access
}

// Lifecycle is what a LifecycleRule is about.
type Lifecycle string

// The kinds of Lifecycle; empty is All.
const (
	Create Lifecycle = "CREATE"
	Delete Lifecycle = "DELETE"
	All    Lifecycle = "ALL"
)

func (l Lifecycle) validate() error {
	switch l {
	case "", Create, Delete, All:
		return nil
	}
	return fmt.Errorf("its lifecycle is %q; it is CREATE, DELETE or ALL", string(l))
}

func (l Lifecycle) is(other Lifecycle) bool { return l == "" || l == All || l == other }
