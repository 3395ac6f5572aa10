package callctx

import (
	"strings"
	"testing"
)

const sampled = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

func TestParseTrace(t *testing.T) {
	got := ParseTrace(sampled, "vendor=1,other=2")
	if got == nil || got.String() != sampled || got.State != "vendor=1,other=2" || !got.Valid() {
		t.Fatalf("got %+v", got)
	}
	if got := ParseTrace("cc"+sampled[2:]+"-what a later version adds", ""); got == nil || got.String() != sampled {
		t.Errorf("of a later version: %v", got)
	}
	for _, parent := range []string{sampled[:54] + "0", sampled[:53] + "02"} {
		if got := ParseTrace(parent, ""); got != Untraced || got.Given() || got.String() != "" {
			t.Errorf("%s is %+v", parent, got)
		}
	}
	for _, state := range []string{strings.Repeat("x", MaxTraceState+1), "a=\n", "a=ü", "\x00"} {
		if got := ParseTrace(sampled, state); got == nil || got.State != "" {
			t.Errorf("the state %q is %+v", state, got)
		}
	}
}

// What is no traceparent is nobody's place in a trace.
func TestParseTraceOfStrangers(t *testing.T) {
	for _, parent := range []string{
		"", "00", sampled[:54], sampled + "-more", sampled + "x", "cc" + sampled[2:] + "more", "ff" + sampled[2:],
		strings.ToUpper(sampled), strings.ReplaceAll(sampled, "-", "_"), strings.Replace(sampled, "0af7", "zaf7", 1),
		"00-" + strings.Repeat("0", 32) + "-b7ad6b7169203331-01", "00-0af7651916cd43dd8448eb211c80319c-" + strings.Repeat("0", 16) + "-01",
		"cc" + sampled[2:] + "-" + strings.Repeat("x", 1<<20), strings.Repeat("\x00", 55),
	} {
		if got := ParseTrace(parent, "a=1"); got != nil {
			t.Errorf("%.80q is %+v", parent, got)
		}
	}
}

func FuzzParseTrace(f *testing.F) {
	f.Add(sampled, "a=1")
	f.Add("cc"+sampled[2:]+"-x", "")
	f.Fuzz(func(t *testing.T, parent, state string) {
		got := ParseTrace(parent, state)
		if got == nil || got == Untraced {
			return
		}
		if !got.Valid() || !strings.HasPrefix(got.String(), "00"+parent[2:53]) {
			t.Errorf("%q, %q is %+v", parent, state, got)
		}
		if again := ParseTrace(got.String(), got.State); *again != *got {
			t.Errorf("%+v is read again as %+v", got, again)
		}
	})
}

func TestStretchesHaveNames(t *testing.T) {
	seen := map[string]bool{"": true}
	for k := range StretchKind(NumStretches) {
		if seen[k.String()] {
			t.Errorf("kind %d is called %q", k, k)
		}
		seen[k.String()] = true
	}
}
