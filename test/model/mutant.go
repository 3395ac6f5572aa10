package model

// Mutant is a protocol without one of its guards. A checker that finds nothing wrong
// with a mutant either cannot see or shows that the guard is not needed for safety.
type Mutant uint8

// Intact is the protocol as designed. The mutants of Ownership follow, then those of
// Handover.
const (
	Intact Mutant = iota

	NoDeadHolderCompare
	NoContentCompare
	NoFence
	NoStamp
	LoadBeforeStamp
	NoVersionCompare
	AckBeforeSave
	ReloadAfterUnknownSave
	ResolveByRead
	LostAnswerIsFailure
	ResolveLatestRevision
	NoIncarnationGuard
	NoLockDelay
	NumberOnlyFence
	NoRegistrationGuard
	NoTargetGuard
	NoFlush
	NoEpochBump
	FenceAtMost

	DoorShutsOnRunningCall
	SnapshotWithoutTurn
	SeqIgnored
	HandoverIDIgnored
	ShutWithoutAck
	LentTurnAtRest
	ParkedBlockNested
	NestedParked
	ReentryWaitsForTurn
	DoorWaitsForBatch
	MoveResolvedByRead
	MoveLostAnswerIsFailure
	ReopenUnsure
	MoveTargetNotCompared
	ParkedForgotten
	ParkedRunsAfterAnswer
	ParkedWithoutBound
	CycleNotFound
	StaleCallerAdmitted
	StrayRuns
	BatchAppliesInParts
	ResentAfterUnknown
	HandoverIDReused
	AdmitsBehindDoor

	mutants
)

var removed = [mutants]string{
	Intact: "the protocol as designed",

	NoDeadHolderCompare:    "a claim does not compare that the previous holder's registration is gone",
	NoContentCompare:       "etcd transactions do not compare the shard's record",
	NoFence:                "a save does not look at the fence",
	NoStamp:                "a holder activates without stamping the fence, and saves do not look at it",
	LoadBeforeStamp:        "a holder loads before it has stamped",
	NoVersionCompare:       "a save does not compare the object's version",
	AckBeforeSave:          "a call is acknowledged before its save has committed",
	ReloadAfterUnknownSave: "a save of unknown outcome is given up for a reload, not repeated",
	ResolveByRead:          "an unknown hand-over is resolved by a read",
	LostAnswerIsFailure:    "a hand-over whose answer was lost counts as failed",
	ResolveLatestRevision:  "the resolving write compares the latest revision seen, whatever it says",
	NoIncarnationGuard:     "etcd transactions do not compare which life of etcd they were made for",
	NoLockDelay:            "a wiped etcd accepts claims before one lease time has passed",
	NumberOnlyFence:        "the fence compares the epoch alone, not who stamped it",
	NoRegistrationGuard:    "etcd transactions do not compare that their author is alive",
	NoTargetGuard:          "a hand-over does not compare that its target is alive",
	NoFlush:                "a shard is handed over while a save is under way",
	NoEpochBump:            "claims and hand-overs leave the epoch as it is",
	FenceAtMost:            "the fence accepts a save of a higher epoch than its own",

	DoorShutsOnRunningCall:  "the door shuts although a call has a turn or waits for one",
	SnapshotWithoutTurn:     "an activation is snapshotted while a call runs on it",
	SeqIgnored:              "a frame replaces the one before it whatever its seq",
	HandoverIDIgnored:       "staged state is activated whatever hand-over it belongs to",
	ShutWithoutAck:          "the door shuts before the latest frame is acknowledged",
	LentTurnAtRest:          "a lent turn counts as at rest",
	ParkedBlockNested:       "a nested call waits behind the parked calls",
	NestedParked:            "nested calls are parked like root calls",
	ReentryWaitsForTurn:     "a re-entrant call waits for the turn that its own chain has lent",
	DoorWaitsForBatch:       "a shut shard waits for the other draining shard before the hand-over is sent",
	MoveResolvedByRead:      "an unknown hand-over is resolved by a read",
	MoveLostAnswerIsFailure: "a hand-over whose answer was lost counts as failed",
	ReopenUnsure:            "the holder reopens while the outcome of its hand-over is unknown",
	MoveTargetNotCompared:   "a hand-over does not compare that the target is the process that was sent the stage",
	ParkedForgotten:         "parked calls are forgotten when the holder reopens",
	ParkedRunsAfterAnswer:   "a parked call that was answered \"not executed\" stays in the queue",
	ParkedWithoutBound:      "parking has no bound",
	CycleNotFound:           "a cycle across two chains is not found",
	StaleCallerAdmitted:     "a call is admitted although a turn in its path has ended with its holder",
	StrayRuns:               "a re-entrant call runs although its chain has no turn there any more",
	HandoverIDReused:        "a second attempt uses the hand-over id of the first, its frames numbered anew",
	AdmitsBehindDoor:        "nested calls are admitted after the hand-over was sent",
	ResentAfterUnknown:      "a client makes a call again whose outcome it does not know",
	BatchAppliesInParts:     "a hand-over of two shards may apply to one of them",
}

// String says what is missing.
func (m Mutant) String() string { return removed[m] }
