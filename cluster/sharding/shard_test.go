package sharding

import (
	"encoding/json"
	"flag"
	"fmt"
	"hash/fnv"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

var rewrite = flag.Bool("rewrite-golden", false, "write the golden files anew")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *rewrite {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(want) != string(got) {
		t.Errorf("%s differs; if that is meant, run with -rewrite-golden.\nwant:\n%s\ngot:\n%s", path, want, got)
	}
}

// Where an object lives must never change, whatever is done to this code: the
// published FNV-1a vectors by way of 2^32 shards, and a thousand ids.
func TestShardOfAnID(t *testing.T) {
	for id, want := range map[string]uint32{
		"": 0x811c9dc5, "a": 0xe40c292c, "b": 0xe70c2de5, "foobar": 0xbf9cf968, "chongo was here!\n": 0xd49930d5,
	} {
		if got := GetShardID(id, 1<<32-1); uint32(got) != want%(1<<32-1) {
			t.Errorf("FNV-1a of %q is %#x, want %#x", id, got, want)
		}
	}
	var b strings.Builder
	for i := range 1000 {
		id := fmt.Sprintf("ChatRoom-%d-%s", i, strings.Repeat("é", i%7))
		h := fnv.New32a()
		h.Write([]byte(id))
		got := GetShardID(id, NumShards)
		if want := int(h.Sum32() % NumShards); got != want {
			t.Errorf("%q is in shard %d, hash/fnv says %d", id, got, want)
		}
		if Of(id, NumShards) != ID(got) {
			t.Errorf("Of and GetShardID differ on %q", id)
		}
		fmt.Fprintf(&b, "%d %s\n", got, id)
	}
	golden(t, "ids.golden", []byte(b.String()))
}

func TestPinnedToAShard(t *testing.T) {
	hash := func(id string) int { h := fnv.New32a(); h.Write([]byte(id)); return int(h.Sum32() % NumShards) }
	for id, want := range map[string]int{
		"shard#0/x": 0, "shard#17/x": 17, "shard#8191/a/b": 8191, "shard#0017/x": 17, "shard#5/": 5,
		"shard#8192/x": hash("shard#8192/x"), "shard#-1/x": hash("shard#-1/x"), "shard#17": hash("shard#17"),
		"shard#/x": hash("shard#/x"), "shard#1e1/x": hash("shard#1e1/x"), "shard#00017/x": hash("shard#00017/x"),
		"Shard#17/x": hash("Shard#17/x"), " shard#17/x": hash(" shard#17/x"),
	} {
		if got := GetShardID(id, NumShards); got != want {
			t.Errorf("%q is in shard %d, want %d", id, got, want)
		}
	}
	if got := GetShardID("shard#17/x", 16); got != int(func() uint32 { h := fnv.New32a(); h.Write([]byte("shard#17/x")); return h.Sum32() }()%16) {
		t.Errorf("a shard that the cluster does not have must not be a pin, got %d", got)
	}
}

func TestPinnedToANode(t *testing.T) {
	for id, want := range map[string]string{
		"10.0.0.1:47000/x": "10.0.0.1:47000", "localhost:1/a/b": "localhost:1", "[::1]:80/x": "[::1]:80",
		"a:b/x": "", "room/7": "", "host:0/x": "", "host:65536/x": "", "host:80": "", "host:80/": "", ":80/x": "", "http://x": "", "a:1:2/x": "",
	} {
		got, ok := PinnedNode(id)
		if got != want || ok != (want != "") {
			t.Errorf("%q is pinned to %q (%v), want %q", id, got, ok, want)
		}
	}
}

// Every id has a shard, and a pin never names one that is not there.
func FuzzShardOfAnID(f *testing.F) {
	f.Add("shard#17/x", 16)
	f.Add("10.0.0.1:47000/x", 8192)
	f.Fuzz(func(t *testing.T, id string, n int) {
		n = n&(NumShards-1) + 1
		if got := GetShardID(id, n); got < 0 || got >= n {
			t.Errorf("%q is in shard %d of %d", id, got, n)
		}
		if address, ok := PinnedNode(id); ok && !strings.HasPrefix(id, address+"/") {
			t.Errorf("%q is pinned to %q", id, address)
		}
	})
}

func TestEncodedRecord(t *testing.T) {
	var d Decoder
	var b strings.Builder
	show := func(what string, s Shard) { fmt.Fprintf(&b, "%-9s %s\n", what, s.Encode("0a1b2c3d")) }
	fresh := NewTable(8192).Shard(17)
	show("targeted", fresh.Targeted("10.0.0.1:47000"))
	s, err := d.Decode(17, []byte(`{"e":8,"c":"10.0.0.1:47000","ci":"aa","t":"10.0.0.2:47000","h":"","n":"1","zone":"eu","w":[1, 2]}`))
	if err != nil {
		t.Fatal(err)
	}
	show("as it was", *s)
	show("targeted", s.Targeted("10.0.0.3:47000"))
	show("claimed", s.Claimed("10.0.0.2:47000", "bb"))
	show("released", s.Released())
	show("bumped", s.Bumped(41))
	show("bumped", s.Bumped(3))
	show("escaped", s.Targeted("a\"\\<\u2028é\x01"))
	golden(t, "records.golden", []byte(b.String()))
}

func TestUnreadableRecords(t *testing.T) {
	for _, raw := range []string{
		``, `null`, `7`, `[]`, `{`, `{"e":1`, `{"e":1}x`, `{"e":1}{}`, `{"e":-1}`, `{"e":"1"}`, `{"e":1.5}`, `{"e":18446744073709551616}`,
		`{"e":9223372036854775807}`, `{"e":1,"e":2}`, `{"e":1,"x":1,"x":2}`, `{"e":1,"c":7}`, `{"e":1,"c":"a"}`, `{"e":1,"ci":"a"}`,
		`{"e":0,"c":"a","ci":"b"}`, "{\"e\":1,\"t\":\"\xff\"}", `{"e":1,}`, `{e:1}`,
	} {
		var d Decoder
		if s, err := d.Decode(3, []byte(raw)); err == nil {
			t.Errorf("%q was read as %v", raw, s)
		}
	}
}

// Whatever is read must be written back with nothing lost, and the fast way must
// read what the general way reads.
func FuzzDecode(f *testing.F) {
	for _, raw := range []string{
		`{"e":1,"c":"a","ci":"x","t":"b","h":"","n":"00000000"}`, `{"e":0,"c":"","ci":"","t":"","h":"","n":""}`,
		`{"t":"b","e":3,"later":{"x":[1,null]},"n":"é"}`, `{"e":01,"c":"","ci":"","t":"","h":"","n":""}`, `{"e":1,"c":"\u0041"}`, `{`, `{"\u0065":7}`,
	} {
		f.Add([]byte(raw))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		var d Decoder
		s, err := d.Decode(5, raw)
		var slow Shard
		general := d.general(&slow, raw)
		if general == nil {
			general = slow.valid()
		}
		if (err == nil) != (general == nil) {
			t.Fatalf("Decode: %v, the general way: %v", err, general)
		}
		if err != nil {
			return
		}
		slow.ID, slow.raw = 5, raw
		if s.String() != slow.String() || s.extra != slow.extra || s.Handover != slow.Handover {
			t.Fatalf("Decode read %v %q, the general way %v %q", s, s.extra, &slow, slow.extra)
		}
		out := s.Encode("n1")
		again, err := d.Decode(5, out)
		if err != nil {
			t.Fatalf("%q became %q, which is unreadable: %v", raw, out, err)
		}
		if again.String() != s.String() || again.Handover != s.Handover || !sameMembers(t, raw, out) {
			t.Fatalf("%q became %q", raw, out)
		}
	})
}

// sameMembers compares two records but for the nonce and for members that only the
// second has.
func sameMembers(t *testing.T, before, after []byte) bool {
	var a, b map[string]json.RawMessage
	if json.Unmarshal(before, &a) != nil || json.Unmarshal(after, &b) != nil {
		t.Fatalf("not JSON: %q %q", before, after)
	}
	for name, value := range a {
		var x, y any
		if name == "n" {
			continue
		}
		if json.Unmarshal(value, &x) != nil || json.Unmarshal(b[name], &y) != nil || fmt.Sprint(x) != fmt.Sprint(y) && x != nil {
			return false
		}
	}
	return true
}

func BenchmarkDecode(b *testing.B) {
	raw := (&Shard{Epoch: 12, Current: "10.0.0.1:47000", Registration: strings.Repeat("a", 32), Target: "10.0.0.1:47000"}).Encode("01234567")
	var d Decoder
	b.ReportAllocs()
	for b.Loop() {
		if _, err := d.Decode(1, raw); err != nil {
			b.Fatal(err)
		}
	}
}
