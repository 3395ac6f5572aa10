package telemetry

import (
	"bytes"
	"errors"
	"log/slog"
	"reflect"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/xiaonanln/goverse/internal/event"
	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/util/logger"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// record returns a listener and what it wrote, without the times.
func record(level slog.Level, o LogOptions) (event.Listener, func() string) {
	out := new(locked)
	l := logger.New(slog.New(logger.NewTextHandler(out, level)))
	return Log(l, o), func() string {
		const timestamp = len("2006-01-02 15:04:05.000 ")
		var lines []string
		for _, line := range strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n") {
			if line != "" && line[0] != '\t' {
				line = line[timestamp:]
			}
			lines = append(lines, line)
		}
		return strings.Join(lines, "\n")
	}
}

type locked struct {
	mu sync.Mutex
	bytes.Buffer
}

func (l *locked) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.Buffer.Write(b)
}

func TestLines(t *testing.T) {
	l, written := record(slog.LevelDebug, LogOptions{Operations: true})
	l.CallDone(event.CallDone{Type: "ChatRoom", ID: "ChatRoom-general", Method: "SendMessage", Took: time.Second})
	l.CallDone(event.CallDone{Type: "ChatRoom", ID: "a b", Method: "Join", Took: time.Second, Err: fault.New(fault.Overloaded, "queue full")})
	l.ObjectCreated(event.ObjectCreated{Type: "UserProfile", ID: "user-123"})
	l.ObjectDeleted(event.ObjectDeleted{Type: "GameSession", ID: "game-456"})
	l.ObjectActivated(event.ObjectActivated{Type: "ChatRoom", ID: "a", Stored: true})
	l.ObjectDeactivated(event.ObjectDeactivated{Type: "ChatRoom", ID: "a", Reason: "idle"})
	l.MethodPanicked(event.MethodPanicked{Type: "ChatRoom", ID: "a", Method: "Join", Value: errors.New("nil map"), Stack: []byte("goroutine 7:\nmain.main()\n")})
	l.MethodStuck(event.MethodStuck{Type: "ChatRoom", ID: "a", Method: "Join", Runs: 90 * time.Second})
	l.MethodStuck(event.MethodStuck{Type: "ChatRoom", ID: "a", Method: "Join", Runs: 90 * time.Second, Stacks: []byte("goroutine 8:\n")})
	l.CommitDone(event.CommitDone{Objects: 3, Took: time.Millisecond})
	l.CommitDone(event.CommitDone{Objects: 3, Took: time.Millisecond, Err: errors.New("disk full")})
	l.SessionOpened(event.SessionOpened{ClientID: "gate:1/x"})
	l.SessionClosed(event.SessionClosed{ClientID: "gate:1/x", Reason: "gone"})
	l.ViewChanged(event.ViewChanged{Revision: 9})
	l.LeaderChanged(event.LeaderChanged{Leader: "a:1", Term: 2})
	l.LeaderChanged(event.LeaderChanged{Term: 3})
	l.Coordination(event.Coordination{Step: "claim", Detail: "17 @9"})
	l.Coordination(event.Coordination{Step: "claim", Detail: "17 @9", Err: errors.New("lost the race")})
	l.Coordination(event.Coordination{Step: "register"})
	l.Notice(event.Notice{Severity: event.Info, From: "gate", Text: "listening"})
	l.Notice(event.Notice{Severity: event.Warn, From: "etcd", Text: "slow", Err: errors.New("2 s")})
	l.Notice(event.Notice{Severity: event.Alarm, From: "store", Text: "damaged"})
	want := `INFO: CallObject objType=ChatRoom id=ChatRoom-general method=SendMessage
INFO: CallObject objType=ChatRoom id="a b" method=Join took=1s outcome=NotExecuted err="overloaded: queue full"
INFO: CreateObject objType=UserProfile id=user-123
INFO: DeleteObject objType=GameSession id=game-456
DEBUG: activated objType=ChatRoom id=a stored=true
DEBUG: deactivated objType=ChatRoom id=a reason=idle
ERROR: panic objType=ChatRoom id=a method=Join value="nil map"
	stack:
	goroutine 7:
	main.main()
ERROR: a method does not end objType=ChatRoom id=a method=Join runs=1m30s
ERROR: a method does not end objType=ChatRoom id=a method=Join runs=1m30s
	stack:
	goroutine 8:
WARN: commit failed objects=3 took=1ms err="disk full"
INFO: client connected client=gate:1/x
INFO: client disconnected client=gate:1/x reason=gone
DEBUG: view changed revision=9
INFO: leader changed leader=a:1 term=2
DEBUG: no leader term=3
DEBUG: claim: 17 @9
WARN: claim: 17 @9: lost the race
DEBUG: register
INFO: gate: listening
WARN: etcd: slow: 2 s
ERROR: store: damaged`
	if got := written(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// Eight thousand shards are a line, and what comes later is another.
func TestSums(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, written := record(slog.LevelInfo, LogOptions{})
		for shard := range 8192 {
			l.ShardOpened(event.ShardOpened{Shard: shard, Epoch: 1})
		}
		time.Sleep(every)
		synctest.Wait()
		for shard := range 3 {
			l.ShardOpened(event.ShardOpened{Shard: shard, Epoch: 3})
		}
		time.Sleep(every)
		synctest.Wait()
		l.ShardClosed(event.ShardClosed{Shard: 1, Reason: "lease lost"})
		time.Sleep(every)
		synctest.Wait()
		l.PushDropped(event.PushDropped{ClientID: "g/1", Count: 40, Reason: "too slow"})
		l.PushDropped(event.PushDropped{ClientID: "g/2", Count: 2, Reason: "too slow"})
		time.Sleep(every)
		synctest.Wait()
		want := `INFO: shards opened count=8192
INFO: shards opened count=3
INFO: shards closed count=1 reason="lease lost"
WARN: pushes dropped count=42 reason="too slow"`
		if got := written(); got != want {
			t.Errorf("got\n%s\nwant\n%s", got, want)
		}
	})
}

// measured is what happens too often for a line: metrics alone hear of it.
var measured = map[string]bool{"TurnAwaited": true, "TurnDone": true, "StoreDone": true, "EtcdDone": true, "PushPassed": true}

// Every event is listened to, calls only when asked for, and nothing is built for a
// level that is off.
func TestEveryEventIsHeard(t *testing.T) {
	for _, on := range []bool{false, true} {
		l := reflect.ValueOf(Log(nil, LogOptions{Operations: on}))
		for i := range l.NumField() {
			if name := l.Type().Field(i).Name; l.Field(i).IsNil() == ((on || name != "CallDone") && !measured[name]) {
				t.Errorf("operations %v: %s is heard: %v", on, name, !l.Field(i).IsNil())
			}
		}
	}
	quiet, written := record(logger.LevelOff, LogOptions{Operations: true})
	n := testing.AllocsPerRun(100, func() {
		quiet.CallDone(event.CallDone{Type: "ChatRoom"})
		quiet.SessionOpened(event.SessionOpened{})
		quiet.ViewChanged(event.ViewChanged{})
		quiet.Coordination(event.Coordination{Step: "claim", Detail: "17"})
		quiet.Notice(event.Notice{From: "gate"})
	})
	if n > 0 || written() != "" {
		t.Errorf("lines that are off allocate %v times and write %q", n, written())
	}
}

func BenchmarkOperationOff(b *testing.B) {
	l, _ := record(logger.LevelOff, LogOptions{Operations: true})
	for b.Loop() {
		l.CallDone(event.CallDone{Type: "ChatRoom", ID: "general", Method: "Join"})
	}
}
