package model

// Invariant is a sentence that must stay true, "" for none. The number is that of
// the design's table.
type Invariant string

const (
	OneHolder    Invariant = "I4: two nodes could execute the same object"
	NoLostWrite  Invariant = "I6: an acknowledged write is missing from the database"
	FreshRead    Invariant = "I8: a read misses an acknowledged write"
	NoLostEffect Invariant = "I12: a planned move lost the effect of a call"
	OnceOnly     Invariant = "I10: a call was executed twice"
	NotExecuted  Invariant = "I22: a call was executed after it had been answered \"not executed\""
	MeetsLender  Invariant = "chains: a re-entrant call ran where its chain has lent no turn"
	Bounded      Invariant = "I19: more calls are parked than the bound allows"
	Stuck        Invariant = "progress: something waits and nothing can end it"
	Endless      Invariant = "progress: a run can go on for ever"
)
