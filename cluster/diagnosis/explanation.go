package diagnosis

import "fmt"

// Explanation says why something is where it is, and what is to happen next.
type Explanation struct {
	Subject string            `json:"subject"`
	Object  *ObjectRow        `json:"object,omitempty"`
	Shard   *ShardRow         `json:"shard,omitempty"`
	Node    *NodeRow          `json:"node,omitempty"`
	Facts   map[string]string `json:"facts"`
	Summary string            `json:"summary"`
	Acts    string            `json:"acts"` // who has to act next
	How     string            `json:"how"`
	Waits   []string          `json:"waits_for"`
	Notes   []string          `json:"notes"`

	order []string // of the facts
}

type ObjectRow struct {
	Type      string `json:"type"`
	ID        string `json:"id"`
	Placement string `json:"placement"`
}

const (
	// Nobody stands in Acts where nobody has to.
	Nobody    = "nobody"
	theLeader = "the leader"
)

func newExplanation(subject string, args ...any) *Explanation {
	return &Explanation{Subject: fmt.Sprintf(subject, args...), Facts: map[string]string{}, Acts: Nobody, Waits: []string{}, Notes: []string{}}
}

func (e *Explanation) fact(name, format string, args ...any) {
	e.order = append(e.order, name)
	e.Facts[name] = fmt.Sprintf(format, args...)
}

func (e *Explanation) acts(who, format string, args ...any) {
	e.Acts, e.How = who, fmt.Sprintf(format, args...)
}

func (e *Explanation) waits(why string) {
	if why != "" {
		e.Waits = append(e.Waits, why)
	}
}

func (e *Explanation) note(format string, args ...any) {
	e.Notes = append(e.Notes, fmt.Sprintf(format, args...))
}

// Order is the names of the facts in the order in which they are told.
func (e *Explanation) Order() []string { return e.order }
