package embedded

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	bolt "go.etcd.io/bbolt"
)

// boltFile is a database as etcd's backend writes one, with n keys.
func boltFile(t testing.TB, n int, noFreelist bool) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "db")
	db, err := bolt.Open(path, 0o600, &bolt.Options{NoFreelistSync: noFreelist, PageSize: 4096})
	if err != nil {
		t.Fatal(err)
	}
	for i := range n/100 + 1 { // several commits leave free pages behind
		err := db.Update(func(tx *bolt.Tx) error {
			for _, name := range []string{"big", "meta", "empty"} {
				if _, err := tx.CreateBucketIfNotExists([]byte(name)); err != nil {
					return err
				}
			}
			for j := i * 100; j < min(n, i*100+100); j++ {
				value := bytes.Repeat([]byte{byte(j)}, j%200)
				if j == 7 {
					value = make([]byte, 20000) // overflows its page
				}
				if err := tx.Bucket([]byte("big")).Put(fmt.Appendf(nil, "key/%06d", j), value); err != nil {
					return err
				}
			}
			return tx.Bucket([]byte("meta")).Put([]byte("index"), []byte{byte(i)})
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func check(text []byte, visit visitor) error {
	return checkPages(bytes.NewReader(text), int64(len(text)), visit)
}

func TestCheckPagesSeesEveryKey(t *testing.T) {
	for _, noFreelist := range []bool{true, false} {
		for _, n := range []int{0, 1, 10, 1000, 5000} {
			seen := map[string]int{}
			err := check(boltFile(t, n, noFreelist), func(bucket string, key, value []byte) error {
				if bucket == "big" && string(key) != fmt.Sprintf("key/%06d", seen[bucket]) {
					return fmt.Errorf("key %q as number %d", key, seen[bucket])
				}
				seen[bucket]++
				return nil
			})
			if err != nil || seen["big"] != n || seen["meta"] != 1 || len(seen) > 2 {
				t.Errorf("%d keys, free list %v: %v, %v", n, !noFreelist, seen, err)
			}
		}
	}
}

// Each rule that bbolt relies on, broken one at a time in a sound file.
func TestCheckPagesRefuses(t *testing.T) {
	sound := boltFile(t, 1000, true)
	m, err := readMeta(bytes.NewReader(sound))
	if err != nil {
		t.Fatal(err)
	}
	branch, leaf := findPage(t, sound, m, branchPage, 2), findPage(t, sound, m, leafPage, 10)
	set := binary.LittleEndian
	for name, breakIt := range map[string]func(text []byte){
		"a page that is another":          func(b []byte) { set.PutUint64(b[leaf:], 1) },
		"a page of no kind":               func(b []byte) { set.PutUint16(b[leaf+8:], 0) },
		"a page of two kinds":             func(b []byte) { set.PutUint16(b[leaf+8:], branchPage|leafPage) },
		"overflow out of the file":        func(b []byte) { set.PutUint32(b[leaf+12:], 1<<31) },
		"overflow into another page":      func(b []byte) { set.PutUint32(b[leaf+12:], 3) },
		"more elements than a page holds": func(b []byte) { set.PutUint16(b[leaf+10:], 0xffff) },
		"a key outside":                   func(b []byte) { set.PutUint32(b[leaf+headSize+4:], 1<<32-1) },
		"a value outside":                 func(b []byte) { set.PutUint32(b[leaf+headSize+12:], 1<<32-1) },
		"an element of no kind":           func(b []byte) { set.PutUint32(b[leaf+headSize:], 2) },
		"a bucket in a bucket":            func(b []byte) { set.PutUint32(b[leaf+headSize:], bucketElem) },
		"keys out of order":               func(b []byte) { swapKeys(b[leaf:]) },
		"a branch without children":       func(b []byte) { set.PutUint16(b[branch+10:], 0) },
		"a child outside":                 func(b []byte) { set.PutUint64(b[branch+headSize+8:], m.high) },
		"a child that is a head":          func(b []byte) { set.PutUint64(b[branch+headSize+8:], 1) },
		"a child that is its parent":      func(b []byte) { set.PutUint64(b[branch+headSize+8:], uint64(branch)/m.pageSize) },
		"a child of two parents": func(b []byte) {
			set.PutUint64(b[branch+headSize+8:], set.Uint64(b[branch+headSize+elemSize+8:]))
		},
		"a key that its parent does not expect": func(b []byte) {
			key := branch + headSize + elemSize + int(set.Uint32(b[branch+headSize+elemSize:]))
			copy(b[key:], "kez")
		},
	} {
		broken := bytes.Clone(sound)
		breakIt(broken)
		if err := check(broken, func(string, []byte, []byte) error { return nil }); err == nil {
			t.Errorf("%s: it passed", name)
		} else {
			t.Logf("%s: %v", name, err)
		}
	}
}

// findPage is the offset of a page in use of this kind with at least n elements.
func findPage(t *testing.T, text []byte, m meta, flags uint16, n int) int {
	t.Helper()
	p := &pages{file: bytes.NewReader(text), meta: m, seen: map[uint64]bool{}, visit: func(string, []byte, []byte) error { return nil }}
	if err := p.bucket("", m.root); err != nil {
		t.Fatal(err)
	}
	for _, id := range slices.Sorted(maps.Keys(p.seen)) {
		if one := newPage(text[id*m.pageSize:]); one.flags == flags && one.count >= n {
			return int(id * m.pageSize)
		}
	}
	t.Fatalf("no page of kind %d with %d elements", flags, n)
	return 0
}

// swapKeys makes the first two elements of a leaf change places.
func swapKeys(leaf []byte) {
	first, second := leaf[headSize:headSize+elemSize], leaf[headSize+elemSize:headSize+2*elemSize]
	a, b := bytes.Clone(first), bytes.Clone(second)
	copy(first, b)
	copy(second, a)
	le.PutUint32(first[4:], le.Uint32(b[4:])+elemSize) // positions count from the element
	le.PutUint32(second[4:], le.Uint32(a[4:])-elemSize)
}

func FuzzCheckPages(f *testing.F) {
	bases := [][]byte{boltFile(f, 30, true), boltFile(f, 10, false), boltFile(f, 1000, true), nil}
	f.Add(uint8(0), uint32(0), []byte{})
	f.Add(uint8(1), uint32(4096*3), []byte{1})
	f.Add(uint8(2), uint32(4096*4+10), []byte{0xff, 0xff})
	f.Add(uint8(3), uint32(0), []byte("x"))
	f.Fuzz(func(t *testing.T, base uint8, at uint32, patch []byte) {
		text := bytes.Clone(bases[int(base)%len(bases)])
		if len(text) == 0 {
			text = patch
		} else {
			copy(text[int(at)%len(text):], patch)
		}
		_ = check(text, func(bucket string, key, value []byte) error { // it must come back
			return checkRevision(key, value)
		})
	})
}
