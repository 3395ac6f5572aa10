package admit

import (
	"bytes"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"go.uber.org/goleak"

	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/object"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var ref = object.Ref{Type: "T", ID: "x"}

func TestData(t *testing.T) {
	deep := strings.Repeat("[", MaxDepth)
	for _, c := range []struct {
		name, data string
		want       fault.Kind // 0: admitted
	}{
		{"object", `{"@type":"t","n":9007199254740993}`, 0},
		{"null", `null`, 0},
		{"escapes", `"\\u0000 \\\\u0000 \n é 😀 😀"`, 0},
		{"brackets in a string", `"` + strings.Repeat("[", 2*MaxDepth) + `\"` + strings.Repeat("{", MaxDepth) + `"`, 0},
		{"as deep as allowed", deep + strings.Repeat("]", MaxDepth), 0},
		{"one deeper", "[" + deep + strings.Repeat("]", MaxDepth+1), fault.TooLarge},
		{"as large as allowed", `"` + strings.Repeat("a", MaxData-2) + `"`, 0},
		{"one byte more", `"` + strings.Repeat("a", MaxData-1) + `"`, fault.TooLarge},
		{"empty", ``, fault.Invalid},
		{"half a document", `{"a":`, fault.Invalid},
		{"two documents", `{}{}`, fault.Invalid},
		{"raw NUL", "\"\x00\"", fault.Invalid},
		{"escaped NUL", `{"a":"b\u0000c"}`, fault.Invalid},
		{"escaped NUL in a key", `{"\u0000":1}`, fault.Invalid},
		{"escaped NUL after a backslash", `"\\\u0000"`, fault.Invalid},
		{"not UTF-8", "\"\xff\"", fault.Invalid},
		{"half a pair", `"\ud83d"`, fault.Invalid},
		{"half a pair and text", `"\ud83dABCDEFG"`, fault.Invalid},
		{"two high halves", `"\ud83d\ud83d"`, fault.Invalid},
		{"low half first", `"\ude00\ud83d"`, fault.Invalid},
	} {
		t.Run(c.name, func(t *testing.T) {
			wantKind(t, Data(ref, []byte(c.data)), c.want)
			if json.Valid([]byte(c.data)) && utf8.ValidString(c.data) {
				wantKind(t, Encoded(ref, []byte(c.data)), c.want)
			}
		})
	}
}

func TestSave(t *testing.T) {
	id := [16]byte{1}
	for _, c := range []struct {
		name string
		save object.Save
		want fault.Kind
	}{
		{"good", object.Save{Ref: ref, Data: []byte("{}"), SaveID: id}, 0},
		{"deletion", object.Save{Ref: ref, SaveID: id}, 0},
		{"no save id", object.Save{Ref: ref}, fault.Invalid},
		{"no type", object.Save{Ref: object.Ref{ID: "x"}, SaveID: id}, fault.Invalid},
		{"no id", object.Save{Ref: object.Ref{Type: "T"}, SaveID: id}, fault.Invalid},
		{"NUL in the id", object.Save{Ref: object.Ref{Type: "T", ID: "a\x00b"}, SaveID: id}, fault.Invalid},
		{"id not UTF-8", object.Save{Ref: object.Ref{Type: "T", ID: "\xff"}, SaveID: id}, fault.Invalid},
		{"long id", object.Save{Ref: object.Ref{Type: "T", ID: strings.Repeat("x", object.MaxIDLen+1)}, SaveID: id}, fault.TooLarge},
		{"empty data", object.Save{Ref: ref, Data: []byte{}, SaveID: id}, fault.Invalid},
	} {
		t.Run(c.name, func(t *testing.T) { wantKind(t, Save(&c.save), c.want) })
	}
}

func wantKind(t *testing.T, err error, want fault.Kind) {
	t.Helper()
	if want == 0 && err != nil {
		t.Fatalf("refused: %v", err)
	}
	if want != 0 && !errors.Is(err, &fault.Error{Kind: want}) {
		t.Fatalf("got %v, want an error of kind %q", err, want)
	}
}

// FuzzData holds the checks against encoding/json: what is admitted decodes, and
// decodes to strings without NUL.
func FuzzData(f *testing.F) {
	for _, s := range []string{`{"a":"\ud83d\ude00"}`, `"\\u0000"`, `"\u0000"`, `[[{}]]`, `"\ud83d`, `"\u12`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if Data(ref, data) != nil {
			return
		}
		var v any
		d := json.NewDecoder(bytes.NewReader(data))
		d.UseNumber()
		if err := d.Decode(&v); err != nil {
			t.Fatalf("admitted %q, which does not decode: %v", data, err)
		}
		if hasNUL(v) {
			t.Fatalf("admitted a NUL: %q", data)
		}
	})
}

func hasNUL(v any) bool {
	switch v := v.(type) {
	case string:
		return strings.ContainsRune(v, 0)
	case []any:
		return slices.ContainsFunc(v, hasNUL)
	case map[string]any:
		for k, e := range v {
			if hasNUL(k) || hasNUL(e) {
				return true
			}
		}
	}
	return false
}
