package gateserver

import (
	"github.com/xiaonanln/goverse/internal/event"
	"github.com/xiaonanln/goverse/util/logger"
)

// logs writes the gate's events for people.
func logs(l *logger.Logger) event.Listener {
	return event.Listener{
		SessionOpened: func(e event.SessionOpened) { l.Debugf("client %s connected", e.ClientID) },
		SessionClosed: func(e event.SessionClosed) { l.Debugf("client %s disconnected: %s", e.ClientID, e.Reason) },
		MethodPanicked: func(e event.MethodPanicked) {
			l.Errorf("an interceptor panicked at %s/%s.%s: %v\n%s", e.Type, e.ID, e.Method, e.Value, e.Stack)
		},
		PushDropped: func(e event.PushDropped) { l.Warnf("client %s lost %d messages: %s", e.ClientID, e.Count, e.Reason) },
		Notice: func(n event.Notice) {
			switch n.Severity {
			case event.Info:
				l.Infof("%v", n)
			case event.Warn:
				l.Warnf("%v", n)
			default:
				l.Errorf("%v", n)
			}
		},
	}
}
