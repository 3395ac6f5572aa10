package object

import (
	"strings"
	"testing"
)

func TestCheckAutoLoads(t *testing.T) {
	for want, a := range map[string]AutoLoad{
		"":                 {Type: "Room", ID: "lobby"},
		" ":                {Type: "Room", ID: "a/b"},
		"  ":               {Type: "Room", ID: "lobby", PerShard: true},
		"   ":              {Type: "Room", ID: "lobby", PerNode: true},
		"no type":          {ID: "lobby"},
		"the type ":        {Type: "\x00", ID: "lobby"},
		"no id":            {Type: "Room"},
		"say one of them":  {Type: "Room", ID: "lobby", PerShard: true, PerNode: true},
		`"a/b" has a / or`: {Type: "Room", ID: "a/b", PerShard: true},
		`"a#b" has a / or`: {Type: "Room", ID: "a#b", PerNode: true},
		"bytes":            {Type: "Room", ID: strings.Repeat("x", 1<<10)},
	} {
		err := CheckAutoLoads([]AutoLoad{a})[0]
		if strings.TrimSpace(want) == "" && err != nil || want != "" && strings.TrimSpace(want) != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%+.99v: %v; want %q", a, err, want)
		}
	}
	room := AutoLoad{Type: "Room", ID: "lobby"}
	wrong := CheckAutoLoads([]AutoLoad{room, {Type: "Room", ID: "lobby", PerNode: true}, room, room})
	if wrong[0] != nil || wrong[1] != nil || wrong[2] == nil || wrong[3] == nil || wrong[3].Error() != "entry 0 is the same" {
		t.Error(wrong)
	}
}
