package archive

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/object"
)

// shelf has objects of one type, in the order of their ids.
type shelf []string

func (s shelf) ListObjects(_ context.Context, objType, after string, limit int) (list []object.Listed, err error) {
	if limit == 0 {
		limit = object.DefaultListed
	}
	if limit < 0 || limit > object.MaxListed {
		return nil, fault.New(fault.Invalid, "not that many").On("ListObjects", objType)
	}
	for _, id := range s {
		if id > after && len(list) < limit {
			list = append(list, object.Listed{Ref: object.Ref{Type: objType, ID: id}, Version: 1})
		}
	}
	return list, nil
}

func (s shelf) StoredState(_ context.Context, ref object.Ref) (object.Record, error) {
	switch ref.ID {
	case "broken":
		return object.Record{Data: []byte("{")}, nil
	case "none":
		return object.Record{}, fault.New(fault.NotFound, "the object has no stored state").On("StoredState", ref.String())
	}
	return object.Record{Data: []byte(`{"id":` + fmt.Sprintf("%q", ref.ID) + `}`), Version: 3, Created: time.Unix(1, 0)}, nil
}

func get(t *testing.T, a Archive, path string) (int, string) {
	t.Helper()
	mux := http.NewServeMux()
	a.Handle(mux)
	w := httptest.NewRecorder()
	mux.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
	if !json.Valid(w.Body.Bytes()) || w.Header().Get("Content-Type") != "application/json" {
		t.Errorf("%s: %s", path, w.Body)
	}
	return w.Code, strings.TrimSpace(w.Body.String())
}

// Page after page, each object comes once; the last page says so.
func TestPages(t *testing.T) {
	var all shelf
	for i := range 250 {
		all = append(all, fmt.Sprintf("%03d ü&/?+", i))
	}
	for _, limit := range []int{0, 1, 99, 100, 249, 250, 251} {
		var seen []string
		pages := 0
		for after, more := "", true; more; {
			query := url.Values{"after": {after}}
			if limit > 0 {
				query.Set("limit", fmt.Sprint(limit))
			}
			code, body := get(t, Archive{all}, "/api/v1/objects/Room?"+query.Encode())
			var page struct {
				Type    string
				Objects []struct{ ID string }
				Next    string
			}
			if err := json.Unmarshal([]byte(body), &page); err != nil || code != 200 || page.Type != "Room" {
				t.Fatal(code, body, err)
			}
			for _, o := range page.Objects {
				seen = append(seen, o.ID)
			}
			after, more = page.Next, page.Next != ""
			if pages++; pages > len(all)+1 {
				t.Fatal("the pages do not end")
			}
		}
		if strings.Join(seen, "\n") != strings.Join(all, "\n") {
			t.Errorf("by %d: %d objects in %d pages", limit, len(seen), pages)
		}
	}
}

func TestQueriesThatAreRefused(t *testing.T) {
	for query, says := range map[string]string{
		"limit=x": "limit is", "limit=": "limit is", "limit=1001": "not that many", "limit=-1": "not that many", "limit=99999999999999999999": "limit is",
		"limt=3": "limt", "after=%zz": "cannot be read", "after=a&after=b": "2 times", "limit=1;after=b": "cannot be read",
	} {
		code, body := get(t, Archive{shelf{"a"}}, "/api/v1/objects/Room?"+query)
		if code != 400 || !strings.Contains(body, says) || !strings.Contains(body, `"outcome":"NotExecuted"`) {
			t.Errorf("%s: %d %s", query, code, body)
		}
	}
}

func TestStates(t *testing.T) {
	for path, want := range map[string]string{
		"a":                        `{"type":"Room","id":"a","version":3,"created":"1970-01-01T00:00:01Z","state":{"id":"a"}}`,
		"x%2Fy%3Fz%20%C3%BC%2F%2F": `"id":"x/y?z ü//"`,
		"none":                     `"code":"OBJECT_NOT_FOUND"`,
		"broken":                   "is not JSON",
	} {
		code, body := get(t, Archive{shelf{}}, "/api/v1/objects/Room/"+path)
		if !strings.Contains(body, want) || code != map[string]int{"none": 404, "broken": 503}[path]+map[bool]int{true: 200}[path != "none" && path != "broken"] {
			t.Errorf("%s: %d %s", path, code, body)
		}
	}
}
