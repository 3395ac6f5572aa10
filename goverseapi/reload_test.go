package goverseapi

import (
	"errors"
	"testing"

	"github.com/xiaonanln/goverse/internal/access"
	"github.com/xiaonanln/goverse/internal/conf"
	"github.com/xiaonanln/goverse/internal/peer"
	"github.com/xiaonanln/goverse/object"
	"github.com/xiaonanln/goverse/util/logger"
)

// What a file says while a program runs holds for the next call, and for the next line.
func TestChangesAreTakenUp(t *testing.T) {
	s, err := NewServerWithConfig(&ServerConfig{DataDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	forbidden := func() bool {
		_, err := s.Node.ServeCall(t.Context(), &peer.Request{Call: object.Call{Ref: object.Ref{Type: "Admin", ID: "x"}, Method: "M"}})
		return errors.Is(err, ErrForbidden)
	}
	read := func(text string) *conf.Document {
		d, err := conf.Parse("f", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	if forbidden() {
		t.Fatal("everything is allowed at first")
	}
	before := logger.LevelName()
	t.Cleanup(func() {
		level, _ := logger.ParseLevel(before)
		logger.SetLevel(level)
	})
	shut := read("version: 1\nobject_access_rules: [{type: Admin, access: REJECT}]\n")
	if err := apply(s, shut, []conf.Change{{Key: "object_access_rules", Counts: conf.Now}, {Flag: "log-level", New: "error"}}); err != nil {
		t.Fatal(err)
	}
	if !forbidden() || logger.LevelName() != "error" {
		t.Errorf("the rule is not there, or the level is %s", logger.LevelName())
	}
	if err := apply(s, read("version: 1\n"), []conf.Change{{Key: "object_access_rules", Counts: conf.Now}}); err != nil || forbidden() {
		t.Errorf("the rule is still there: %v", err)
	}
}

func TestRulesComeFromTheFileOrTheProgram(t *testing.T) {
	path := write(t, "version: 1\nobject_access_rules: [{type: Admin, access: REJECT}]\n")
	l := NewConfigLoader(nil)
	c, err := l.LoadIn(environment(), []string{"--config", path})
	if err != nil || len(c.ObjectAccessRules) != 1 || c.ObjectAccessRules[0].Access != access.Reject {
		t.Errorf("%+v, %v", c, err)
	}
	l = NewConfigLoader(nil)
	l.config.ObjectAccessRules = []access.Rule{{Access: access.Allow}}
	if _, err := l.LoadIn(environment(), []string{"--config", path}); err == nil {
		t.Error("two sets of rules passed")
	}
}
