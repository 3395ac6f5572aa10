package admit

import (
	"strings"
	"testing"
	"time"

	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/object"
)

func TestRecords(t *testing.T) {
	long := strings.Repeat("x", object.MaxIDLen)
	for _, c := range []struct {
		name   string
		change func(*object.Save)
		want   fault.Kind // 0: admitted
	}{
		{"good ones", func(*object.Save) {}, 0},
		{"the longest ids", func(s *object.Save) { s.Calls[0].ID, s.Effects[0].ID = long, long }, 0},
		{"a push", func(s *object.Save) { s.Effects[0].Kind, s.Effects[0].Target.Type = object.EffectPush, "" }, 0},
		{"the largest result", func(s *object.Save) { s.Calls[0].Result = make([]byte, MaxRecord) }, 0},
		{"one call for two", func(s *object.Save) { s.Calls = append(s.Calls, s.Calls[0]) }, fault.Invalid},
		{"one effect for two", func(s *object.Save) { s.Effects = append(s.Effects, s.Effects[0]) }, fault.Invalid},
		{"a longer call id", func(s *object.Save) { s.Calls[0].ID = long + "x" }, fault.TooLarge},
		{"no effect id", func(s *object.Save) { s.Effects[0].ID = "" }, fault.Invalid},
		{"a NUL", func(s *object.Save) { s.Calls[0].ID = "a\x00" }, fault.Invalid},
		{"no status", func(s *object.Save) { s.Calls[0].Status = 0 }, fault.Invalid},
		{"kept for no time", func(s *object.Save) { s.Calls[0].Keep = 0 }, fault.Invalid},
		{"a larger result", func(s *object.Save) { s.Calls[0].Result = make([]byte, MaxRecord+1) }, fault.TooLarge},
		{"a larger payload", func(s *object.Save) { s.Effects[0].Payload = make([]byte, MaxRecord+1) }, fault.TooLarge},
		{"no kind", func(s *object.Save) { s.Effects[0].Kind = 0 }, fault.Invalid},
		{"a send to nobody", func(s *object.Save) { s.Effects[0].Target.ID = "" }, fault.Invalid},
		{"a push to an object", func(s *object.Save) { s.Effects[0].Kind = object.EffectPush }, fault.Invalid},
		{"a push to nobody", func(s *object.Save) { s.Effects[0].Kind, s.Effects[0].Target = object.EffectPush, object.Ref{} }, fault.Invalid},
		{"the year 10000", func(s *object.Save) { s.Effects[0].NotAfter = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC) }, fault.Invalid},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := object.Save{
				Ref: ref, Data: []byte(`{}`), SaveID: [16]byte{1},
				Calls:   []object.CallRecord{{ID: "c", Status: object.CallDone, Keep: time.Hour}},
				Effects: []object.Effect{{ID: "e", Kind: object.EffectSend, Target: ref}},
			}
			c.change(&s)
			err := Save(&s)
			if (err == nil) != (c.want == 0) || err != nil && fault.KindOf(err) != c.want {
				t.Errorf("%v, want kind %v", err, c.want)
			}
		})
	}
}
