package telemetry

import (
	"maps"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/xiaonanln/goverse/internal/event"
	"github.com/xiaonanln/goverse/internal/fault"
)

// stranger stands for names that a caller may have made up.
const stranger = "other"

// calls measures calls by type, method and outcome. A method has a name here from its
// first call that surely ran: so there are as many as programs have, whatever clients
// invent. Names that are known cost a call no lock and no memory.
type calls struct {
	times *times

	good    shelf // of those that ended well
	known   atomic.Pointer[map[callKey]*series]
	writing sync.Mutex // of who adds to known
}

type callKey struct {
	typ, method string
	kind        fault.Kind // 0: it ended well
}

func (c *calls) init(t *times) {
	c.times = t
	c.known.Store(&map[callKey]*series{})
}

func (c *calls) done(e event.CallDone) {
	if e.Err == nil {
		if s := c.good.find(e.Type, e.Method); s != nil {
			s.noteIn(e.Trace, e.Took)
			return
		}
	}
	c.seriesOf(&e).noteIn(e.Trace, e.Took)
}

func (c *calls) seriesOf(e *event.CallDone) *series {
	key := callKey{typ: e.Type, method: e.Method}
	if e.Err != nil {
		key.kind = fault.KindOf(e.Err)
	}
	s, ok := (*c.known.Load())[key]
	if !ok {
		s = c.learn(key, e.Err == nil || fault.OutcomeOf(e.Err) == fault.Executed)
	}
	if e.Err == nil {
		c.good.keep(key.typ, key.method, s)
	}
	return s
}

// learn finds the series of a key that is not known, and keeps it if its names are.
func (c *calls) learn(key callKey, ran bool) *series {
	c.writing.Lock()
	defer c.writing.Unlock()
	known := *c.known.Load()
	_, named := known[callKey{typ: key.typ, method: key.method}]
	if !ran && !named {
		key.typ, key.method = stranger, stranger
	}
	if o, ok := known[key]; ok {
		return o
	}
	grown := maps.Clone(known)
	for _, k := range []callKey{{typ: key.typ, method: key.method}, key} {
		grown[k] = c.times.of(k.typ, k.method, kindName(k.kind))
	}
	c.known.Store(&grown)
	return grown[key]
}

// typeOf is a type's name, unless no method of it has ever run: then it may be a
// stranger's, as of a call that an interceptor of a gate saw.
func (c *calls) typeOf(typ string) string {
	for key := range *c.known.Load() {
		if key.typ == typ {
			return typ
		}
	}
	return stranger
}

func kindName(k fault.Kind) string {
	if k == 0 {
		return "ok"
	}
	return strings.ReplaceAll(k.String(), " ", "_")
}
