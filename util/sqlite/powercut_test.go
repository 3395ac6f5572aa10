package sqlite

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/xiaonanln/goverse/object"
)

// The power fails at any instant: what was not synced is lost, in part or as a whole
// and in any order. strace records what a process writes and syncs; each image of the
// disk that could have been left must have all that was acknowledged by then.
func TestPowerCut(t *testing.T) {
	cuts := 25
	if testing.Short() {
		cuts = 6
	}
	path := tempPath(t)
	openDB(t, path).Close()
	before := readFile(t, path)
	events := record(t, path)
	acks, checkpoints := 0, 0
	for _, e := range events {
		if e.ack > 0 {
			acks++
		}
		if e.sync && e.file == "goverse.db" {
			checkpoints++
		}
	}
	if acks != cutSaves || checkpoints < 2 {
		t.Fatalf("%d acknowledgements and %d checkpoints were recorded, want %d and a few", acks, checkpoints, cutSaves)
	}
	for range cuts {
		at := rand.IntN(len(events) + 1)
		if err := cut(t, before, events[:at], false); err != nil {
			t.Errorf("the power fails before event %d of %d: %v", at, len(events), err)
		}
	}
	// On a disk that does not keep what it was told to sync, this must go wrong.
	const lying = 4
	lost := 0
	for range lying {
		if cut(t, before, events[:len(events)/2+rand.IntN(len(events)/2)], true) != nil {
			lost++
		}
	}
	if lost == 0 {
		t.Error("nothing was lost on a disk that syncs nothing: this test cannot fail")
	}
	t.Logf("%d cuts in %d events with %d checkpoints; a disk that syncs nothing lost acknowledged saves in %d of %d", cuts, len(events), checkpoints, lost, lying)
}

// cutSaves is how many commits are recorded; each has some 60 pages, so that the WAL
// is checkpointed and begun again now and then.
const cutSaves = 60

// countWide is what the recorded process does.
func countWide(ctx context.Context, p *Provider, out io.Writer) error {
	f, err := takeShard(ctx, p, 2)
	if err != nil {
		return err
	}
	pad := []byte(`"` + strings.Repeat("x", 6000) + `"`)
	for v := range uint64(cutSaves) {
		saves := []object.Save{{Ref: object.Ref{Type: "Count", ID: "x"}, Data: fmt.Append(nil, v+1)}}
		for i := range 30 {
			saves = append(saves, object.Save{Ref: object.Ref{Type: "Pad", ID: fmt.Sprint(i)}, Data: pad})
		}
		for i := range saves {
			saves[i].Base, saves[i].Shard, saves[i].Epoch, saves[i].SaveID = v, f.Shard, f.Epoch, [16]byte{1, byte(v), byte(i)}
		}
		vs, err := p.Commit(ctx, f.Owner, saves)
		if err != nil || vs[0].Kind != object.Committed {
			return fmt.Errorf("save %d: %+v, %w", v, vs, err)
		}
		fmt.Fprintln(out, "ack", v+1)
	}
	return nil
}

// diskEvent is one thing that a process did: it wrote or truncated a file, synced one,
// or acknowledged a save.
type diskEvent struct {
	file  string // its base name
	data  []byte
	at    int64
	trunc bool // to at
	sync  bool
	ack   uint64
}

// record runs countWide under strace.
func record(t *testing.T, path string) (events []diskEvent) {
	t.Helper()
	log := filepath.Join(t.TempDir(), "strace")
	o := spawn(t, "wide 0 "+path, needStrace(t), "-f", "-qq", "-y", "-xx", "-s", "70000", "-e", "signal=none",
		"-e", "trace=pwrite64,write,fsync,fdatasync,ftruncate", "-o", log)
	o.acks(1 << 30)
	if err := o.cmd.Wait(); err != nil {
		t.Fatalf("%v: %s", err, &o.stderr)
	}
	f, err := os.Open(log)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	begun := map[string]string{} // by thread: a call that others interrupted in the log
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		thread, call, _ := strings.Cut(lines.Text(), " ")
		call = strings.TrimSpace(call)
		if head, ok := strings.CutSuffix(call, " <unfinished ...>"); ok {
			begun[thread] = head
			continue
		}
		if _, tail, ok := strings.Cut(call, " resumed>"); ok && strings.HasPrefix(call, "<... ") {
			call = begun[thread] + tail
		}
		if e, ok := parseEvent(t, call); ok {
			events = append(events, e)
		}
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return events
}

