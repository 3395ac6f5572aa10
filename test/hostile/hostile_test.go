//go:build linux

package hostile

import (
	"math/rand/v2"
	"testing"
)

// What is done with many connections, frames and bytes. An idle session of gRPC has about
// 9 KiB: 10,000 of them in a flood.
func TestHostile(t *testing.T) {
	t.Parallel()
	attacks{
		{name: "garbage on each port", mount: garbage, heap: 8},
		{name: "RST storm", mount: resets, heap: 16, limit: "address_opens"},
		{name: "idle connections", mount: manyConnections, heap: 32, limit: "address_opens"},
		{name: "idle streams", mount: manyStreams, heap: size(64, 128), limit: "address_opens"},
		{name: "bytes one by one", mount: byteByByte, heap: 8},
		{name: "100 MB body", mount: bigBodies, heap: 16, limit: "message_bytes"},
		{name: "header bombs", mount: headerBombs, heap: 8},
		{name: "wrong requests", mount: wrongRequests, heap: 8},
		{name: "deadlines of nothing and of years", mount: deadlines, heap: 8},
		{name: "internal methods", mount: internals, heap: 8},
		{name: "forged identities", mount: forgeries, heap: 8},
		{name: "batch of empty frames", mount: emptyFrames, heap: 32, limit: "session_calls"},
		{name: "rapid reset", mount: rapidReset, heap: 16, peak: 64},
		{name: "CONTINUATION flood", mount: continuationFlood, heap: 8},
		{name: "CONTINUATION flood of nothing", mount: emptyContinuations, heap: 8},
		{name: "SETTINGS flood", mount: settingsFlood, heap: 8},
		{name: "PING flood", mount: pingFlood, heap: 8},
		{name: "windows beyond their bound", mount: hugeWindows, heap: 8},
		{name: "WebSocket frames out of order", mount: badSockets, heap: 32},
		{name: "WebSocket ping flood", mount: pings, heap: 8},
	}.run(t, patient)
}

// What comes slowly.
func TestSlowWriters(t *testing.T) {
	t.Parallel()
	attacks{
		{name: "slow headers", mount: slowHeaders, heap: 8},
		{name: "slow header blocks", mount: slowBlocks, heap: 8},
		{name: "slow bodies", mount: slowBodies, heap: 8, limit: "slow_requests"},
		{name: "WebSocket message without end", mount: fragments, heap: 8},
	}.run(t, withWriters)
}

// What is taken slowly, or not at all.
func TestSlowReaders(t *testing.T) {
	t.Parallel()
	attacks{
		{name: "answers that nobody reads", mount: unreadAnswers, heap: 64, limit: "slow_readers"},
		{name: "pushes that nobody reads", mount: unreadPushes, heap: 64},
		{name: "windows that hardly open", mount: windows, heap: 160, limit: "slow_readers"},
	}.run(t, withReaders)
}

// attacks are mounted one after another on one victim.
type attacks []attack

func (all attacks) run(t *testing.T, i impatience) {
	v := startVictim(t, i)
	c := gather(t, v)
	for _, a := range all {
		t.Run(a.name, func(t *testing.T) { a.run(t, v, c) })
	}
}

// garbage sends bytes that mean nothing to every port.
func garbage(s *siege) string {
	ports := []string{s.GRPC, s.HTTP, s.Ops, s.Node, s.Inspector}
	const most = 64 << 10
	each(size(40, 400), func(i int) {
		conn := s.dial(s.newcomer(), ports[i%len(ports)])
		b := make([]byte, 1+rand.IntN(most))
		for j := range b {
			b[j] = byte(rand.Uint32())
		}
		_, _ = conn.Write(b) // the victim may be quicker
		_ = conn.CloseWrite()
		s.cutOff(conn)
	})
	return "closed"
}
