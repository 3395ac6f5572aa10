package access

import (
	"fmt"
	"strings"
	"sync"
	"testing"
)

func must(t testing.TB, methods []Rule, lifecycles ...LifecycleRule) *Rules {
	t.Helper()
	r, err := Compile(methods, lifecycles)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// Who may is the whole of what an access says.
func TestAccess(t *testing.T) {
	for _, c := range []struct {
		access           Access
		client, internal bool
	}{
		{Reject, false, false}, {Internal, false, true}, {External, true, false}, {Allow, true, true},
	} {
		r := must(t, []Rule{{Access: c.access}}, LifecycleRule{Access: c.access})
		for _, client := range []bool{true, false} {
			want := c.internal
			if client {
				want = c.client
			}
			for what, v := range map[string]Verdict{
				"call": r.Call(client, "T", "1", "M"), "create": r.Create(client, "T", "1"), "delete": r.Delete(client, "T", "1"),
			} {
				if v.Allowed != want || v.Access != c.access || v.Rule != 1 {
					t.Errorf("%s, client %v, %s: %+v", c.access, client, what, v)
				}
			}
		}
	}
}

func TestNamesMatch(t *testing.T) {
	for _, c := range []struct {
		rule            Rule
		typ, id, method string
		matches         bool
		because         string
	}{
		{Rule{}, "A", "1", "M", true, "empty is any"},
		{Rule{Type: "A", ID: "1", Method: "M"}, "A", "1", "M", true, "literals"},
		{Rule{Type: "A"}, "AB", "1", "M", false, "a literal is the whole name"},
		{Rule{Type: "a"}, "A", "1", "M", false, "case counts"},
		{Rule{ID: "a.c"}, "A", "abc", "M", false, "a literal is no expression"},
		{Rule{Type: "/A|B/"}, "B", "1", "M", true, "an alternative"},
		{Rule{Type: "/A|B/"}, "AC", "1", "M", false, "each alternative is anchored"},
		{Rule{Type: "/A|B/"}, "CB", "1", "M", false, "at both ends"},
		{Rule{Method: "/Get.*/"}, "A", "1", "GetAll", true, "an expression"},
		{Rule{Method: "/Get.*/"}, "A", "1", "XGetAll", false, "anchored in front"},
		{Rule{Method: "/(?m)^Get$/"}, "A", "1", "X\nGet", false, "lines do not undo it"},
		{Rule{ID: "/a$/"}, "A", "a\n", "M", false, "nor does a last line"},
		{Rule{ID: "/.*/"}, "A", "a\nb", "M", false, "a dot is no newline"},
		{Rule{ID: `/shard#\d+/.*/`}, "A", "shard#7/x", "M", true, "slashes inside"},
		{Rule{ID: `/\/x/`}, "A", "/x", "M", true, "a name that begins with one"},
		{Rule{Method: "/(?i)get/"}, "A", "1", "GET", true, "flags"},
		{Rule{Method: "/é+/"}, "A", "1", "éé", true, "UTF-8"},
	} {
		c.rule.Access = Reject
		r := must(t, []Rule{c.rule})
		for range 2 { // as it is found, and as it is known
			if got := !r.Call(true, c.typ, c.id, c.method).Allowed; got != c.matches {
				t.Errorf("%s: %+v on %s/%q.%q: %v", c.because, c.rule, c.typ, c.id, c.method, got)
			}
		}
	}
}

func TestTheFirstMatchDecides(t *testing.T) {
	r := must(t, []Rule{
		{Type: "Room", ID: "vip", Method: "Join", Access: Internal},
		{Type: "Room", ID: "/vip.*/", Access: Reject},
		{Type: "Room", Method: "/Join|Leave/", Access: Allow},
		{Type: "Room", Access: Internal},
		{Type: "Room", ID: "vip", Access: Allow}, // comes too late
	}, LifecycleRule{Type: "Room", Lifecycle: Delete, Access: Reject}, LifecycleRule{Lifecycle: Create, Access: Internal})
	for _, c := range []struct {
		id, method string
		rule       int
	}{
		{"vip", "Join", 1}, {"vip", "Leave", 2}, {"vip2", "Join", 2}, {"x", "Join", 3}, {"x", "Kick", 4}, {"vip", "Kick", 2},
	} {
		if v := r.Call(true, "Room", c.id, c.method); v.Rule != c.rule {
			t.Errorf("Room/%s.%s: %+v, want rule %d", c.id, c.method, v, c.rule)
		}
	}
	for what, c := range map[string]struct {
		got  Verdict
		want Verdict
	}{
		"another type":              {r.Call(true, "Hall", "vip", "Join"), Verdict{true, Allow, 0}},
		"delete":                    {r.Delete(false, "Room", "x"), Verdict{false, Reject, 1}},
		"delete of another":         {r.Delete(true, "Hall", "x"), Verdict{true, Allow, 0}},
		"create":                    {r.Create(true, "Room", "x"), Verdict{false, Internal, 2}},
		"a method is no lifecycle":  {r.Call(true, "Hall", "x", "CREATE"), Verdict{true, Allow, 0}},
		"nobody's rules are no end": {(*Rules)(nil).Call(true, "Room", "x", "Join"), Verdict{true, Allow, 0}},
	} {
		if c.got != c.want {
			t.Errorf("%s: %+v, want %+v", what, c.got, c.want)
		}
	}
}

// Everything that is wrong is said at once, with the number of its rule.
func TestCompileSaysWhatIsWrong(t *testing.T) {
	_, err := Compile([]Rule{
		{Access: Allow},
		{Type: "A"},
		{Type: "A", Access: "allow"},
		{Type: "/(/", ID: "/x", Method: "//", Access: Allow},
		{Type: "/a)|(b/", Access: Allow},
		{ID: strings.Repeat("x", maxPattern+1), Access: Allow},
	}, []LifecycleRule{{Lifecycle: "DESTROY", Access: Allow}, {Lifecycle: Create}})
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{
		`access rule 2: its access is ""; it is REJECT, INTERNAL, EXTERNAL or ALLOW`, `access rule 3: its access is "allow"`,
		`access rule 4: its type "/(/": `, `its id "/x": a regular expression stands between slashes`, `its method "//": `,
		`access rule 5: its type "/a)|(b/": `, `access rule 6: its id `,
		`lifecycle rule 1: its lifecycle is "DESTROY"; it is CREATE, DELETE or ALL`, `lifecycle rule 2: its access is ""`,
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in: %v", want, err)
		}
	}
	if strings.Contains(err.Error(), "rule 1: its type") {
		t.Errorf("a sound rule is wrong: %v", err)
	}
	if _, err := Compile(make([]Rule, maxRules+1), nil); err == nil {
		t.Error("there is no bound")
	}
	if r, err := Compile(nil, nil); r != nil || err != nil {
		t.Error("no rules are not nil")
	}
}

