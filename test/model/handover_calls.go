package model

// object is A or B, each alone on a shard of its own.
type object uint8

func (o object) String() string { return [...]string{"A", "B"}[o] }

func (b batch) String() string {
	switch b {
	case batch{true, true}:
		return "A and B"
	case batch{true, false}:
		return "A"
	}
	return "B"
}

// Calls are the chains of a plan, flattened: a call is written as the object that it
// is made to, with the calls that it makes, all at once, in brackets.
type Calls [maxCalls]Call

const maxCalls = 6

// Call is one call of a plan.
type Call struct {
	made   bool
	root   bool
	chain  uint8
	parent uint8 // of a nested call: which call makes it
	object object
}

// Chains reads chains such as "A(B(A))": a call to A that calls B, which calls back;
// "A(B,B)" is a fan-out. It panics when there are more than six calls, or other
// letters.
func Chains(chains ...string) (c Calls) {
	n := uint8(0)
	for i, chain := range chains {
		var open []uint8
		for _, r := range chain {
			switch r {
			case 'A', 'B':
				c[n] = Call{made: true, root: len(open) == 0, chain: uint8(i), object: object(r - 'A')}
				if len(open) > 0 {
					c[n].parent = open[len(open)-1]
				}
				n++
			case '(':
				open = append(open, n-1)
			case ')':
				open = open[:len(open)-1]
			case ',':
			default:
				panic("a chain is made of A, B, brackets and commas: " + chain)
			}
		}
	}
	return c
}

// all counts the calls.
func (c *Calls) all() int {
	n := 0
	for n < len(c) && c[n].made {
		n++
	}
	return n
}

// children are the calls that a call makes.
func (c *Calls) children(k int) (of []int) {
	for i := range c {
		if c.childOf(i, k) {
			of = append(of, i)
		}
	}
	return of
}

func (c *Calls) childOf(i, k int) bool { return c[i].made && !c[i].root && int(c[i].parent) == k }

func (c *Calls) name(k int) string { return callNames[k][c[k].object] }

var callNames = [maxCalls][2]string{
	{"call 1 of A", "call 1 of B"}, {"call 2 of A", "call 2 of B"}, {"call 3 of A", "call 3 of B"},
	{"call 4 of A", "call 4 of B"}, {"call 5 of A", "call 5 of B"}, {"call 6 of A", "call 6 of B"},
}
