package gateserver

import (
	"errors"
	"net/http"
	"time"

	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/object"
)

// portion is what r will be answered with.
func (d *httpDoor) portion(w http.ResponseWriter, r *http.Request) *portion {
	slow := http.NewResponseController(w)
	return d.calls.untaken.portionOf(askerOf(r.Context()), func() { _ = slow.SetWriteDeadline(time.Unix(1, 0)) })
}

// answer writes what call was answered. An error says that it is not kept.
func (d *httpDoor) answer(w http.ResponseWriter, call *object.Call, p *portion, body []byte) error {
	d.calls.sizes.note(methodName{call.Ref.Type, call.Method}, len(body))
	if err := p.keep(len(body)); err != nil {
		return fault.Of(err).On(call.Op.String(), call.Subject())
	}
	if len(body) >= longAnswer {
		w = &takenWriter{w, p}
	}
	writeJSON(w, http.StatusOK, body)
	return nil
}

// takenWriter tells a portion of what the client takes.
type takenWriter struct {
	http.ResponseWriter
	portion *portion
}

var errCut = errors.New("the client took nothing of the answer, and others waited for the room")

func (w *takenWriter) Write(b []byte) (n int, err error) {
	for first := true; err == nil && (first || n < len(b)); first = false {
		var more int
		more, err = w.ResponseWriter.Write(b[n:min(n+part, len(b))])
		if n += more; err == nil && !w.portion.took() {
			err = errCut
		}
	}
	return n, err
}
