package main

import (
	"strings"
	"testing"
)

// The environment counts for show, and not for check.
func TestConfigAndTheEnvironment(t *testing.T) {
	environment := map[string]string{"GOVERSE_CONFIG": "testdata/config/right.yaml", "GOVERSE_NODE_ID": "n2", "GOVERSE_MIN_QUORUM": "many"}
	o := runOn(t, nil, environment, "config", "check", "testdata/config/right.yaml")
	if o.code != exitOK {
		t.Error(o)
	}
	o = runOn(t, nil, environment, "config", "show")
	if o.code != exitFailed || !strings.Contains(o.err, `GOVERSE_MIN_QUORUM="many"`) {
		t.Error(o)
	}
	environment["GOVERSE_MIN_QUORUM"] = "5"
	environment["GOVERSE_POSTGRES_PASSWORD"] = "hunter2"
	o = runOn(t, nil, environment, "config", "show", "--config", "testdata/config/typeless.yaml")
	if o.code != exitFailed {
		t.Error(o)
	}
	o = runOn(t, nil, map[string]string{"GOVERSE_CONFIG": "testdata/config/typos.yaml"}, "config", "show", "-o", "json")
	if o.code != exitFailed || !strings.Contains(o.err, "typos.yaml:5") {
		t.Error(o)
	}
	delete(environment, "GOVERSE_NODE_ID")
	environment["GOVERSE_CONFIG"] = "testdata/config/nodeless.yaml"
	o = runOn(t, nil, environment, "config", "show", "--all")
	if o.code != exitOK || strings.Contains(o.stdout, "hunter2") || !strings.Contains(o.stdout, "stability ") {
		t.Error(o)
	}
	for _, want := range []string{"min-quorum", "GOVERSE_MIN_QUORUM", "GOVERSE_POSTGRES_PASSWORD", "(hidden)"} {
		if !strings.Contains(o.stdout, want) {
			t.Errorf("%s is missing in\n%s", want, o.stdout)
		}
	}
}
