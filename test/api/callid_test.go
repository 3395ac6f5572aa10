package api

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/xiaonanln/goverse/goverseapi"
	"github.com/xiaonanln/goverse/object"
)

// A call with an id runs once, whoever makes it again and whenever: also for a node
// that has read the file anew.
func TestCallIDsFromEndToEnd(t *testing.T) {
	var runs atomic.Int64
	o := open(t, func(ctx context.Context, _ *object.CallInfo, req proto.Message, next object.Next) (proto.Message, error) {
		runs.Add(1)
		return next(ctx, req)
	})
	id := goverseapi.GenerateCallID()
	first := said{code: 200, body: `"5"`, status: "SUCCESS", replayed: "false"}
	again := first
	again.replayed = "true"
	if got := o.post("Account/a/Add", "5", id); got != first {
		t.Fatalf("%+v", got)
	}
	if got := o.post("Account/a/Add", "5", id); got != again {
		t.Errorf("made again: %+v", got)
	}
	for path, body := range map[string]string{"Account/a/Add": "6", "Account/a/Take": "5"} {
		if got := o.post(path, body, id); got.code != http.StatusConflict || got.kind() != "CALL_ID_REUSED NotExecuted" || got.status != "UNKNOWN" {
			t.Errorf("%s of %s: %+v", path, body, got)
		}
	}
	if got := o.post("Account/b/Add", "5", id); got != first {
		t.Errorf("of another object: %+v", got)
	}
	o.restart()
	if got := o.post("Account/a/Add", "5", id); got != again {
		t.Errorf("of the next node: %+v", got)
	}
	if got := o.post("Account/a/Add", "6", id); got.code != http.StatusConflict || got.kind() != "CALL_ID_REUSED NotExecuted" {
		t.Errorf("%+v", got)
	}
	if got := o.post("Account/a/Read", "", ""); got.body != `"5"` || got.status+got.replayed != "" {
		t.Errorf("a call without an id: %+v", got)
	}
	if n := runs.Load(); n != 3 {
		t.Errorf("%d methods have run; want Add on two objects and Read", n)
	}
}

// Who makes a call again that still runs waits for that run.
func TestCallIDsJoin(t *testing.T) {
	entered, release := make(chan struct{}, 2), make(chan struct{})
	o := open(t, func(ctx context.Context, _ *object.CallInfo, req proto.Message, next object.Next) (proto.Message, error) {
		entered <- struct{}{}
		<-release
		return next(ctx, req)
	})
	id := goverseapi.GenerateCallID()
	answers := make(chan said, 2)
	var asking sync.WaitGroup
	add := func() { answers <- o.post("Account/a/Add", "5", id) }
	asking.Go(add)
	<-entered
	if got := o.post("Account/a/Add", "5", id, "X-Goverse-Timeout", "50ms"); got.code != http.StatusGatewayTimeout || got.status != "PENDING" {
		t.Errorf("an impatient one: %+v", got)
	}
	asking.Go(add)
	close(release)
	asking.Wait()
	replayed := map[string]int{}
	for range 2 {
		got := <-answers
		replayed[got.replayed]++
		if got.code != 200 || got.body != `"5"` || got.status != "SUCCESS" {
			t.Errorf("%+v", got)
		}
	}
	if replayed["false"] != 1 || replayed["true"] != 1 || len(entered) != 0 {
		t.Errorf("of both answers %v are replayed, and the method ran %d times more", replayed, len(entered))
	}
}

// 10,000 requests at once with 100 ids are 100 calls.
func TestTenThousandRequests(t *testing.T) {
	o := open(t, nil)
	const ids, accounts = 100, 10
	each := 100
	if raceEnabled {
		each = 20
	}
	var mu sync.Mutex
	first, values := map[string]int{}, map[string]map[string]bool{}
	var asking sync.WaitGroup
	begin := make(chan struct{})
	for i := range ids {
		id, path := goverseapi.GenerateCallID(), fmt.Sprintf("Account/%d/Add", i%accounts)
		values[id] = map[string]bool{}
		for range each {
			asking.Go(func() {
				<-begin
				got := o.post(path, "1", id)
				for got.code == http.StatusTooManyRequests || got.code == http.StatusServiceUnavailable { // it did not run
					got = o.post(path, "1", id)
				}
				mu.Lock()
				defer mu.Unlock()
				if got.code != 200 || got.status != "SUCCESS" {
					t.Errorf("%+v", got)
				}
				values[id][got.body] = true
				if got.replayed == "false" {
					first[id]++
				}
			})
		}
	}
	close(begin)
	asking.Wait()
	for id, has := range values {
		if len(has) != 1 || first[id] != 1 {
			t.Errorf("%s was answered with %v, %d times as new", id, has, first[id])
		}
	}
	for i := range accounts {
		if got := o.post(fmt.Sprintf("Account/%d/Read", i), "", ""); got.body != fmt.Sprintf(`"%d"`, ids/accounts) {
			t.Errorf("account %d has %+v", i, got)
		}
	}
}

// Over HTTP an answer of a periodic object says that it is ahead of the store; of what was
// flushed, and of durable objects, nothing is said.
func TestAnswersAheadOfTheStore(t *testing.T) {
	o := open(t, nil)
	for _, c := range []struct{ method, body, durable string }{
		{"Flushed", `"2"`, ""}, {"Even", `"4"`, "false"}, {"Flushed", `"6"`, ""}, {"Even", `"8"`, "false"},
	} {
		if got := o.post("Slow/x/"+c.method, "2", ""); got.code != 200 || got.body != c.body || got.durable != c.durable {
			t.Errorf("%+v, want %+v", got, c)
		}
	}
	if got := o.post("Slow/x/Even", "1", ""); got.code != 500 || got.durable != "false" {
		t.Errorf("an error: %+v", got)
	}
	if got := o.post("Account/x/Add", "2", ""); got.durable != "" {
		t.Errorf("a durable one: %+v", got)
	}
}