// A client may name what it likes: what is remembered stays bounded, and answers stay right.
func TestNamesAreRememberedWithinABound(t *testing.T) {
	r := must(t, []Rule{{Type: "/A.*/", Method: "Secret", Access: Internal}})
	var all sync.WaitGroup
	for g := range 4 {
		all.Go(func() {
			for i := range maxKnown {
				name := fmt.Sprintf("A%d", i*(g+1))
				if r.Call(true, name, "1", "Secret").Allowed || !r.Call(true, name, "1", "Open").Allowed {
					t.Errorf("%s is judged wrongly", name)
				}
			}
		})
	}
	all.Wait()
	if n := len(*r.known.Load()); n > maxKnown {
		t.Errorf("%d are remembered, of %d at most", n, maxKnown)
	}
	if n := testing.AllocsPerRun(100, func() { r.Call(true, "A0", "1", "Secret") }); n > 0 {
		t.Errorf("a check allocates %v times", n)
	}
}

func BenchmarkCall(b *testing.B) {
	r := must(b, []Rule{{Type: "/Bank.*/", Method: "/Audit.*/", Access: Internal}, {Type: "Room", Method: "/Join|Leave/", Access: Allow}, {Access: Reject}})
	for b.Loop() {
		r.Call(true, "Room", "general", "Join")
	}
}

// Whatever stands in a rule, it is refused or it is anchored: what matches a name does not
// match it with something around it, unless it says so itself.
func FuzzRules(f *testing.F) {
	for _, s := range []string{"", "A", "/A/", "/a|b/", "/a)|(b/", "/(?m)^a$/", "//", "/", "/x", `/\Q/`, "/(a*)*{1000}/", "/\xff/", "/[/"} {
		f.Add(s, "a")
	}
	f.Fuzz(func(t *testing.T, text, name string) {
		if len(text) > 200 || len(name) > 200 {
			return
		}
		r, err := Compile([]Rule{{Type: text, Access: Reject}}, nil)
		if err != nil {
			return
		}
		first := r.Call(true, name, "1", "M")
		if again := r.Call(true, name, "1", "M"); again != first {
			t.Fatalf("%q on %q: %+v, then %+v", text, name, first, again)
		}
		if text != "" && !strings.HasPrefix(text, "/") && (first.Allowed == (text == name)) {
			t.Fatalf("the literal %q on %q: %+v", text, name, first)
		}
		if len(text) > 2 && !strings.ContainsAny(text[1:len(text)-1], `\[](){}?*+.|^$/`) && strings.HasPrefix(text, "/") && !first.Allowed && text[1:len(text)-1] != name {
			t.Fatalf("%q is not anchored: it matches %q", text, name)
		}
	})
}
