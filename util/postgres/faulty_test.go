package postgres

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/xiaonanln/goverse/object"
	"github.com/xiaonanln/goverse/test/pg"
)

// desk is a holder that saves without checking anything twice.
type desk struct {
	*Provider
	object.Fence
	next     uint64
	versions map[string]uint64
}

func newDesk(t testing.TB, p *Provider, shard int) *desk {
	t.Helper()
	d := &desk{Provider: p, Fence: object.Fence{Shard: shard, Epoch: 1, Owner: fmt.Sprint("n:1#desk", shard)}, versions: map[string]uint64{}}
	refused, err := p.Stamp(t.Context(), d.Owner, []object.Fence{d.Fence})
	if err != nil || len(refused) > 0 {
		t.Fatal(refused, err)
	}
	return d
}

func (d *desk) save(id string, data []byte) object.Save {
	d.next++
	s := object.Save{Ref: object.Ref{Type: "Desk", ID: id}, Data: data, Base: d.versions[id], Shard: d.Shard, Epoch: d.Epoch}
	s.SaveID = freshSaveID()
	return s
}

// must commits and demands that every save is taken.
func (d *desk) must(t testing.TB, saves ...object.Save) {
	t.Helper()
	vs, err := d.Commit(t.Context(), d.Owner, saves)
	if err != nil {
		t.Fatal(err)
	}
	for i, v := range vs {
		if v.Kind != object.Committed {
			t.Fatalf("save %d of %s: %+v", i, saves[i].Ref, v)
		}
		d.versions[saves[i].Ref.ID] = v.Version
	}
}

