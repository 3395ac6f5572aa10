package gateserver

import (
	"errors"
	"net/http"
	"os"
	"time"

	"github.com/xiaonanln/goverse/internal/event"
)

// streamWriter answers a request of HTTP/2, whose client can leave it no window while it
// takes everything else on the connection. Its stream ends then.
type streamWriter struct {
	http.ResponseWriter
	slow *http.ResponseController
	of   *guests
}

// extend gives the client time for the next part.
func (w *streamWriter) extend() { _ = w.slow.SetWriteDeadline(time.Now().Add(2 * w.of.patience)) }

// Write fails when nothing is taken for twice the patience.
func (w *streamWriter) Write(b []byte) (n int, err error) {
	for first := true; err == nil && (first || n < len(b)); first = false {
		w.extend()
		var more int
		more, err = w.ResponseWriter.Write(b[n:min(n+part, len(b))])
		n += more
	}
	return n, w.ended(err)
}

// FlushError is what http.ResponseController asks for. A stream may be silent behind it.
func (w *streamWriter) FlushError() error {
	w.extend()
	err := w.ended(w.slow.Flush())
	if err == nil {
		err = w.slow.SetWriteDeadline(time.Time{})
	}
	return err
}

// Flush implements http.Flusher.
func (w *streamWriter) Flush() { _ = w.FlushError() }

// ended tells of a client that takes nothing.
func (w *streamWriter) ended(err error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		w.of.tell(event.SlowReaders)
	}
	return err
}

// Unwrap is what http.ResponseController asks for.
func (w *streamWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
