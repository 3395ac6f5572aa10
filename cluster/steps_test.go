package cluster

import (
	"fmt"
	"strings"
	"testing"

	"github.com/xiaonanln/goverse/cluster/consensusmanager"
	"github.com/xiaonanln/goverse/cluster/etcdmanager/memkv"
	"github.com/xiaonanln/goverse/cluster/sharding"
)

// viewOf is a cluster of four shards: nodes is who lives, as address#registration
// with a ! for those that are leaving, and shards are the values of their keys.
func viewOf(t *testing.T, nodes []string, hold bool, shards ...string) *consensusmanager.View {
	t.Helper()
	store := memkv.NewStore()
	defer store.Close()
	kv := store.Connect()
	defer kv.Close()
	add := func(key, value string) {
		if _, err := kv.Commit(t.Context(), put("/goverse/"+key, value)); err != nil {
			t.Fatal(err)
		}
	}
	add("meta", `{"cluster":"c","boot":"b","store":"none","shards":4}`)
	if hold {
		add("hold", "{}")
	}
	for _, n := range nodes {
		state := "ready"
		n, leaving := strings.CutSuffix(n, "!")
		if leaving {
			state = "draining"
		}
		address, registration, _ := strings.Cut(n, "#")
		add("nodes/"+address, fmt.Sprintf(`{"reg":%q,"state":%q}`, registration, state))
		add("reg/"+registration, address)
	}
	for i, value := range shards {
		add(fmt.Sprintf("shards/%04d", i), value)
	}
	v, err := consensusmanager.Read(t.Context(), kv, "/goverse")
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func record(epoch int, current, registration, target string) string {
	return fmt.Sprintf(`{"e":%d,"c":%q,"ci":%q,"t":%q,"h":"","n":"0"}`, epoch, current, registration, target)
}

// What the reconciler does about one shard, by the record, by who lives and by how
// the shard stands here.
func TestSteps(t *testing.T) {
	self := consensusmanager.Self{Address: "a", Registration: "a2"}
	mine, other := record(5, "a", "a2", "a"), record(5, "b", "b1", "b")
	openAt := func(raw string) slot {
		var d sharding.Decoder
		s, err := d.Decode(0, []byte(raw))
		if err != nil {
			t.Fatal(err)
		}
		return slot{phase: open, record: s}
	}
	movingBy := func(id string) slot {
		h := openAt(mine)
		h.phase, h.leaving = moving, &departure{id: id}
		return h
	}
	handed := func(id string) string { return strings.Replace(record(6, "b", "b1", "b"), `"h":""`, `"h":"`+id+`"`, 1) }
	all := []string{"a#a2", "b#b1"}
	now := viewOf(t, all, false, mine).Revision
	later := now + 1
	for name, c := range map[string]struct {
		nodes   []string
		hold    bool
		raw     string
		slot    slot
		want    StepKind
		missing int
	}{
		"assigned":                           {all, false, record(5, "", "", "a"), slot{}, StepClaim, 1},
		"never held":                         {all, false, record(0, "", "", "a"), slot{}, StepClaim, 1},
		"orphaned":                           {all, false, record(5, "c", "c1", "a"), slot{}, StepClaim, 1},
		"orphaned by ourselves":              {all, false, record(5, "a", "a1", "a"), slot{}, StepClaim, 1},
		"orphaned at a reborn address":       {all, false, record(5, "b", "b0", "a"), slot{}, StepClaim, 1},
		"to be ours, held by the other":      {all, false, record(5, "b", "b1", "a"), slot{}, 0, 1},
		"lock-delay":                         {all, true, record(5, "", "", "a"), slot{}, 0, 1},
		"leaving":                            {[]string{"a#a2!", "b#b1"}, false, record(5, "", "", "a"), slot{}, 0, 1},
		"we are not seen yet":                {[]string{"b#b1"}, false, record(5, "", "", "a"), slot{}, 0, 1},
		"another life of ours is seen":       {[]string{"a#a1", "b#b1"}, false, record(5, "", "", "a"), slot{}, 0, 1},
		"the other's":                        {all, false, other, slot{}, 0, 0},
		"for the other":                      {all, false, record(5, "", "", "b"), slot{}, 0, 0},
		"claimed":                            {all, false, mine, slot{}, StepOpen, 1},
		"claimed before the leader moved it": {all, false, record(5, "a", "a2", "b"), slot{}, StepOpen, 1},
		"claim under way":                    {all, false, record(5, "", "", "a"), slot{phase: busy}, 0, 1},
		"opening under way":                  {all, false, mine, slot{phase: busy}, 0, 1},
		"the view is behind our claim":       {all, false, record(5, "", "", "a"), slot{after: later}, 0, 1},
		"the view has our claim":             {all, false, mine, slot{after: now}, StepOpen, 1},
		"open":                               {all, false, mine, openAt(mine), 0, 0},
		"open, to move":                      {all, false, record(5, "a", "a2", "b"), openAt(mine), StepMove, 0},
		"open, to move, and dealt so":        {all, false, record(5, "a", "a2", "b"), openAt(record(5, "a", "a2", "b")), StepMove, 0},
		"open, to move to the dead":          {all, false, record(5, "a", "a2", "c"), openAt(mine), 0, 0},
		"open, to move, while we leave":      {[]string{"a#a2!", "b#b1"}, false, record(5, "a", "a2", "b"), openAt(mine), StepMove, 0},
		"moving":                             {all, false, record(5, "a", "a2", "b"), movingBy("h1"), 0, 0},
		"moved, and not told yet":            {all, false, handed("h1"), movingBy("h1"), 0, 0},
		"moved by somebody else's doing":     {all, false, handed("h2"), movingBy("h1"), StepDrop, 0},
		"moving, and the target has changed": {all, false, mine, movingBy("h1"), 0, 0},
		"open at an older epoch":             {all, false, record(6, "a", "a2", "a"), openAt(mine), StepDrop, 1},
		"open but the other's":               {all, false, record(6, "b", "b1", "b"), openAt(mine), StepDrop, 0},
		"open but given up":                  {all, false, record(5, "", "", "a"), openAt(mine), StepDrop, 1},
		"open under another life":            {all, false, record(5, "a", "a1", "a"), openAt(mine), StepDrop, 1},
		"the other's, refused before":        {all, false, other, slot{refusals: 2}, 0, 0},
	} {
		v := viewOf(t, c.nodes, c.hold, c.raw)
		held := make([]slot, 4)
		held[0] = c.slot
		list, missing := surveyed(v, self, held, limits{})
		var got StepKind
		if len(list) == 1 {
			got = list[0].Kind
		}
		if got != c.want || len(list) > 1 || missing != c.missing {
			t.Errorf("%s: %v, %d missing; want %v, %d", name, list, missing, c.want, c.missing)
		}
	}
}

// Nothing is taken up while etcd does not answer, and nothing from the dead without a
// quorum that is asked for.
func TestStepsWithinLimits(t *testing.T) {
	self := consensusmanager.Self{Address: "a", Registration: "a2"}
	v := viewOf(t, []string{"a#a2"}, false, record(5, "", "", "a"), record(5, "c", "c1", "a"), record(5, "a", "a2", "a"))
	for want, l := range map[string]limits{"[claim claim open]": {}, "[claim open]": {frozen: true}, "[open]": {still: true}} {
		list, _ := surveyed(v, self, make([]slot, 4), l)
		kinds := make([]StepKind, len(list))
		for i, s := range list {
			kinds[i] = s.Kind
		}
		if got := fmt.Sprint(kinds); got != want {
			t.Errorf("%+v: %v, want %v", l, got, want)
		}
	}
}

// A record that is damaged is the leader's to repair: nobody claims it, and its
// holder keeps it.
func TestStepsOnDamage(t *testing.T) {
	self := consensusmanager.Self{Address: "a", Registration: "a2"}
	v := viewOf(t, []string{"a#a2"}, false, "junk", record(5, "a", "a2", "a"))
	held := make([]slot, 4)
	if list, _ := surveyed(v, self, held, limits{}); len(list) != 1 || list[0].Kind != StepOpen || list[0].Shard.ID != 1 {
		t.Errorf("%v", list)
	}
}
