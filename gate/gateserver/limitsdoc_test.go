package gateserver

import (
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/xiaonanln/goverse/internal/event"
)

// docs/limits.md names every field of Limits, and nothing that does not exist.
func TestTheTableOfLimits(t *testing.T) {
	page, err := os.ReadFile("../../docs/limits.md")
	if err != nil {
		t.Fatal(err)
	}
	flags, err := os.ReadFile("../../cmd/gate/gateconfig/limits.go")
	if err != nil {
		t.Fatal(err)
	}
	others, err := os.ReadFile("../../cmd/gate/gateconfig/config.go")
	if err != nil {
		t.Fatal(err)
	}
	metrics := map[string]bool{}
	for l := range event.Limit(event.NumLimits) {
		metrics[l.String()] = true
	}
	config, limits := reflect.TypeFor[GateServerConfig](), reflect.TypeFor[Limits]()
	named := map[string]bool{}
	name := regexp.MustCompile("`([^`]+)`")
	rows := 0
	for line := range strings.Lines(string(page)) {
		cells := strings.Split(line, "|")
		if len(cells) != 8 || strings.HasPrefix(line, "|---") || strings.Contains(line, "| limit |") {
			continue
		}
		rows++
		if m := name.FindStringSubmatch(cells[3]); m != nil {
			field, nested := strings.CutPrefix(m[1], "Limits.")
			of := config
			if nested {
				of = limits
				named[field] = true
			}
			if _, ok := of.FieldByName(field); !ok {
				t.Errorf("there is no field %s", m[1])
			}
		}
		if m := name.FindStringSubmatch(cells[4]); m != nil && !strings.Contains(string(flags)+string(others), `"`+strings.TrimPrefix(m[1], "--")+`"`) {
			t.Errorf("there is no flag %s", m[1])
		}
		if m := name.FindStringSubmatch(cells[6]); m != nil && !metrics[m[1]] {
			t.Errorf("there is no metric for %s", m[1])
		}
	}
	for i := range limits.NumField() {
		if f := limits.Field(i).Name; !named[f] && !strings.Contains(string(page), "`Limits."+f+"`") {
			t.Errorf("Limits.%s is not on the page", f)
		}
	}
	if rows < 20 {
		t.Errorf("the table has %d rows", rows)
	}
}
