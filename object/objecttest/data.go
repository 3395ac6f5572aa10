package objecttest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/big"
	"reflect"
	"strings"

	"github.com/xiaonanln/goverse/object"
)

func dataChecks() []check {
	return []check{
		{name: "Fidelity", keeps: "a state is the same JSON when it comes back, to the last digit", run: fidelity, needs: fenced},
		{name: "BadData", keeps: "what is no storable JSON is Rejected alone", run: badDataRejected, needs: fenced},
		{name: "BadNames", keeps: "what is no storable name is Rejected alone", run: badNames, needs: fenced},
		{name: "Oversize", keeps: "4 MiB of state are kept, one byte more is Rejected", run: oversize, needs: fenced},
	}
}

const mib = 1 << 20

// goodData is JSON that a careless store changes.
func goodData() map[string][]byte {
	return map[string][]byte{
		"numbers":  []byte(`{"n":[9007199254740993,18446744073709551615,-9223372036854775808,0.1,1e308,5e-324,123456789012345678901234567890.123456789]}`),
		"unicode":  []byte(`{"s":"é 漢字 😀 \u00e9 \ud83d\ude00 \u2028 \u0001 \u007f \\u0000"}`),
		"escapes":  []byte(`{"s":"\"\\\/\b\f\n\r\t<>&'"}`),
		"scalars":  []byte(`[true,false,null,"",0,-0.0]`),
		"null":     []byte(`null`),
		"string":   []byte(`"text"`),
		"keys":     []byte(`{"":1," ":2,"a.b":{"$c":3},"@type":"type.googleapis.com/kit.State"}`),
		"nested":   []byte(strings.Repeat(`{"a":[`, 100) + `1` + strings.Repeat(`]}`, 100)),
		"wide":     []byte(`{"s":"` + strings.Repeat("0123456789", 20_000) + `"}`),
		"nothing":  []byte(`{}`),
		"int64 in": []byte(`{"int64":"9223372036854775807","bytes":"AP8="}`),
	}
}

// badData is what every fenced store refuses, so that stores behave alike.
func badData() map[string][]byte {
	return map[string][]byte{
		"escaped NUL":     []byte(`{"s":"a\u0000b"}`),
		"NUL in a key":    []byte(`{"\u0000":1}`),
		"raw NUL":         []byte("{\"s\":\"\x00\"}"),
		"half a document": []byte(`{"a":`),
		"no JSON":         []byte(`hello`),
		"no bytes":        {},
		"not UTF-8":       []byte("{\"s\":\"\xff\"}"),
		"half a pair":     []byte(`{"s":"\ud83d"}`),
		"too deep":        []byte(strings.Repeat("[", 1001) + strings.Repeat("]", 1001)),
	}
}

func fidelity(ctx context.Context, k *kit) error {
	h, err := k.hold(ctx, "a")
	if err != nil {
		return err
	}
	for name, data := range goodData() {
		if err := h.wrote(ctx, k.ref(name), data, 0); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if err := k.wantRecord(ctx, k.ref(name), data, 1); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

func badDataRejected(ctx context.Context, k *kit) error {
	for name, data := range badData() {
		if err := k.rejectedAlone(ctx, k.ref(name), data); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

func badNames(ctx context.Context, k *kit) error {
	for name, ref := range map[string]object.Ref{
		"empty id":     {Type: "Kit"},
		"empty type":   {ID: k.tag},
		"NUL in id":    {Type: "Kit", ID: "a\x00" + k.tag},
		"NUL in type":  {Type: "Kit\x00", ID: k.tag},
		"id not UTF-8": {Type: "Kit", ID: k.tag + "\xff"},
		"long id":      {Type: "Kit", ID: k.tag + strings.Repeat("x", 513-len(k.tag))},
	} {
		if err := k.rejectedAlone(ctx, ref, doc(1)); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

func oversize(ctx context.Context, k *kit) error {
	full := []byte(`"` + strings.Repeat("a", 4*mib-2) + `"`)
	h, err := k.hold(ctx, "a")
	if err != nil {
		return err
	}
	return steps(
		func() error { return h.wrote(ctx, k.ref("full"), full, 0) },
		func() error { return k.wantRecord(ctx, k.ref("full"), full, 1) },
		func() error {
			return k.rejectedAlone(ctx, k.ref("over"), []byte(`"`+strings.Repeat("a", 4*mib-1)+`"`))
		},
	)
}

// rejectedAlone commits a bad save between two good ones.
func (k *kit) rejectedAlone(ctx context.Context, bad object.Ref, data []byte) error {
	h, err := k.hold(ctx, "a")
	if err != nil {
		return err
	}
	before, after := k.ref("before"+object.NewID()), k.ref("after"+object.NewID())
	vs, err := h.commit(ctx, h.save(before, doc(1), 0), h.save(bad, data, 0), h.save(after, doc(2), 0))
	if err != nil {
		return fmt.Errorf("the whole commit failed: %w", err)
	}
	return steps(
		func() error { return wantVerdict(vs[0], object.Committed, 1) },
		func() error { return wantVerdict(vs[1], object.Rejected, 0) },
		func() error { return wantVerdict(vs[2], object.Committed, 1) },
		func() error { return k.wantRecord(ctx, before, doc(1), 1) },
		func() error { return k.wantRecord(ctx, after, doc(2), 1) },
		func() error {
			if strings.TrimSpace(bad.ID) == "" || bad.Type == "" || strings.ContainsRune(bad.ID+bad.Type, 0) {
				return nil // a name that a store may refuse to look for
			}
			r, err := k.fp.Load(ctx, bad)
			if err == nil && r.Version != 0 {
				return fmt.Errorf("the rejected save was stored at version %d", r.Version)
			}
			return nil
		},
	)
}

// same compares JSON by meaning: white space, the order of keys and the spelling of
// a number or of a character do not count. Data that is no JSON is compared as bytes.
func same(got, want []byte) error {
	if bytes.Equal(got, want) && (got == nil) == (want == nil) {
		return nil
	}
	a, errA := decode(got)
	b, errB := decode(want)
	if got == nil || want == nil || errA != nil || errB != nil || !reflect.DeepEqual(a, b) {
		return fmt.Errorf("stored is %s, want %s", short(got), short(want))
	}
	return nil
}

func decode(data []byte) (v any, err error) {
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	if err := d.Decode(&v); err != nil {
		return nil, err
	}
	return canonical(v), nil
}

// canonical replaces each number by its exact value.
func canonical(v any) any {
	switch v := v.(type) {
	case json.Number:
		if r, ok := new(big.Rat).SetString(v.String()); ok {
			return "number " + r.RatString()
		}
	case []any:
		for i := range v {
			v[i] = canonical(v[i])
		}
	case map[string]any:
		for key := range v {
			v[key] = canonical(v[key])
		}
	}
	return v
}

func short(data []byte) string {
	switch {
	case data == nil:
		return "nothing"
	case len(data) > 200:
		return fmt.Sprintf("%q... (%d bytes)", data[:200], len(data))
	default:
		return fmt.Sprintf("%q", data)
	}
}
