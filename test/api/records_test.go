package api

import (
	"fmt"
	"strings"
	"testing"
)

// Operators see at a gate what the nodes' store has, page by page.
func TestOperatorsSeeWhatIsStored(t *testing.T) {
	o := open(t, nil)
	for i := range 5 {
		if got := o.post(fmt.Sprintf("Account/%d/Add", i), fmt.Sprint(i), ""); got.code != 200 {
			t.Fatalf("%+v", got)
		}
	}
	o.restart()
	if got := o.post("Account/0/Read", "", ""); got.code != 200 { // it waits for the node
		t.Fatalf("%+v", got)
	}
	see := func(path string, code int, parts ...string) {
		t.Helper()
		got := o.ask("GET", "http://"+o.gate.OpsAddr()+"/api/v1/objects/"+path, "")
		for _, part := range parts {
			if got.code != code || !strings.Contains(got.body, part) {
				t.Errorf("%s: %+v, want %d with %s", path, got, code, part)
			}
		}
	}
	see("Account?limit=2", 200, `{"type":"Account","objects":[{"id":"0","version":1,`, `{"id":"1"`, `"next":"1"}`)
	see("Account?limit=9&after=1", 200, `"objects":[{"id":"2"`, `{"id":"4"`, `}]}`)
	see("Account/3", 200, `"id":"3","version":1,`, `"value":"3"`)
	see("Account/none", 404, `"code":"OBJECT_NOT_FOUND"`)
	see("Account?limit=1001", 400, "1 to 1000")
	see("Account?after=%00", 400, "control character")
}
