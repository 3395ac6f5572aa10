package model

import "testing"

var (
	stayX   = [2]node{0, 0} // both shards stay on X
	moveA   = [2]node{1, 0} // A's shard to Y
	moveAB  = [2]node{1, 1} // both to Y
	crossed = [2]node{0, 1} // A's on X, B's on Y
)

func TestHandoverHolds(t *testing.T) {
	run := chosen(t)
	for _, c := range []struct {
		name          string
		size          size
		space         Handover
		states, depth int
	}{
		{"one shard drains", quick, plan(moveA, HandoverBounds{Parked: 1}, "A(B(A))", "A", "A"), 1697, 31},
		{"both drain", quick, plan(moveAB, HandoverBounds{Parked: 2}, "A(B(A))", "B", "A"), 16925, 40},
		{"a fan-out that comes back", quick, plan(moveAB, HandoverBounds{Parked: 2}, "A(B(A),B(A))", "B"), 14829, 44},
		{"two chains the other way round", quick, plan(moveAB, HandoverBounds{Parked: 2}, "A(B(A))", "B(A(B))"), 5713, 44},
		{"the shards swap nodes", usual, swap(HandoverBounds{Parked: 2}, "A(B(A))", "B(A)", "A"), 28466, 45},

		{"loss", quick, plan(moveA, HandoverBounds{Parked: 2, Losses: 2}, "A(B(A))", "A"), 18784, 38},
		{"loss, both drain", usual, plan(moveAB, HandoverBounds{Parked: 2, Losses: 1}, "A(B)", "B"), 87887, 40},
		{"second thoughts", usual, plan(moveA, HandoverBounds{Parked: 1, Deadlines: 1, Retargets: 1}, "A(B)", "A"), 78503, 37},
		{"second thoughts and loss", usual, plan(moveA, HandoverBounds{Parked: 1, Losses: 1, Retargets: 1}, "A"), 15844, 29},
		{"crash", usual, plan(moveA, HandoverBounds{Parked: 1, Crashes: 1}, "A(B(A))", "A"), 58885, 33},
		{"crash, both drain", usual, plan(moveAB, HandoverBounds{Parked: 1, Crashes: 1}, "B"), 85585, 33},
		{"crash and loss", usual, plan(moveA, HandoverBounds{Parked: 1, Crashes: 1, Losses: 1}, "A"), 38670, 26},

		{"second thoughts/full", whole, plan(moveA, HandoverBounds{Parked: 1, Losses: 1, Deadlines: 1, Retargets: 1}, "A", "A"), 1075909, 38},
		{"crash and loss/full", whole, plan(moveA, HandoverBounds{Parked: 2, Crashes: 1, Losses: 1}, "A", "A"), 254554, 31},
		{"swap, loss/full", whole, swap(HandoverBounds{Parked: 2, Losses: 1}, "A(B(A))", "B(A)"), 109772, 46},
		{"swap, second thoughts and loss/full", whole, swap(HandoverBounds{Parked: 1, Losses: 1, Retargets: 1}, "A(B)"), 186473, 44},
		{"both drain, loss/full", whole, plan(moveAB, HandoverBounds{Parked: 2, Losses: 2}, "A(B(A))"), 265856, 48},
		{"crash, both drain/full", whole, plan(moveAB, HandoverBounds{Parked: 1, Crashes: 1}, "A(B)"), 170963, 38},
		{"crash of a chain/full", whole, plan(moveAB, HandoverBounds{Parked: 1, Crashes: 1}, "A(B(A))", "B"), 1199466, 47},
		{"two crashes/full", whole, plan(moveA, HandoverBounds{Parked: 1, Crashes: 2}, "A(B)"), 240680, 34},
	} {
		if c.size <= run {
			t.Run(c.name, func(t *testing.T) { holds(t, c.space, ending(c.space), c.states, c.depth) })
		}
	}
}

// ending is how runs must end. With crashes some are endless: a stage may be sent to a
// dead node again and again, until etcd ends its lease.
func ending(h Handover) Progress {
	if h.Bounds.Crashes > 0 {
		return CanEnd
	}
	return Ends
}

func plan(targets [2]node, b HandoverBounds, chains ...string) Handover {
	return Handover{Plan: Plan{Targets: targets, Calls: Chains(chains...)}, Bounds: b}
}

func swap(b HandoverBounds, chains ...string) Handover {
	return Handover{Plan: Plan{Holders: crossed, Targets: moveA, Calls: Chains(chains...)}, Bounds: b}
}

