package model

// checkProgress shows of an exhausted space how its runs end. It needs every edge.
func (w *walk[S]) checkProgress() {
	if n, ok := w.trapped(); ok {
		w.violateIn(Stuck, n)
	} else if n, ok := w.cyclic(); ok && w.how.Progress == Ends {
		w.violateIn(Endless, n)
	}
}

// trapped is the first state from which no state is reached in which nothing waits.
func (w *walk[S]) trapped() (uint32, bool) {
	before := w.neighbours(func(e [2]uint32) (at, next uint32) { return e[1], e[0] })
	saved := make([]bool, w.States)
	todo := append([]uint32(nil), w.done...)
	for _, n := range todo {
		saved[n] = true
	}
	for len(todo) > 0 {
		n := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		for _, p := range before(n) {
			if !saved[p] {
				saved[p] = true
				todo = append(todo, p)
			}
		}
	}
	return first(saved, false)
}

// cyclic is the first state that stays when states that nothing leads to are taken
// away again and again.
func (w *walk[S]) cyclic() (uint32, bool) {
	after := w.neighbours(func(e [2]uint32) (at, next uint32) { return e[0], e[1] })
	into := make([]int, w.States)
	for _, e := range w.edges {
		into[e[1]]++
	}
	gone := make([]bool, w.States)
	todo := []uint32{}
	for n, count := range into {
		if count == 0 {
			todo = append(todo, uint32(n))
		}
	}
	for len(todo) > 0 {
		n := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		gone[n] = true
		for _, next := range after(n) {
			if into[next]--; into[next] == 0 {
				todo = append(todo, next)
			}
		}
	}
	return first(gone, false)
}

// neighbours indexes the edges by one of their ends.
func (w *walk[S]) neighbours(ends func([2]uint32) (at, next uint32)) func(uint32) []uint32 {
	begin := make([]int, w.States+1)
	for _, e := range w.edges {
		at, _ := ends(e)
		begin[at+1]++
	}
	for n := range w.States {
		begin[n+1] += begin[n]
	}
	next, fill := make([]uint32, len(w.edges)), append([]int(nil), begin...)
	for _, e := range w.edges {
		at, to := ends(e)
		next[fill[at]] = to
		fill[at]++
	}
	return func(n uint32) []uint32 { return next[begin[n]:begin[n+1]] }
}

func first(marks []bool, is bool) (uint32, bool) {
	for n, m := range marks {
		if m == is {
			return uint32(n), true
		}
	}
	return 0, false
}
