package admit

import (
	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/object"
)

// MaxRecord bounds the result of a call and the payload of an effect, in bytes: a
// message of 4 MiB and what the runtime adds to it.
const MaxRecord = 5 << 20

// records checks what is to be kept together with a state.
func records(s *object.Save) error {
	calls := make(map[string]bool, len(s.Calls))
	for i := range s.Calls {
		c := &s.Calls[i]
		if err := call(s.Ref, c); err != nil {
			return err
		}
		if calls[c.ID] {
			return fault.New(fault.Invalid, "the save of %s has two records of call %q", s.Ref, c.ID)
		}
		calls[c.ID] = true
	}
	effects := make(map[string]bool, len(s.Effects))
	for i := range s.Effects {
		e := &s.Effects[i]
		if err := effect(s.Ref, e); err != nil {
			return err
		}
		if effects[e.ID] {
			return fault.New(fault.Invalid, "the save of %s has two effects with the id %q", s.Ref, e.ID)
		}
		effects[e.ID] = true
	}
	return nil
}

func call(of object.Ref, c *object.CallRecord) error {
	if err := CallID(c.ID); err != nil {
		return err
	}
	switch {
	case c.Status < object.CallDone || c.Status > object.CallNever:
		return fault.New(fault.Invalid, "call %q of %s has status %d", c.ID, of, c.Status)
	case c.Keep <= 0:
		return fault.New(fault.Invalid, "the record of call %q of %s is to be kept for %v: say how long", c.ID, of, c.Keep)
	case len(c.Result) > MaxRecord:
		return fault.New(fault.TooLarge, "the result of call %q of %s has %d bytes; at most %d can be stored", c.ID, of, len(c.Result), MaxRecord)
	}
	return nil
}

// CallID checks the id of a call.
func CallID(id string) error { return key("call id", id) }

func effect(of object.Ref, e *object.Effect) error {
	if err := key("effect id", e.ID); err != nil {
		return err
	}
	switch e.Kind {
	case object.EffectSend:
		if err := Ref(e.Target); err != nil {
			return err
		}
	case object.EffectPush:
		if e.Target.Type != "" {
			return fault.New(fault.Invalid, "push %q of %s has the target %s: name a client alone", e.ID, of, e.Target)
		}
		if err := key("client id", e.Target.ID); err != nil {
			return err
		}
	default:
		return fault.New(fault.Invalid, "effect %q of %s has kind %d", e.ID, of, e.Kind)
	}
	switch {
	case len(e.Payload) > MaxRecord:
		return fault.New(fault.TooLarge, "the payload of effect %q of %s has %d bytes; at most %d can be stored", e.ID, of, len(e.Payload), MaxRecord)
	case e.NotAfter.Year() > 9999:
		return fault.New(fault.Invalid, "effect %q of %s ends in the year %d: the zero time means never", e.ID, of, e.NotAfter.Year())
	}
	return nil
}
