package access

import (
	"errors"
	"fmt"
	"maps"
	"sync"
	"sync/atomic"
)

// Rules are compiled rules; nil allows everything. They may be used concurrently.
type Rules struct {
	methods    []rule
	lifecycles []rule

	// known has, of the types and methods that were asked for, the rules that can apply:
	// names are matched once, and what is left to do at a call is its id.
	known   atomic.Pointer[map[names][]candidate]
	writing sync.Mutex // of who adds to known
}

// maxKnown bounds known, whose keys a client may make up. With one more it begins anew.
const maxKnown = 1024

// maxRules bounds each kind of rules.
const maxRules = 10_000

type rule struct {
	typ, id, method pattern
	lifecycle       Lifecycle
	access          Access
}

type names struct {
	typ, method string
	lifecycle   Lifecycle // empty: a method
}

// candidate is a rule whose other names match.
type candidate struct {
	id     *pattern
	access Access
	number int
}

// Compile checks all rules and says everything that is wrong with them, by their number,
// from 1. Without any it returns nil.
func Compile(methods []Rule, lifecycles []LifecycleRule) (*Rules, error) {
	if len(methods) == 0 && len(lifecycles) == 0 {
		return nil, nil
	}
	if len(methods) > maxRules || len(lifecycles) > maxRules {
		return nil, fmt.Errorf("there are %d rules of methods and %d of lifecycles; at most %d of each are allowed", len(methods), len(lifecycles), maxRules)
	}
	r := new(Rules)
	r.known.Store(&map[names][]candidate{})
	var errs []error
	for i, m := range methods {
		c, err := compile(m.Type, m.ID, m.Method, m.Access)
		if err != nil {
			errs = append(errs, fmt.Errorf("access rule %d: %w", i+1, err))
		}
		r.methods = append(r.methods, c)
	}
	for i, l := range lifecycles {
		c, err := compile(l.Type, l.ID, "", l.Access)
		if err = errors.Join(err, l.Lifecycle.validate()); err != nil {
			errs = append(errs, fmt.Errorf("lifecycle rule %d: %w", i+1, err))
		}
		c.lifecycle = l.Lifecycle
		r.lifecycles = append(r.lifecycles, c)
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return r, nil
}

func compile(typ, id, method string, access Access) (rule, error) {
	r := rule{access: access}
	errs := []error{access.validate()}
	for _, p := range []struct {
		what, text string
		to         *pattern
	}{{"type", typ, &r.typ}, {"id", id, &r.id}, {"method", method, &r.method}} {
		var err error
		if *p.to, err = parsePattern(p.text); err != nil {
			errs = append(errs, fmt.Errorf("its %s %.100q: %w", p.what, p.text, err))
		}
	}
	return r, errors.Join(errs...)
}

// Verdict is what the rules say.
type Verdict struct {
	Allowed bool
	Access  Access
	Rule    int // from 1, of its kind; 0: none matched, and everything is allowed
}

// Call says whether a method may be called. client: a client asks by itself, and not an
// object that it has called, or a node. The first rule that matches decides.
func (r *Rules) Call(client bool, typ, id, method string) Verdict {
	return r.check(client, id, names{typ: typ, method: method})
}

// Create says whether an object may be created.
func (r *Rules) Create(client bool, typ, id string) Verdict {
	return r.check(client, id, names{typ: typ, lifecycle: Create})
}

// Delete says whether an object may be deleted.
func (r *Rules) Delete(client bool, typ, id string) Verdict {
	return r.check(client, id, names{typ: typ, lifecycle: Delete})
}

func (r *Rules) check(client bool, id string, n names) Verdict {
	if r == nil {
		return Verdict{Allowed: true, Access: Allow}
	}
	candidates, ok := (*r.known.Load())[n]
	if !ok {
		candidates = r.learn(n)
	}
	for i := range candidates {
		if c := &candidates[i]; c.id.matches(id) {
			return Verdict{Allowed: c.access.allows(client), Access: c.access, Rule: c.number}
		}
	}
	return Verdict{Allowed: true, Access: Allow}
}

// learn finds the rules that can apply, up to the first that applies to every id.
func (r *Rules) learn(n names) []candidate {
	rules := r.methods
	if n.lifecycle != "" {
		rules = r.lifecycles
	}
	var found []candidate
	for i := range rules {
		m := &rules[i]
		if !m.typ.matches(n.typ) || !m.method.matches(n.method) || n.lifecycle != "" && !m.lifecycle.is(n.lifecycle) {
			continue
		}
		found = append(found, candidate{&m.id, m.access, i + 1})
		if m.id.any {
			break
		}
	}
	r.writing.Lock()
	defer r.writing.Unlock()
	known := map[names][]candidate{n: found}
	if old := *r.known.Load(); len(old) < maxKnown { // else it begins anew: a client may have made the names up
		maps.Copy(known, old)
	}
	r.known.Store(&known)
	return found
}
