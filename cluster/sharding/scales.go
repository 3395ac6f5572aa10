package sharding

import "slices"

// scales is the nodes among which a plan evens out shards. A laden one has more than the
// others by orders alone: what it has beside those goes to them, and it gets no more.
type scales struct {
	all   []int  // places
	even  []int  // those of all that are not laden
	laden []bool // by place
}

func (p *planner) scales() scales {
	s := scales{all: p.group(), laden: make([]bool, len(p.Nodes))}
	s.even = slices.Clone(s.all)
	for len(p.Orders) > 0 && len(s.even) > 0 {
		share := s.total(p) / len(s.even)
		i := slices.IndexFunc(s.even, func(i int) bool { return p.fixed[i] > share })
		if i < 0 {
			break
		}
		s.laden[s.even[i]] = true
		s.even = slices.Delete(s.even, i, i+1)
	}
	return s
}

// total is how many shards are to be even among the nodes that are not laden.
func (s scales) total(p *planner) int {
	total := 0
	for _, i := range s.all {
		total += p.load[i]
		if s.laden[i] {
			total -= p.fixed[i]
		}
	}
	return total
}

// bounds says which load is too much, above many, and which too little, below few.
// Of an even group each node has the same, and as many as the rest is have one more.
// It depends on the loads alone, so that moves in several waves are no more than in one.
func (s scales) bounds(p *planner) (many, few int) {
	if len(s.even) == 0 {
		return 0, 0
	}
	total, above := s.total(p), 0
	share, rest := total/len(s.even), total%len(s.even)
	for _, i := range s.even {
		if p.load[i] > share {
			above++
		}
	}
	many, few = share+1, share
	if above > rest {
		many = share
	}
	if above < rest {
		few = share + 1
	}
	return many, few
}

// gives: the node has more than it should, as far as orders let it go.
func (s scales) gives(p *planner, i, many int) bool {
	if s.laden[i] {
		return p.load[i] > p.fixed[i]
	}
	return p.load[i] > many
}

// balanced says whether nobody has too many or too few.
func (s scales) balanced(p *planner) bool {
	many, few := s.bounds(p)
	return !slices.ContainsFunc(s.all, func(i int) bool {
		return s.gives(p, i, many) || !s.laden[i] && p.load[i] < few
	})
}
