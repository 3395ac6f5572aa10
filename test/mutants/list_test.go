package mutants

// Which stories a mutant is tried on.
const (
	faults   = "TestFaults"
	planned  = "TestPlannedChange"
	degraded = "TestDegraded"
)

// mutant is the product without one of its guards.
type mutant struct {
	name    string
	removes string // what it lacks, in a line
	stories string
	edits   []edit
	covered string // why no story can see it: the guard that stands behind it. "" for what is to be caught
}

// edit is one change of one file. What it replaces is there exactly once.
type edit struct{ file, old, new string }

var mutants = []mutant{
	// Who holds a shard.
	{
		name: "bytes-not-compared", removes: "a write of a shard compares only that its record exists, not its bytes", stories: faults,
		edits: []edit{{"cluster/consensusmanager/txn.go",
			`	return etcdmanager.ValueIs(w.keys.shard(s.ID), s.Raw())`,
			`	return etcdmanager.Alive(w.keys.shard(s.ID))`}},
	},
	{
		name: "claim-from-the-living", removes: "T-CLAIM does not ask whether the holder is dead, nor does who plans it", stories: faults,
		edits: []edit{claimWithoutDeath, {"cluster/steps.go",
			`	return s == sharding.Assigned || s == sharding.Orphaned && !frozen`,
			`	return s == sharding.Assigned || s == sharding.Moving || s == sharding.Orphaned && !frozen`}},
	},
	{
		name: "claim-without-death", removes: "T-CLAIM does not ask whether the holder is dead", stories: faults,
		edits:   []edit{claimWithoutDeath},
		covered: "steps plans a claim only by a picture in which the holder is dead, registrations never come back, and the record's bytes are compared: see claim-from-the-living",
	},
	{
		name: "epoch-not-raised-by-a-claim", removes: "a claim leaves the epoch as it is", stories: faults,
		edits: []edit{
			{"cluster/sharding/state.go", "	next.Epoch++\n", ""},
			{"cluster/sharding/state.go", `	next.Handover = handover`, `	next.Epoch, next.Handover = s.Epoch+1, handover`}},
	},
	{
		name: "hand-over-keeps-the-epoch", removes: "a hand-over leaves the epoch as it is", stories: planned,
		edits: []edit{{"cluster/sharding/state.go", `	next.Handover = handover`, `	next.Epoch, next.Handover = s.Epoch, handover`}},
	},
	{
		name: "lost-answer-is-no", removes: "a hand-over whose answer was lost counts as refused", stories: faults,
		edits: []edit{{"cluster/depart.go",
			`	case err == nil || errors.Is(err, etcdmanager.ErrNotApplied):`,
			`	case err == nil || !errors.Is(err, errRefused):`}},
	},
	{
		name: "resolve-by-read", removes: "an unknown hand-over is resolved by a read instead of a poisoning write", stories: faults,
		edits: []edit{{"cluster/consensusmanager/txn.go",
			`		Then: []etcdmanager.Op{etcdmanager.Put(w.keys.shard(s.ID), fresh, 0)},`,
			`		Then: []etcdmanager.Op{etcdmanager.Get(w.keys.shard(s.ID))},`}},
		covered: "when the late hand-over lands, the holder's own watch tells it in the same instant; test/model takes every step between",
	},
	{
		name: "hand-to-the-dead", removes: "T-HAND does not ask whether the receiver lives and stays", stories: planned,
		edits: []edit{{"cluster/consensusmanager/txn.go",
			"	for _, y := range receivers(batch) {\n		t.If = append(t.If, etcdmanager.ValueIs(w.keys.node(y.Address), records[y]))\n	}\n", ""}},
		covered: "a shard that a dead node holds is taken over from it, and mayHand asks the picture: only time is lost",
	},
	{
		name: "view-behind-the-hand-over", removes: "after a hand-over a shard may be opened by a picture from before it", stories: planned,
		edits: []edit{{"cluster/depart.go",
			`			r.slots[d.record.ID] = slot{after: revision}`,
			`			r.slots[d.record.ID] = slot{}`}},
	},
	{
		name: "no-lock-delay", removes: "T-CLAIM does not wait for the lock-delay of a cluster that was wiped", stories: faults,
		edits: []edit{{"cluster/consensusmanager/txn.go",
			`w.sameCluster(), etcdmanager.Absent(w.keys.hold()), w.alive()}}`, `w.sameCluster(), w.alive()}}`},
			{"cluster/steps.go", `!me.Draining && !v.Hold && !limits.still`, `!me.Draining && !limits.still`}},
		covered: "who can ask etcd knows of the wipe within a renewal; only a holder that is cut off at that very time speaks on, and its saves are fenced by the store",
	},
	{
		name: "regression-unnoticed", removes: "a revision that went back is not noticed by the renewals", stories: faults,
		edits:   []edit{{"cluster/etcdmanager/lease.go", `	case result.Revision < floor:`, `	case result.Revision < 0:`}},
		covered: "the next full load contradicts the picture, and ends the registration as well",
	},

	// For how long a node may speak.
	{
		name: "trusted-for-ever", removes: "a lease is trusted until etcd says that it is gone", stories: faults,
		edits: []edit{{"cluster/etcdmanager/lease.go", `	return t != nil && t.stands()`, `	return t != nil`}},
	},
	{
		name: "trust-from-the-answer", removes: "trust counts from the answer, and nothing is kept back", stories: faults,
		edits: []edit{
			{"cluster/etcdmanager/lease.go", `newTrust(sent, boot, booted, ttl)`, `newTrust(sent.Add(time.Since(sent)), boot, booted, ttl)`},
			{"cluster/etcdmanager/trust.go", `span: ttl - margin(ttl)}`, `span: ttl}`}},
		covered: "the clocks of a bubble agree to the nanosecond, and etcd ends a lease no earlier than it says: what the margin is for does not exist there. cluster/etcdmanager tests it",
	},
	{
		name: "door-without-trust", removes: "a node whose lease is in doubt lets calls in", stories: faults,
		edits: []edit{{"node/shard.go", `	case !s.trusts(c) && `, `	case !s.trusts(c) && s.life.trusted == nil && `}},
	},
	{
		name: "no-check-behind-the-method", removes: "the lease is not asked again before a reply leaves", stories: faults,
		edits:   []edit{{"node/frame.go", `	case !a.life.trusted():`, `	case a.life.trusted == nil:`}},
		covered: "a method that was let in by a lease that stood is over before another node begins, unless it takes longer than the margin; what it wrote is fenced by the store",
	},
	{
		name: "fenced-is-not-executed", removes: "a reply that is withheld because the lease ended says that nothing ran", stories: faults,
		edits: []edit{
			{"node/degraded.go",
				`"this node's lease ended while the call ran")`,
				`"this node's lease ended while the call ran").With(fault.NotExecuted)`},
			{"node/interrupt.go",
				`"this node's lease ended while the call ran").With(fault.OutcomeUnknown)`,
				`"this node's lease ended while the call ran").With(fault.NotExecuted)`}},
	},
	{
		name: "degraded-by-its-own-word", removes: "while etcd is silent, the store is not asked whether this node is still the holder", stories: degraded,
		edits: []edit{{"node/degraded.go", `	lost, err := a.node.commits.confirm(ctx, a.life)`, `	lost, err := false, error(nil)`}},
	},
	{
		name: "degraded-volatile", removes: "while etcd is silent, objects that the store knows nothing of are served too", stories: degraded,
		edits: []edit{
			{"node/degraded.go", `return keep == object.Durable && n.Degrades() }`, `return n.Degrades() }`}},
	},

	// What moves with a shard, and who waits.
	{
		name: "door-shut-on-running-calls", removes: "the door is shut while a call still runs", stories: planned,
		edits: []edit{{"node/handover.go", `	if !a.restsLocked() || !d.providedFor(a) {`, `	if !d.providedFor(a) {`}},
	},
	{
		name: "doors-shut-after-the-look", removes: "whether all is at rest is looked at first, and the doors are shut afterwards", stories: planned,
		edits:   []edit{{"node/handover.go", "	a.door = doorShut\n", ""}},
		covered: "the two are a few instructions apart, and what runs in a bubble hardly ever comes between: node's TestTheDoorShutsOnNobody makes them meet",
	},
	{
		name: "staged-once", removes: "an object that was used after it was staged is not staged again", stories: planned,
		edits: []edit{{"node/handover.go",
			`	return l.act == a && l.uses == a.turns.uses`,
			`	return l.act == a`}},
	},
	{
		name: "stage-forgotten", removes: "the receiver does not look at what was laid for it", stories: planned,
		edits: []edit{{"node/stage.go", `			objects = st.living()`, `			objects = nil`}},
	},
	{
		name: "any-stage-will-do", removes: "a stage is taken without comparing the hand-over that it was made for", stories: faults,
		edits:   []edit{{"node/stage.go", `		case c.Handover == "" || st.Handover != c.Handover:`, `		case st == nil:`}},
		covered: "unstage forgets what can no longer take place, the newest stage wins, and state that a crash made stale is lost by contract",
	},
	{
		name: "parked-for-ever", removes: "calls that wait at a slot are not told that it changed", stories: planned,
		edits: []edit{{"node/shard.go", "	s.setDoors()\n	s.stir()\n}", "	s.setDoors()\n}"}},
	},
	{
		name: "parked-as-executed", removes: "parked calls are sent away as if they might have run", stories: planned,
		edits: []edit{{"node/park.go", "		return s.parted\n	}\n	return v.err\n", "		return s.parted\n	}\n	if v.err == nil {\n		return nil\n	}\n	return fault.Of(v.err).With(fault.OutcomeUnknown)\n"}},
	},
	{
		name: "no-way-back", removes: "a shard whose hand-over did not take place is not opened again", stories: faults,
		edits: []edit{{"cluster/depart.go", `		r.host.Resume(list)`, `		_ = list`}},
	},

	// What a call is told.
	{
		name: "unknown-tried-again", removes: "a call whose outcome is unknown is tried again", stories: faults,
		edits: []edit{{"cluster/call.go",
			`	case e.Kind == fault.Indeterminate && f.req.AtLeastOnce, f.once() && isUnknown(e):`,
			`	case isUnknown(e):`}},
	},
	{
		name: "reply-before-commit", removes: "the reply of a durable call does not wait for its commit", stories: faults,
		edits: []edit{{"node/frame.go",
			`		err := a.awaitDurable(ctx, seq)`,
			`		err := a.awaitDurable(ctx, min(seq, a.save.durable))`}},
	},
	{
		name: "unkept-is-not-executed", removes: "a call whose commit failed says that it did not run, whatever it did elsewhere", stories: faults,
		edits: []edit{{"node/frame.go", `	if acted && fault.OutcomeOf(err) == fault.NotExecuted {`, `	if acted && err == nil {`}},
	},
	{
		name: "two-turns", removes: "a turn is given while another is taken", stories: planned,
		edits: []edit{{"node/turn.go",
			`	if t.excl != nil || len(t.waiting()) > 0 || (!shared && t.shared != nil) {`,
			`	if len(t.waiting()) > 0 || (!shared && t.shared != nil) {`}},
	},
	{
		name: "not-dropped-when-lost", removes: "what is served is not dropped when the registration is lost", stories: faults,
		edits: []edit{{"cluster/reconcile.go",
			`			r.drop("the registration was lost")
			return consensusmanager.ErrLost
		case <-ctx.Done():`,
			`			return consensusmanager.ErrLost
		case <-ctx.Done():`}},
		covered: "a lease that is lost is not trusted, so no call is let in, and the next registration opens each slot anew",
	},
	{
		name: "zombies-served", removes: "a call of a chain whose turn is void is let in", stories: faults,
		edits:   []edit{{"cluster/guard.go", `		if s := table.Shard(sharding.ID(t.Shard)); s.Epoch > t.Epoch {`, `		if s := table.Shard(sharding.ID(t.Shard)); s.Epoch > t.Epoch+1<<40 {`}},
		covered: "a method asks before it calls out (mayAct); what it had sent before then is in the nested log only, which nobody was promised anything about",
	},
}

var claimWithoutDeath = edit{"cluster/consensusmanager/txn.go",
	"	for _, x := range holders(shards) {\n		t.If = append(t.If, etcdmanager.Absent(w.keys.reg(x)))\n	}\n", "	_ = holders\n"}
