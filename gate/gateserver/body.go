package gateserver

import (
	"errors"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/xiaonanln/goverse/internal/fault"
)

// readBody reads a whole body of at most maxMessage bytes. One that comes more slowly than
// rate bytes per second, after some grace, is given up.
func readBody(w http.ResponseWriter, r *http.Request, rate int, grace time.Duration) ([]byte, error) {
	if r.ContentLength > maxMessage {
		return nil, tooLarge()
	}
	slow := &pacedBody{Reader: http.MaxBytesReader(w, r.Body, maxMessage), control: http.NewResponseController(w), due: time.Now().Add(grace), rate: rate}
	body, err := io.ReadAll(slow)
	if err == nil {
		_ = slow.control.SetReadDeadline(time.Time{}) // a test's recorder has none
	} // else net/http, which reads on before it answers, is not held up either
	var big *http.MaxBytesError
	var late net.Error
	switch {
	case err == nil:
		return body, nil
	case errors.As(err, &big):
		return nil, tooLarge()
	case errors.As(err, &late) && late.Timeout():
		return nil, fault.New(fault.Deadline, "the request's body came more slowly than %d bytes per second", rate).With(fault.NotExecuted)
	}
	return nil, fault.New(fault.Invalid, "the request's body broke off: %w", err)
}

// pacedBody has its client send rate bytes per second.
type pacedBody struct {
	io.Reader
	control *http.ResponseController
	due     time.Time // if nothing comes
	rate    int
	read    int
	until   time.Time
}

func (p *pacedBody) Read(b []byte) (int, error) {
	if due := p.due.Add(time.Duration(p.read) * time.Second / time.Duration(p.rate)); due.Sub(p.until) > time.Second {
		p.until = due
		_ = p.control.SetReadDeadline(due) // a test's recorder has none
	}
	n, err := p.Reader.Read(b)
	p.read += n
	return n, err
}

func tooLarge() error {
	return fault.New(fault.TooLarge, "the request's body has more than %d bytes", maxMessage)
}
