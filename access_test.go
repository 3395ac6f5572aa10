package goverse

import (
	"os"
	"regexp"
	"testing"
)

// Each program of docs/access.md compiles outside of this module, as a user's does.
func TestAccessPrograms(t *testing.T) {
	if testing.Short() {
		t.Skip("builds programs: not with -short")
	}
	text, err := os.ReadFile("docs/access.md")
	if err != nil {
		t.Fatal(err)
	}
	programs := regexp.MustCompile("(?s)```go\n(.*?)```").FindAllSubmatch(text, -1)
	if len(programs) == 0 {
		t.Fatal("docs/access.md has no program")
	}
	for _, p := range programs {
		build(t, p[1])
	}
}
