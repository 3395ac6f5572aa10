package main

import (
	"net/http"
	"strings"
	"testing"
)

func TestCreateAndDelete(t *testing.T) {
	g := newGateDouble(t)
	for _, c := range []struct {
		args       string
		status     int
		reply      string
		path, want string
		code       int
	}{
		{"create Account/alice", 201, `{"id":"alice"}`, "PUT /api/v1/objects/Account/alice", "created Account/alice\n", 0},
		{"create Account/a/b -o json", 201, `{"id":"a/b"}`, "PUT /api/v1/objects/Account/a%2Fb", "{\n  \"type\": \"Account\",\n  \"id\": \"a/b\",\n  \"done\": \"created\"\n}\n", 0},
		{"delete Account/alice", 200, `{"success":true}`, "DELETE /api/v1/objects/Account/alice", "deleted Account/alice\n", 0},
		{"create Account/alice", 409, `{"error":"it is there","code":"ALREADY_EXISTS","outcome":"NotExecuted"}`, "PUT /api/v1/objects/Account/alice", "stderr: goverse: ALREADY_EXISTS (NotExecuted): it is there\nexit code 1\n", 1},
	} {
		g.status, g.reply = c.status, c.reply
		out := runIn(t.Context(), noEtcd(t), map[string]string{"GOVERSE_GATE": g.URL}, "", strings.Fields(c.args)...)
		if out.code != c.code || out.String() != c.want || g.path != c.path || g.body != "" {
			t.Errorf("%s: %v\n%s %q", c.args, out, g.path, g.body)
		}
	}
	g.path = ""
	for args, want := range map[string]string{
		"create":                "the object, Type/id, is missing",
		"delete alice":          "want Type/id",
		"delete delete/alice":   "means something else by delete",
		"create A/b C":          "unexpected argument",
		"create A/b --gate a?b": "want a URL",
	} {
		if out := runIn(t.Context(), noEtcd(t), map[string]string{"GOVERSE_GATE": g.URL}, "", strings.Fields(args)...); out.code != 2 || !strings.Contains(out.err, want) || g.path != "" {
			t.Errorf("%s: %v, %s", args, out, g.path)
		}
	}
	g.status, g.reply = http.StatusOK, "<html>"
	if out := runIn(t.Context(), noEtcd(t), nil, "", "delete", "A/b", "--gate", g.URL); out.code != 1 || !strings.Contains(out.err, "is it a gate's HTTP port?") {
		t.Error(out)
	}
}
