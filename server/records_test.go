package server

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/xiaonanln/goverse/internal/telemetry"
	"github.com/xiaonanln/goverse/node"
	"github.com/xiaonanln/goverse/object"
	"github.com/xiaonanln/goverse/object/memstore"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Operators see what is stored on the operations port.
func TestArchive(t *testing.T) {
	store := memstore.New()
	n := node.New(node.Config{Address: "n:1", Types: object.NewTypes()})
	n.SetPersistenceProvider(store)
	for _, id := range []string{"a", "b", "room/with/slashes", "c?d"} {
		if err := store.SaveObject(t.Context(), "Room", id, []byte(`{"@type":"x","who":"`+id+`"}`)); err != nil {
			t.Fatal(err)
		}
	}
	door := (&Server{Node: n, counted: telemetry.NewMetrics(nil)}).operations(nil)
	get := func(path string) (int, map[string]any) {
		t.Helper()
		r, w := httptest.NewRequest(http.MethodGet, path, nil), httptest.NewRecorder()
		r.RemoteAddr = "127.0.0.1:1"
		door.ServeHTTP(w, r)
		var body map[string]any
		if err := json.Unmarshal(w.Body.Bytes(), &body); err != nil || w.Header().Get("Content-Type") != "application/json" {
			t.Fatalf("%s: %s: %v", path, w.Body, err)
		}
		return w.Code, body
	}
	ids := func(body map[string]any) string {
		var all []string
		for _, o := range body["objects"].([]any) {
			all = append(all, o.(map[string]any)["id"].(string))
		}
		return strings.Join(all, " ")
	}
	code, page := get("/api/v1/objects/Room?limit=2")
	if code != 200 || ids(page) != "a b" || page["next"] != "b" {
		t.Error(code, page)
	}
	code, page = get("/api/v1/objects/Room?limit=3&after=b")
	if code != 200 || ids(page) != "c?d room/with/slashes" || page["next"] != nil {
		t.Error(code, page)
	}
	if code, page = get("/api/v1/objects/Nothing"); code != 200 || ids(page) != "" {
		t.Error(code, page)
	}
	for path, id := range map[string]string{"a": "a", "room/with/slashes": "room/with/slashes", "c%3Fd": "c?d"} {
		code, one := get("/api/v1/objects/Room/" + path)
		if state, _ := one["state"].(map[string]any); code != 200 || one["id"] != id || one["version"] != 1.0 || state["who"] != id {
			t.Error(code, one)
		}
	}
	for path, want := range map[string]int{"/api/v1/objects/Room/nobody": 404, "/api/v1/objects/Room?limit=x": 400, "/api/v1/objects/Room?limit=1001": 400} {
		if code, body := get(path); code != want || body["error"] == "" || body["code"] == "" || body["outcome"] != "NotExecuted" {
			t.Error(path, code, body)
		}
	}
	store.Fail(func(memstore.Op) memstore.Fault { return memstore.Fault{Err: http.ErrServerClosed} })
	if code, body := get("/api/v1/objects/Room"); code != 503 {
		t.Error(code, body)
	}
}
