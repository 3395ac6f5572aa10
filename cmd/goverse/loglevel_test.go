package main

import (
	"strings"
	"testing"
)

func TestLogLevel(t *testing.T) {
	g := newGateDouble(t)
	for _, c := range []struct {
		args         string
		status       int
		reply        string
		path, stdout string
	}{
		{"loglevel", 200, `{"level":"info"}`, "GET /debug/loglevel", "info\n"},
		{"loglevel debug", 200, `{"level":"debug"}`, "PUT /debug/loglevel", "debug\n"},
		{"loglevel off -o json", 200, `{"level":"off"}`, "PUT /debug/loglevel", "{\n  \"level\": \"off\"\n}\n"},
		{"loglevel warn", 403, `{"error":"for callers on this machine","code":"ACCESS_DENIED","outcome":"NotExecuted"}`, "PUT /debug/loglevel",
			"stderr: goverse: ACCESS_DENIED (NotExecuted): for callers on this machine\nexit code 1\n"},
	} {
		g.status, g.reply = c.status, c.reply
		out := runIn(t.Context(), noEtcd(t), map[string]string{"GOVERSE_OPS": g.URL}, "", strings.Fields(c.args)...)
		if out.String() != c.stdout || g.path != c.path {
			t.Errorf("%s: %v %s", c.args, out, g.path)
		}
		if words := strings.Fields(c.args); len(words) > 1 && !sameJSON(g.body, `{"level":"`+words[1]+`"}`) {
			t.Errorf("%s: it orders %s", c.args, g.body)
		}
	}
	g.path = ""
	for args, want := range map[string]string{
		"loglevel loud":       "want debug, info, warn, error or off",
		"loglevel info debug": "accepts at most 1 arg",
	} {
		if out := runIn(t.Context(), noEtcd(t), map[string]string{"GOVERSE_OPS": g.URL}, "", strings.Fields(args)...); out.code != 2 || !strings.Contains(out.err, want) || g.path != "" {
			t.Errorf("%s: %v, %s", args, out, g.path)
		}
	}
}
