package peer

import (
	"io"
	"net"
	"time"
)

// stranger is the connection of somebody who did not greet. It hears that it is refused,
// or asks for this process's health, and has neither the time nor the room for more.
type stranger struct {
	net.Conn
	begin []byte // what was read of it already; only its reader's
	left  int    // bytes that are still read of it; only its reader's
	over  *time.Timer
}

const (
	strangerBytes = 64 << 10
	strangerTime  = 30 * time.Second
)

func newStranger(conn net.Conn, begin []byte) *stranger {
	over := time.AfterFunc(strangerTime, func() { _ = conn.Close() }) // whoever reads hears of it
	return &stranger{Conn: conn, begin: begin, left: strangerBytes, over: over}
}

// Read implements net.Conn.
func (s *stranger) Read(b []byte) (int, error) {
	if len(s.begin) > 0 {
		n := copy(b, s.begin)
		s.begin = s.begin[n:]
		return n, nil
	}
	if s.left <= 0 {
		return 0, io.ErrUnexpectedEOF
	}
	n, err := s.Conn.Read(b[:min(len(b), s.left)])
	s.left -= n
	return n, err
}

// Close implements net.Conn.
func (s *stranger) Close() error {
	s.over.Stop()
	return s.Conn.Close()
}