var handoverMutants = map[Mutant]broken[handover]{
	DoorShutsOnRunningCall:  loses(DoorShutsOnRunningCall, OneHolder, 13, plan(moveA, HandoverBounds{Parked: 1}, "B(A)")),
	SnapshotWithoutTurn:     loses(SnapshotWithoutTurn, NoLostEffect, 14, plan(moveA, HandoverBounds{Parked: 1}, "B(A)")),
	SeqIgnored:              loses(SeqIgnored, NoLostEffect, 16, plan(moveA, HandoverBounds{Parked: 1}, "B(A)")),
	HandoverIDIgnored:       loses(HandoverIDIgnored, NoLostEffect, 15, plan(moveA, HandoverBounds{Parked: 1, Deadlines: 1}, "A")),
	ShutWithoutAck:          loses(ShutWithoutAck, NoLostEffect, 10, plan(moveA, HandoverBounds{Parked: 1}, "A")),
	LentTurnAtRest:          loses(LentTurnAtRest, OneHolder, 11, plan(moveA, HandoverBounds{Parked: 1}, "A(B)")),
	ParkedBlockNested:       loses(ParkedBlockNested, Stuck, 10, plan(moveA, HandoverBounds{Parked: 1}, "A(B(A))", "A")),
	NestedParked:            loses(NestedParked, Stuck, 9, plan(moveA, HandoverBounds{Parked: 1}, "A(B(A))")),
	ReentryWaitsForTurn:     loses(ReentryWaitsForTurn, Stuck, 9, plan(moveA, HandoverBounds{Parked: 1}, "A(B(A))")),
	DoorWaitsForBatch:       loses(DoorWaitsForBatch, Stuck, 9, plan(moveAB, HandoverBounds{Parked: 1}, "B(A)")),
	MoveResolvedByRead:      loses(MoveResolvedByRead, OneHolder, 9, plan(moveA, HandoverBounds{Losses: 1})),
	MoveLostAnswerIsFailure: loses(MoveLostAnswerIsFailure, OneHolder, 7, plan(moveA, HandoverBounds{Losses: 1})),
	ReopenUnsure:            loses(ReopenUnsure, OneHolder, 7, plan(moveA, HandoverBounds{Losses: 1})),
	MoveTargetNotCompared:   loses(MoveTargetNotCompared, NoLostEffect, 14, plan(moveA, HandoverBounds{Parked: 1, Crashes: 1}, "A")),
	ParkedForgotten:         loses(ParkedForgotten, Stuck, 7, plan(moveA, HandoverBounds{Parked: 1, Retargets: 1}, "A")),
	ParkedRunsAfterAnswer:   loses(ParkedRunsAfterAnswer, NotExecuted, 11, plan(moveA, HandoverBounds{Parked: 1, Retargets: 1}, "A")),
	ParkedWithoutBound:      loses(ParkedWithoutBound, Bounded, 5, plan(moveA, HandoverBounds{Parked: 1}, "A", "A")),
	CycleNotFound:           loses(CycleNotFound, Stuck, 12, plan(moveAB, HandoverBounds{Parked: 1}, "A(B)", "B(A)")),
	StrayRuns:               loses(StrayRuns, MeetsLender, 11, Handover{Plan: Plan{Holders: crossed, Targets: crossed, Calls: Chains("A(B(A))")}, Bounds: HandoverBounds{Crashes: 1}}),
	HandoverIDReused:        loses(HandoverIDReused, NoLostEffect, 14, plan(moveA, HandoverBounds{Parked: 1, Deadlines: 1}, "A")),
	AdmitsBehindDoor:        loses(AdmitsBehindDoor, OneHolder, 13, plan(moveA, HandoverBounds{Parked: 1}, "B(A)")),
	ResentAfterUnknown:      loses(ResentAfterUnknown, OnceOnly, 8, plan(stayX, HandoverBounds{Losses: 1}, "A")),
	BatchAppliesInParts:     loses(BatchAppliesInParts, OneHolder, 12, plan(moveAB, HandoverBounds{Losses: 1, Retargets: 1})),
}

func loses(m Mutant, by Invariant, steps int, h Handover) broken[handover] {
	h.Mutant = m
	return broken[handover]{quick, h, by, steps}
}

func TestHandoverMutants(t *testing.T) {
	mutantsOf(t, handoverMutants, CanEnd, func(s Space[handover]) Space[handover] {
		h := s.(Handover)
		h.Mutant = Intact
		return h
	}, quick)
}

// TestHandoverSurvivors: for what this model checks, that a re-entrant call meets its
// lender is enough; that a stale caller is refused saves work that nobody waits for.
func TestHandoverSurvivors(t *testing.T) {
	h := Handover{Mutant: StaleCallerAdmitted, Bounds: HandoverBounds{Parked: 1, Crashes: 1},
		Plan: Plan{Holders: crossed, Targets: crossed, Calls: Chains("A(B(A))")}}
	holds(t, h, ending(h), 805, 20)
}

// TestHandoverIsReached: each step of the model happens somewhere.
func TestHandoverIsReached(t *testing.T) {
	seen := witness[handover]{}
	seen.watch(plan(moveA, HandoverBounds{Parked: 1, Losses: 1, Crashes: 1, Deadlines: 1, Retargets: 1}, "A(B)"), 60_000)
	seen.watch(plan(moveAB, HandoverBounds{Parked: 1}, "A(B)", "B(A)"), 0)
	seen.watch(plan(moveA, HandoverBounds{Losses: 1}, "B(A)"), 0)
	seen.watch(Handover{Plan: Plan{Holders: crossed, Targets: moveA, Calls: Chains("A(B(A))")}, Bounds: HandoverBounds{Crashes: 1}}, 0)
	seen.mustBe(t,
		"makes", "waits no longer for", "admits", "parks", "unparks", "answers \"not executed\" to",
		"turns to the next holder with", "finds nobody, and turns to the holder with",
		"refuses the stale caller of", "refuses the stray", "finds a cycle and refuses",
		"begins", "lends the turn and calls out from", "ends and answers", "ends, answer lost,",
		"sees the record of", "opens the shard of", "drains the shard of", "gives up draining the shard of",
		"stages", "stages again", "keeps and acknowledges a stage of", "keeps, answer lost, a stage of",
		"refuses a stage of", "loses a stage of",
		"shuts the door and hands over", "applies the hand-over of", "refuses the hand-over of",
		"applies, answer lost, the hand-over of", "refuses, answer lost, the hand-over of",
		"never gets the hand-over of", "waits no longer for the hand-over of", "resolves the hand-over of",
		"targets the other node with", "crashes", "ends the lease of", "starts", "claims the shard of",
	)
}
