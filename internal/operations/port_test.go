package operations

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/xiaonanln/goverse/internal/event"
	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/util/logger"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func ask(p *Port, method, path, body string, change ...func(*http.Request)) *httptest.ResponseRecorder {
	r, w := httptest.NewRequest(method, path, strings.NewReader(body)), httptest.NewRecorder()
	r.RemoteAddr = "127.0.0.1:1"
	for _, c := range change {
		c(r)
	}
	p.Handler().ServeHTTP(w, r)
	return w
}

// The level is shown, and changed by what makes sense alone. Who changes it is told of, while
// the line can still be written.
func TestLevel(t *testing.T) {
	t.Cleanup(func() { logger.SetLevel(logger.LevelInfo) })
	var told []string
	p := &Port{Foreign: NewForeign(), Listener: event.Listener{SensitiveOperation: func(e event.SensitiveOperation) {
		told = append(told, e.Where.String()+" "+e.What.String()+" "+e.From+" at "+logger.LevelName())
	}}}
	for _, c := range []struct {
		method, body string
		status       int
		want         string
	}{
		{"GET", "", 200, `{"level":"info"}`},
		{"PUT", "debug", 200, `{"level":"debug"}`},
		{"GET", "", 200, `{"level":"debug"}`},
		{"PUT", ` {"level":"Warn"} `, 200, `{"level":"warn"}`},
		{"PUT", "off\n", 200, `{"level":"off"}`},
		{"PUT", "loud", 400, `"code":"INVALID_BODY","outcome":"NotExecuted"}`},
		{"PUT", "", 400, "want debug, info, warn, error or off"},
		{"PUT", `{"level":`, 400, "INVALID_BODY"},
		{"PUT", `{"other":"info"}`, 400, "INVALID_BODY"},
		{"PUT", strings.Repeat("x", 1<<20), 400, "INVALID_BODY"},
		{"POST", "info", 405, ""},
		{"GET", "", 200, `{"level":"off"}`},
	} {
		if w := ask(p, c.method, "/debug/loglevel", c.body); w.Code != c.status || !strings.Contains(w.Body.String(), c.want) || w.Body.Len() > 4096 {
			t.Errorf("%s %.20s: %d %.200s", c.method, c.body, w.Code, w.Body)
		}
	}
	const want = "operations operator_tunes 127.0.0.1:1 at info|operations operator_tunes 127.0.0.1:1 at debug|operations operator_tunes 127.0.0.1:1 at warn"
	if got := strings.Join(told, "|"); got != want {
		t.Errorf("it told of %s", got)
	}
	for _, stranger := range []func(*http.Request){
		func(r *http.Request) { r.RemoteAddr = "192.0.2.1:1" },
		func(r *http.Request) { r.Header.Set("Origin", "https://evil.example") },
		func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "cross-site") },
	} {
		if w := ask(p, "PUT", "/debug/loglevel", "debug", stranger); w.Code != 403 || logger.LevelName() != "off" {
			t.Errorf("%d, and the level is %s", w.Code, logger.LevelName())
		}
	}
}

type brokenBody struct{}

func (brokenBody) Read([]byte) (int, error) { return 0, errors.New("it broke off") }

func TestALevelThatDoesNotArrive(t *testing.T) {
	p := &Port{Foreign: NewForeign()}
	w := ask(p, "PUT", "/debug/loglevel", "", func(r *http.Request) { r.Body = io.NopCloser(brokenBody{}) })
	if w.Code != 400 || !strings.Contains(w.Body.String(), "it broke off") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

// What goes on is shown as it is, and why it cannot be.
func TestInside(t *testing.T) {
	var state any = map[string]int{"a": 1}
	var wrong error
	p := &Port{Foreign: NewForeign(), Inside: func(context.Context) (any, error) { return state, wrong }}
	if w := ask(p, "GET", "/debug/goverse", ""); w.Code != 200 || w.Body.String() != "{\n  \"a\": 1\n}\n" || w.Header().Get("Content-Type") != "application/json" {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if state, wrong = nil, fault.New(fault.NotReady, "not now"); ask(p, "GET", "/debug/goverse", "").Code != 503 {
		t.Error("an error is no answer")
	}
	if state, wrong = func() {}, nil; ask(p, "GET", "/debug/goverse", "").Code != 500 {
		t.Error("what is no JSON was shown")
	}
}

// A page may have its own name resolve to this machine; then it has the same origin as the
// port, and the name gives it away.
func TestNamesOfOthers(t *testing.T) {
	p := &Port{Foreign: NewForeign("node1.example"), Open: map[string]http.HandlerFunc{"/healthz": func(http.ResponseWriter, *http.Request) {}}}
	for host, want := range map[string]int{
		"localhost:1": 200, "127.0.0.1:1": 200, "[::1]:1": 200, "x.localhost": 200, "Node1.Example.:48100": 200, "": 200,
		"evil.example": 403, "localhost.evil.example": 403, "notlocalhost": 403,
	} {
		at := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1}
		w := ask(p, "GET", "/healthz", "", func(r *http.Request) {
			r.Host = host
			*r = *r.WithContext(context.WithValue(r.Context(), http.LocalAddrContextKey, at))
		})
		if w.Code != want {
			t.Errorf("%s: %d", host, w.Code)
		}
	}
}