// repeat commits one save until the store answers, as a node does, and returns how
// often it had to.
func (d *desk) repeat(ctx context.Context, s object.Save) (object.Verdict, int, error) {
	for n := 1; ; n++ {
		try, cancel := context.WithTimeout(ctx, 5*time.Second)
		vs, err := d.Commit(try, d.Owner, []object.Save{s})
		cancel()
		if err == nil {
			return vs[0], n, nil
		}
		select {
		case <-ctx.Done():
			return object.Verdict{}, n, err
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// proxy is a network between the store and its server that can be cut.
type proxy struct {
	net.Listener
	to       string
	lose     atomic.Bool  // the server's next answer: the connection is cut in its place
	cutAfter atomic.Int64 // lose the one after so many answers; 0: none
	lost     atomic.Int64
	mu       sync.Mutex
	conns    []net.Conn
	wg       sync.WaitGroup
}

func newProxy(t testing.TB, to string) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{Listener: l, to: to}
	p.wg.Go(p.serve)
	t.Cleanup(func() {
		l.Close()
		p.mu.Lock()
		for _, c := range p.conns {
			c.Close()
		}
		p.mu.Unlock()
		p.wg.Wait()
	})
	return p
}

func (p *proxy) serve() {
	for {
		in, err := p.Accept()
		if err != nil {
			return
		}
		out, err := net.Dial("tcp", p.to)
		if err != nil {
			in.Close()
			continue
		}
		p.mu.Lock()
		p.conns = append(p.conns, in, out)
		p.mu.Unlock()
		p.wg.Go(func() { _, _ = io.Copy(out, in); out.Close() })
		p.wg.Go(func() { p.answers(in, out); in.Close(); out.Close() })
	}
}

// answers passes on what the server says, until an answer is to be lost.
func (p *proxy) answers(in, out net.Conn) {
	buf := make([]byte, 64<<10)
	for {
		n, err := out.Read(buf)
		if err != nil {
			return
		}
		if p.cutAfter.Load() > 0 && p.cutAfter.Add(-1) == 0 {
			p.lose.Store(true)
		}
		if p.lose.CompareAndSwap(true, false) {
			p.lost.Add(1)
			return
		}
		if _, err := in.Write(buf[:n]); err != nil {
			return
		}
	}
}

func (p *proxy) url(t testing.TB, dsn string) string {
	u := parsed(t, dsn)
	u.Host = p.Addr().String()
	return u.String()
}

// honest demands that what is said to be not committed is not there.
func (d *desk) honest(t testing.TB, url, id string, err error) {
	t.Helper()
	if !errors.Is(err, object.ErrNotCommitted) {
		return
	}
	const version = `SELECT coalesce((SELECT version FROM goverse_objects WHERE object_id=$1), 0)`
	if n := numberOf(t, url, version, id); n != int64(d.versions[id]) {
		t.Errorf("version %d was committed, in spite of: %v", n, err)
	}
}

// TestAnswerLost cuts the connection after a commit was sent, again and again: the
// outcome is unknown, and repeating the save unchanged settles it.
func TestAnswerLost(t *testing.T) {
	url := pg.Database(t)
	px := newProxy(t, parsed(t, url).Host)
	d := newDesk(t, NewPostgresPersistenceProvider(openURL(t, px.url(t, url))), 3)
	const saves = 40
	unknown := 0
	for n := range saves {
		save := d.save("a", fmt.Appendf(nil, `{"n":%d}`, n+1))
		if n%2 == 1 {
			px.lose.Store(true)
			_, err := d.Commit(t.Context(), d.Owner, []object.Save{save})
			if err == nil {
				t.Fatal("a commit without an answer is acknowledged")
			}
			if !errors.Is(err, object.ErrNotCommitted) {
				unknown++
			}
			d.honest(t, url, "a", err)
		}
		v, _, err := d.repeat(t.Context(), save)
		if err != nil || v.Kind != object.Committed || v.Version != uint64(n+1) {
			t.Fatalf("save %d: %+v, %v", n+1, v, err)
		}
		d.versions["a"] = v.Version
	}
	if lost := px.lost.Load(); lost != saves/2 || unknown < saves/4 {
		t.Errorf("%d answers were lost and %d outcomes unknown (one may be lost before the save is sent), want %d", lost, unknown, saves/2)
	}
	if n := numberOf(t, url, `SELECT version FROM goverse_objects WHERE object_id='a'`); n != saves {
		t.Errorf("version %d after %d saves", n, saves)
	}
}

// TestNotSent has no server at all: surely nothing was committed.
func TestNotSent(t *testing.T) {
	url := pg.Database(t)
	px := newProxy(t, parsed(t, url).Host)
	d := newDesk(t, NewPostgresPersistenceProvider(openURL(t, px.url(t, url))), 3)
	px.Close()
	d.db.pool.Reset()
	_, err := d.Commit(t.Context(), d.Owner, []object.Save{d.save("a", []byte("1"))})
	if !errors.Is(err, object.ErrNotCommitted) {
		t.Errorf("%v, want ErrNotCommitted", err)
	}
}

// TestRestart restarts the server at once, several times, while eight lanes save:
// whatever was acknowledged is there, and each version is one save.
func TestRestart(t *testing.T) {
	s := pg.Private(t)
	url := s.Database(t)
	restarts := 6
	if testing.Short() {
		restarts = 2
	}
	reached := load(t, url, func(progress func(n int)) {
		for range restarts {
			progress(40)
			if err := s.Restart(); err != nil {
				t.Error(err)
				return
			}
		}
		progress(40)
	})
	t.Log("saves:", reached)
}

// TestTerminated ends the connections in the middle of commits.
func TestTerminated(t *testing.T) {
	url := pg.Database(t)
	var ended int64
	reached := load(t, url, func(progress func(n int)) {
		for range 25 {
			progress(5)
			ended += numberOf(t, url, `SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name LIKE 'goverse:%' AND datname=current_database()`)
		}
	})
	t.Log("saves:", reached, "connections ended:", ended)
	if ended < 25 {
		t.Errorf("only %d connections were ended", ended)
	}
}

// load lets eight holders save one object each, without a pause, while trouble makes
// trouble; progress waits for some more acknowledgements. Afterwards each object must
// be at the version that was acknowledged last, made by exactly that many saves.
func load(t *testing.T, url string, trouble func(progress func(n int))) (saves int64) {
	sqlOf(t, url, `CREATE TABLE audit (id text, version bigint, PRIMARY KEY (id, version))`)
	p := NewPostgresPersistenceProvider(openURL(t, url))
	sqlOf(t, url,
		`CREATE FUNCTION audit() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO audit VALUES (NEW.object_id, NEW.version); RETURN NEW; END $$`,
		`CREATE TRIGGER audit AFTER INSERT OR UPDATE ON goverse_objects FOR EACH ROW EXECUTE FUNCTION audit()`)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	const lanes = 8
	var acks atomic.Int64
	desks, errs := make([]*desk, lanes), make([]error, lanes)
	for i := range desks {
		desks[i] = newDesk(t, p, i)
	}
	var wg sync.WaitGroup
	for i, d := range desks {
		wg.Go(func() { errs[i] = d.saveOn(ctx, &acks) })
	}
	trouble(func(n int) {
		for until, from := time.Now().Add(30*time.Second), acks.Load(); acks.Load() < from+int64(n); runtime.Gosched() {
			if time.Now().After(until) {
				t.Errorf("no %d saves in 30 s", n)
				return
			}
			time.Sleep(time.Millisecond)
		}
	})
	cancel()
	wg.Wait()
	for i, d := range desks {
		if errs[i] != nil {
			t.Error(errs[i])
		}
		id := fmt.Sprint("lane", i)
		version := numberOf(t, url, `SELECT version FROM goverse_objects WHERE object_id=$1`, id)
		if version != int64(d.versions[id]) {
			t.Errorf("%s is at version %d, %d was acknowledged", id, version, d.versions[id])
		}
		if n := numberOf(t, url, `SELECT count(*) FROM audit WHERE id=$1`, id); n != version {
			t.Errorf("%s is at version %d after %d saves", id, version, n)
		}
		saves += version
	}
	return saves
}

// saveOn saves until ctx ends; the save that is under way then is still settled.
func (d *desk) saveOn(ctx context.Context, acks *atomic.Int64) error {
	id := fmt.Sprint("lane", d.Shard)
	for ctx.Err() == nil {
		settle, cancel := context.WithTimeout(context.Background(), time.Minute)
		v, _, err := d.repeat(settle, d.save(id, fmt.Appendf(nil, `{"n":%d}`, d.versions[id]+1)))
		cancel()
		if err != nil {
			return err
		}
		if v.Kind != object.Committed || v.Version != d.versions[id]+1 {
			return fmt.Errorf("%s at version %d: %+v", id, d.versions[id], v)
		}
		d.versions[id] = v.Version
		acks.Add(1)
	}
	return nil
}

// TestFrozenHolder stops a process that holds a fence in the middle of a transaction:
// a take-over does not wait for it, and what it does when it goes on has no effect.
func TestFrozenHolder(t *testing.T) {
	url := pg.Database(t)
	p := NewPostgresPersistenceProvider(openURL(t, url))
	child := spawn(t, "sit", url)
	if line := child.line(t); line != "sitting" {
		t.Fatal(line)
	}
	if err := child.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	refused, err := p.Stamp(t.Context(), "n:2#heir", []object.Fence{{Shard: 5, Epoch: 2}})
	took := time.Since(began)
	if err != nil || len(refused) > 0 {
		t.Fatal(refused, err)
	}
	t.Log("the take-over took", took)
	if took > 2*time.Second {
		t.Errorf("the take-over took %v", took)
	}
	if err := child.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if err := child.cmd.Wait(); err == nil {
		t.Error("the old holder has committed")
	}
	if r, err := p.Load(t.Context(), object.Ref{Type: "T", ID: "sat"}); err != nil || r.Version != 0 {
		t.Errorf("the old holder's save is there: %+v, %v", r, err)
	}
	if lost, err := p.Confirm(t.Context(), frozen.Owner, []object.Fence{frozen}); err != nil || len(lost) != 1 {
		t.Errorf("confirm of the old holder: %v, %v", lost, err)
	}
}

// TestBadRowsAlone has a batch in which some states pass every check but the server's.
func TestBadRowsAlone(t *testing.T) {
	url := pg.Database(t)
	d := newDesk(t, NewPostgresPersistenceProvider(openURL(t, url)), 3)
	var saves []object.Save
	for i := range 64 {
		data := fmt.Appendf(nil, `{"n":%d}`, i)
		if i%20 == 7 {
			data = []byte(`{"n":1e200000}`)
		}
		saves = append(saves, d.save(fmt.Sprint(i), data))
	}
	vs, err := d.Commit(t.Context(), d.Owner, saves)
	if err != nil {
		t.Fatal(err)
	}
	for i, v := range vs {
		if bad := i%20 == 7; bad != (v.Kind == object.Rejected) || !bad && v.Kind != object.Committed {
			t.Errorf("save %d: %+v", i, v)
		}
	}
	if !strings.Contains(vs[7].Err.Error(), "Desk/7") {
		t.Error(vs[7].Err)
	}
	if n := numberOf(t, url, `SELECT count(*) FROM goverse_objects`); n != 61 {
		t.Errorf("%d objects, want 61", n)
	}
}

// TestEditedByHand loads what somebody has written into a row: it is handed out as it
// is and not changed.
func TestEditedByHand(t *testing.T) {
	url := pg.Database(t)
	d := newDesk(t, NewPostgresPersistenceProvider(openURL(t, url)), 3)
	d.must(t, d.save("a", []byte(`{"n":1}`)))
	sqlOf(t, url, `UPDATE goverse_objects SET data='"nonsense"', version=version+1`)
	r, err := d.Load(t.Context(), object.Ref{Type: "Desk", ID: "a"})
	if err != nil || string(r.Data) != `"nonsense"` || r.Version != 2 {
		t.Errorf("%s, %d, %v", r.Data, r.Version, err)
	}
	vs, err := d.Commit(t.Context(), d.Owner, []object.Save{d.save("a", []byte(`{"n":2}`))})
	if err != nil || vs[0].Kind != object.Conflict {
		t.Errorf("a save over the edited row: %+v, %v", vs, err)
	}
	if n := numberOf(t, url, `SELECT count(*) FROM goverse_objects WHERE data='"nonsense"'`); n != 1 {
		t.Error("the row was changed")
	}
}

// TestReadOnlyUnderway has the database become read-only under a running program.
func TestReadOnlyUnderway(t *testing.T) {
	url := pg.Database(t)
	d := newDesk(t, NewPostgresPersistenceProvider(openURL(t, url)), 3)
	sqlOf(t, url, `ALTER DATABASE `+nameOf(t, url)+` SET default_transaction_read_only=on`)
	d.db.pool.Reset()
	_, err := d.Commit(t.Context(), d.Owner, []object.Save{d.save("a", []byte("1"))})
	if !errors.Is(err, object.ErrNotCommitted) || !errors.Is(err, ErrUnfit) {
		t.Error(err)
	}
}

func TestDuplicateSaveIDs(t *testing.T) {
	d := newDesk(t, NewPostgresPersistenceProvider(openURL(t, pg.Database(t))), 3)
	a, b := d.save("a", []byte("1")), d.save("b", []byte("2"))
	b.SaveID = a.SaveID
	vs, err := d.Commit(t.Context(), d.Owner, []object.Save{a, b})
	if err != nil || vs[0].Kind != object.Committed || vs[1].Kind != object.Rejected {
		t.Errorf("%+v, %v", vs, err)
	}
}

// TestLockedFence has a holder that sits on its fence for ever: one that waits for its
// client is ended after the first wait for the lock, one that works a little later. A
// stranger's transaction is left alone, and the claimant is told.
func TestLockedFence(t *testing.T) {
	url := pg.Database(t)
	p := NewPostgresPersistenceProvider(openURL(t, url))
	for n, c := range []struct {
		name, work string
		freed      bool
	}{{"frozen", `SELECT 1`, true}, {"frozen", `SELECT pg_sleep(60)`, true}, {"stranger", `SELECT 1`, false}} {
		owner := fmt.Sprint("n:1#frozen", n)
		f := object.Fence{Shard: n, Epoch: 1}
		if _, err := p.Stamp(t.Context(), owner, []object.Fence{f}); err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		c1, err := pgx.Connect(t.Context(), url)
		if err != nil {
			t.Fatal(err)
		}
		name := strings.Replace(sessionName(owner), "frozen", c.name, 1)
		if _, err := c1.Exec(t.Context(), `SELECT set_config('application_name', $1, false)`, name); err != nil {
			t.Fatal(err)
		}
		lock := fmt.Sprintf(`BEGIN; SELECT 1 FROM goverse_shards WHERE shard_id=%d FOR SHARE`, n)
		if err := c1.PgConn().Exec(t.Context(), lock).Close(); err != nil {
			t.Fatal(err)
		}
		go func() { ended <- c1.PgConn().Exec(t.Context(), c.work).Close() }()
		if c.work == `SELECT 1` {
			if err := <-ended; err != nil {
				t.Fatal(err)
			}
			ended <- nil
		}
		f.Epoch = 2
		began := time.Now()
		refused, err := p.Stamp(t.Context(), "n:2#heir", []object.Fence{f})
		if c.freed != (err == nil) || len(refused) > 0 {
			t.Errorf("%s, %s: %+v, %v", c.name, c.work, refused, err)
		}
		if !c.freed && !strings.Contains(err.Error(), "locked by somebody else") {
			t.Error(err)
		}
		t.Logf("%s, %s: the stamp took %v", c.name, c.work, time.Since(began))
		<-ended
		if alive := c1.Ping(t.Context()) == nil; alive == c.freed {
			t.Errorf("%s, %s: the connection is alive: %v", c.name, c.work, alive)
		}
		_ = c1.Close(context.Background())
	}
}
