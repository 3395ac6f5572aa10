package main

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestPush(t *testing.T) {
	g := newGateDouble(t)
	const hello = `{"@type":"type.googleapis.com/google.protobuf.StringValue","value":"hello"}`
	for _, c := range []struct {
		args   []string
		stdin  string
		status int
		reply  string
		body   string
		want   string
	}{
		{[]string{"g:1/x", hello}, "", 200, `{"pushed":true}`, `{"client":"g:1/x","message":` + hello + `}`, "pushed to g:1/x\n"},
		{[]string{"--all", hello}, "", 200, `{"pushed":true}`, `{"all":true,"message":` + hello + `}`, "pushed to all clients\n"},
		{[]string{"--all", "-", "-o", "json"}, hello, 200, `{"pushed":true}`, `{"all":true,"message":` + hello + `}`, "{\n  \"client\": \"\",\n  \"all\": true,\n  \"done\": \"pushed\"\n}\n"},
		{[]string{"x", hello}, "", 400, `{"error":"client id \"x\" is not","code":"INVALID_BODY","outcome":"NotExecuted"}`, `{"client":"x","message":` + hello + `}`, "stderr: goverse: INVALID_BODY (NotExecuted): client id \"x\" is not\nexit code 1\n"},
	} {
		g.status, g.reply = c.status, c.reply
		out := runIn(t.Context(), noEtcd(t), map[string]string{"GOVERSE_OPS": g.URL}, c.stdin, append([]string{"push"}, c.args...)...)
		if out.String() != c.want || g.path != "POST /api/v1/push" || !sameJSON(g.body, c.body) {
			t.Errorf("%q: %v\n%s %s", c.args, out, g.path, g.body)
		}
	}
	g.path = ""
	for args, want := range map[string]string{
		"push":                          "the client's id, or --all, is missing",
		"push x":                        "the message is missing",
		"push --all":                    "the message is missing",
		"push --all x {}":               `unexpected argument "{}"`,
		"push x hello":                  "the request is not JSON",
		"push x -":                      "the message is empty",
		"push x {} --ops localhost:1?x": "--ops",
	} {
		if out := runIn(t.Context(), noEtcd(t), map[string]string{"GOVERSE_OPS": g.URL}, "", strings.Fields(args)...); out.code != 2 || !strings.Contains(out.err, want) || g.path != "" {
			t.Errorf("%s: %v, %s", args, out, g.path)
		}
	}
	if out := runIn(t.Context(), noEtcd(t), nil, "", "push", "x", hello, "--ops", "localhost:1"); out.code != 1 || !strings.Contains(out.err, "(NotExecuted): start a node with --ops-listen") {
		t.Error(out)
	}
}

func sameJSON(a, b string) bool {
	var x, y any
	if json.Unmarshal([]byte(a), &x) != nil || json.Unmarshal([]byte(b), &y) != nil {
		return false
	}
	p, _ := json.Marshal(x)
	q, _ := json.Marshal(y)
	return string(p) == string(q)
}
