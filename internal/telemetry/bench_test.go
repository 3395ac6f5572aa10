package telemetry

import (
	"testing"
	"time"

	"github.com/xiaonanln/goverse/internal/event"
)

func BenchmarkCallDone(b *testing.B) {
	l := NewMetrics(nil).Listener()
	for b.Loop() {
		l.CallDone(event.CallDone{Type: "ChatRoom", ID: "x", Method: "Join", Took: time.Millisecond})
	}
}
