package operations

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"

	"github.com/xiaonanln/goverse/internal/event"
	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/util/logger"
)

// Level is what GET and PUT of /debug/loglevel answer.
type Level struct {
	Level string `json:"level"` // debug, info, warn, error or off
}

func showLevel(w http.ResponseWriter, _ *http.Request) {
	body, _ := json.Marshal(Level{logger.LevelName()}) // a string: it cannot fail
	write(w, http.StatusOK, body)
}

// setLevel takes a level's name, bare or as Level. It holds for the process, until it is set
// anew: here, or by a configuration file in which it changes.
func (p *Port) setLevel(w http.ResponseWriter, r *http.Request) {
	text, err := io.ReadAll(io.LimitReader(r.Body, 256))
	if err != nil {
		fail(w, fault.New(fault.Invalid, "the level did not arrive: %w", err))
		return
	}
	asked := Level{strings.TrimSpace(string(text))}
	if strings.HasPrefix(asked.Level, "{") {
		asked.Level = ""
		if err := json.Unmarshal(text, &asked); err != nil {
			fail(w, fault.New(fault.Invalid, `give the level as in {"level":"debug"}: %w`, err))
			return
		}
	}
	level, err := logger.ParseLevel(asked.Level)
	if err != nil {
		fail(w, fault.New(fault.Invalid, "%w", err))
		return
	}
	if on := p.Listener.SensitiveOperation; on != nil { // before: it may be the last line
		on(event.SensitiveOperation{Where: event.AtOperations, What: event.OperatorTunes, From: r.RemoteAddr})
	}
	logger.SetLevel(level)
	showLevel(w, r)
}