// parseEvent reads a line such as: pwrite64(7<\x2f\x74>, "\x00\x01", 2, 4096) = 2
func parseEvent(t *testing.T, call string) (e diskEvent, ok bool) {
	t.Helper()
	name, rest, _ := strings.Cut(call, "(")
	fd, rest, _ := strings.Cut(rest, "<")
	path, rest, _ := strings.Cut(rest, ">")
	rest, result, _ := strings.Cut(rest, ") = ")
	if strings.HasPrefix(result, "-") {
		return e, false
	}
	args := strings.Split(strings.TrimPrefix(rest, ", "), ", ")
	e.file = filepath.Base(string(unhex(t, path)))
	ours := e.file == "goverse.db" || e.file == "goverse.db-wal"
	last, _ := strconv.ParseInt(args[len(args)-1], 10, 64)
	switch {
	case name == "write" && fd == "1":
		_, err := fmt.Sscanf(string(unhex(t, strings.Trim(args[0], `"`))), "ack %d", &e.ack)
		return e, err == nil
	case !ours:
		return e, false
	case name == "pwrite64":
		e.data, e.at = unhex(t, strings.Trim(args[0], `"`)), last
		if len(args) != 3 || result != fmt.Sprint(len(e.data)) {
			t.Fatalf("an event that cannot be read: %.100s", call)
		}
	case name == "ftruncate":
		e.trunc, e.at = true, last
	case name == "fsync", name == "fdatasync":
		e.sync = true
	default:
		t.Fatalf("a write of an unknown kind: %.100s", call)
	}
	return e, true
}

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, `\x`, ""))
	if err != nil {
		t.Fatalf("%.100q: %v", s, err)
	}
	return b
}

// cut makes the files as a power failure after events may leave them, and says what
// is missing in them. lies: syncs do nothing.
func cut(t *testing.T, before []byte, events []diskEvent, lies bool) error {
	t.Helper()
	files := map[string][]byte{"goverse.db": bytes.Clone(before)}
	pending := map[string][]diskEvent{}
	acknowledged := uint64(0)
	for _, e := range events {
		switch {
		case e.ack > 0:
			acknowledged = e.ack
		case e.sync && lies:
		case e.sync:
			for _, p := range pending[e.file] {
				files[e.file] = p.apply(files[e.file])
			}
			delete(pending, e.file)
		default:
			pending[e.file] = append(pending[e.file], e)
		}
	}
	for name, list := range pending {
		keeps := rand.IntN(3) // none, some, all
		rand.Shuffle(len(list), func(i, j int) {
			if keeps == 1 {
				list[i], list[j] = list[j], list[i]
			}
		})
		for _, p := range list {
			if keeps == 2 || keeps == 1 && rand.IntN(2) == 0 {
				files[name] = p.torn(keeps).apply(files[name])
			}
		}
	}
	dir := t.TempDir()
	for name, data := range files {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return survives(t, filepath.Join(dir, "goverse.db"), acknowledged)
}

// torn is a write of which only whole sectors arrived, if that may be.
func (e diskEvent) torn(keeps int) diskEvent {
	const sector = 512
	if keeps == 1 && len(e.data) > sector && rand.IntN(3) == 0 {
		e.data = e.data[:sector*(1+rand.IntN(len(e.data)/sector))]
	}
	return e
}

// apply changes a file, in place as far as it goes.
func (e diskEvent) apply(to []byte) []byte {
	end := int(e.at) + len(e.data)
	if end > len(to) {
		to = append(to, make([]byte, end-len(to))...)
	}
	if e.trunc {
		return to[:e.at]
	}
	copy(to[e.at:], e.data)
	return to
}

// survives opens an image: it is intact and has what was acknowledged.
func survives(t *testing.T, path string, acknowledged uint64) error {
	db, err := Open(t.Context(), Config{Path: path})
	if err != nil {
		return err
	}
	defer db.Close()
	w, err := db.takeWriter(t.Context())
	if err != nil {
		return err
	}
	err = db.check(t.Context(), w, `PRAGMA integrity_check`)
	db.putWriter(w)
	if err != nil {
		return err
	}
	r, err := NewSQLitePersistenceProvider(db).Load(t.Context(), object.Ref{Type: "Count", ID: "x"})
	if err != nil {
		return err
	}
	if r.Version < acknowledged || r.Version > acknowledged+1 || r.Version > 0 && string(r.Data) != fmt.Sprint(r.Version) {
		return fmt.Errorf("version %d was acknowledged, stored is version %d with %s", acknowledged, r.Version, r.Data)
	}
	return nil
}
