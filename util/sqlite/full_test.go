package sqlite

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/xiaonanln/goverse/object"
)

// The portable disk that is full: SQLite's own limit of pages.
func TestFull(t *testing.T) {
	k := newDesk(t, tempPath(t))
	limit := func(pages int) {
		w, err := k.db.takeWriter(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer k.db.putWriter(w)
		if _, err := w.text(t.Context(), fmt.Sprintf("PRAGMA max_page_count=%d", pages)); err != nil {
			t.Fatal(err)
		}
	}
	limit(60)
	fillUp(t, k, func() { limit(1 << 30) })
}

// fillUp saves until nothing fits any more, makes room and goes on.
func fillUp(t *testing.T, k *desk, room func()) {
	t.Helper()
	data := []byte(`"` + strings.Repeat("x", 20_000) + `"`)
	var refused object.Save
	acknowledged := 0
	for ; ; acknowledged++ {
		refused = k.save(fmt.Sprint(acknowledged), data)
		vs, err := k.Commit(t.Context(), k.Owner, []object.Save{refused})
		if err != nil {
			if !errors.Is(err, object.ErrNotCommitted) || troubleOf(err) != full {
				t.Logf("the disk is full: %v", err)
			}
			break
		}
		if vs[0].Kind != object.Committed {
			t.Fatal(vs[0])
		}
		if acknowledged > 1000 {
			t.Fatal("it never fills up")
		}
	}
	if acknowledged == 0 {
		t.Fatal("nothing was acknowledged: nothing was tested")
	}
	for range 3 {
		if vs, err := k.Commit(t.Context(), k.Owner, []object.Save{refused}); err == nil {
			t.Fatalf("acknowledged on a full disk: %+v", vs)
		}
	}
	wantAll(t, k, acknowledged)
	room()
	k.must(t, []object.Save{refused})
	wantAll(t, k, acknowledged+1)
	w, err := k.db.takeWriter(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer k.db.putWriter(w)
	if err := k.db.check(t.Context(), w, `PRAGMA integrity_check`); err != nil {
		t.Fatal(err)
	}
}

func wantAll(t *testing.T, k *desk, n int) {
	t.Helper()
	for i := range n {
		if r, err := k.Load(t.Context(), object.Ref{Type: "Bench", ID: fmt.Sprint(i)}); err != nil || r.Version != 1 || len(r.Data) != 20_002 {
			t.Fatalf("object %d of %d: version %d, %d bytes, %v", i, n, r.Version, len(r.Data), err)
		}
	}
}
