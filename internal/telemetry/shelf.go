package telemetry

import "sync/atomic"

// shelf has series at hand for names that come again and again. It looks at a few of their
// letters, which costs less than a map that hashes all of them. Where two names would
// have one place the first keeps it: the other is looked up.
type shelf [512]atomic.Pointer[shelved]

type shelved struct {
	typ, method string
	of          *series
}

func (h *shelf) place(typ, method string) *atomic.Pointer[shelved] {
	return &h[(letters(typ)*31+letters(method))%uint(len(h))]
}

func letters(s string) uint {
	n := uint(len(s))
	if n == 0 {
		return 0
	}
	return n + uint(s[0])*7 + uint(s[n/2])*61 + uint(s[n-1])*229
}

// find is nil for names that have no place.
func (h *shelf) find(typ, method string) *series {
	if at := h.place(typ, method).Load(); at != nil && at.typ == typ && at.method == method {
		return at.of
	}
	return nil
}

// keep gives names a place if it is free.
func (h *shelf) keep(typ, method string, s *series) {
	h.place(typ, method).CompareAndSwap(nil, &shelved{typ, method, s})
}
