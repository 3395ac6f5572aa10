package event

// Tee sends each event to every listener that wants it, in order.
func Tee(listeners ...Listener) Listener {
	var t Listener
	for _, l := range listeners {
		t = Listener{
			CallDone:           both(t.CallDone, l.CallDone),
			TurnAwaited:        both(t.TurnAwaited, l.TurnAwaited),
			TurnDone:           both(t.TurnDone, l.TurnDone),
			ObjectCreated:      both(t.ObjectCreated, l.ObjectCreated),
			ObjectDeleted:      both(t.ObjectDeleted, l.ObjectDeleted),
			ObjectActivated:    both(t.ObjectActivated, l.ObjectActivated),
			ObjectDeactivated:  both(t.ObjectDeactivated, l.ObjectDeactivated),
			MethodPanicked:     both(t.MethodPanicked, l.MethodPanicked),
			MethodStuck:        both(t.MethodStuck, l.MethodStuck),
			MessageChanged:     both(t.MessageChanged, l.MessageChanged),
			CommitDone:         both(t.CommitDone, l.CommitDone),
			StoreDone:          both(t.StoreDone, l.StoreDone),
			ShardOpened:        both(t.ShardOpened, l.ShardOpened),
			ShardClosed:        both(t.ShardClosed, l.ShardClosed),
			HandoverDone:       both(t.HandoverDone, l.HandoverDone),
			SessionOpened:      both(t.SessionOpened, l.SessionOpened),
			SessionClosed:      both(t.SessionClosed, l.SessionClosed),
			PushDropped:        both(t.PushDropped, l.PushDropped),
			ViewChanged:        both(t.ViewChanged, l.ViewChanged),
			LeaderChanged:      both(t.LeaderChanged, l.LeaderChanged),
			Coordination:       both(t.Coordination, l.Coordination),
			EtcdDone:           both(t.EtcdDone, l.EtcdDone),
			PushPassed:         both(t.PushPassed, l.PushPassed),
			LimitReached:       both(t.LimitReached, l.LimitReached),
			AccessDenied:       both(t.AccessDenied, l.AccessDenied),
			SensitiveOperation: both(t.SensitiveOperation, l.SensitiveOperation),
			Notice:             both(t.Notice, l.Notice),
		}
	}
	return t
}

func both[E any](a, b func(E)) func(E) {
	switch {
	case a == nil:
		return b
	case b == nil:
		return a
	}
	return func(e E) { a(e); b(e) }
}
