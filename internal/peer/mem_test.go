package peer

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/object"
)

// bubble runs a test on a network whose time is the bubble's.
func bubble(t *testing.T, test func(t *testing.T, n *Network)) {
	synctest.Test(t, func(t *testing.T) { test(t, NewNetwork()) })
}

// counting is an echo that counts.
func counting(n *int) fake {
	return fake{call: func(_ context.Context, req *Request) (object.Payload, error) { *n++; return req.Payload, nil }}
}

func took(t *testing.T, want time.Duration, f func()) {
	t.Helper()
	began := time.Now()
	f()
	if d := time.Since(began); d != want {
		t.Errorf("took %v, want %v", d, want)
	}
}

func TestMemDelay(t *testing.T) {
	bubble(t, func(t *testing.T, n *Network) {
		conn := memWorld(n).connect(t, fake{call: echo})
		n.Delay(30 * time.Millisecond)
		took(t, 60*time.Millisecond, func() {
			if _, err := conn.ServeCall(t.Context(), callOf(text("x"))); err != nil {
				t.Error(err)
			}
		})
	})
}

// A partition that heals in time only delays; on a standing connection one that
// does not leaves the outcome unknown, and then there is no connection.
func TestMemPartition(t *testing.T) {
	cut := map[string]func(n *Network){
		"both ways": func(n *Network) { n.Partition("a:1", "b:1") },
		"requests":  func(n *Network) { n.PartitionOneWay("a:1", "b:1") },
		"answers":   func(n *Network) { n.PartitionOneWay("b:1", "a:1") },
	}
	for name, cut := range cut {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, n *Network) {
				served := 0
				conn := memWorld(n).connect(t, counting(&served))
				call := func() error {
					_, err := conn.ServeCall(t.Context(), callOf(text("x")))
					return err
				}
				cut(n)
				took(t, connectTimeout, func() { want(t, call(), fault.NotReady, fault.NotExecuted) })
				n.HealAll()
				if err := call(); err != nil || served != 1 {
					t.Fatal(err, served)
				}
				cut(n)
				time.AfterFunc(5*time.Second, func() { n.Heal("a:1", "b:1") })
				took(t, 5*time.Second, func() {
					if err := call(); err != nil || served != 2 {
						t.Error(err, served)
					}
				})
				cut(n)
				took(t, givenUpAfter, func() { want(t, call(), fault.Indeterminate, fault.OutcomeUnknown) })
				if ran := served == 3; ran != (name == "answers") {
					t.Errorf("served %d", served)
				}
				took(t, connectTimeout, func() { want(t, call(), fault.NotReady, fault.NotExecuted) })
				n.HealAll()
				if err := call(); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// A caller that gives up behind a partition is not heard of until it heals.
func TestMemCancellationNeedsARoad(t *testing.T) {
	bubble(t, func(t *testing.T, n *Network) {
		svc := newBlocking()
		conn := memWorld(n).connect(t, svc)
		ctx, cancel := context.WithCancel(t.Context())
		go func() { <-svc.entered; n.Partition("a:1", "b:1"); cancel() }()
		_, err := conn.ServeCall(ctx, callOf(text("x")))
		want(t, err, fault.Canceled, fault.OutcomeUnknown)
		synctest.Wait()
		if len(svc.ended) > 0 {
			t.Error("the cancellation went through a partition")
		}
		n.HealAll()
		synctest.Wait()
		if len(svc.ended) != 1 {
			t.Error("the cancellation did not arrive")
		}
	})
}

func TestMemLoseAnswers(t *testing.T) {
	bubble(t, func(t *testing.T, n *Network) {
		served := 0
		conn := memWorld(n).connect(t, counting(&served))
		n.LoseAnswers("b:1", 1)
		_, err := conn.ServeCall(t.Context(), callOf(text("x")))
		want(t, err, fault.Indeterminate, fault.OutcomeUnknown)
		if _, err := conn.ServeCall(t.Context(), callOf(text("x"))); err != nil || served != 2 {
			t.Error(err, served)
		}
	})
}

func TestMemRestart(t *testing.T) {
	bubble(t, func(t *testing.T, n *Network) {
		first, second := 0, 0
		address, stop := memWorld(n).listen(t, counting(&first))
		conn := memWorld(n).dial(t, address)
		call := func() error {
			_, err := conn.ServeCall(t.Context(), callOf(text("x")))
			return err
		}
		if err := call(); err != nil {
			t.Fatal(err)
		}
		stop()
		want(t, call(), fault.NotReady, fault.NotExecuted)
		memWorld(n).listen(t, counting(&second))
		stop() // of the first: has no effect on the second
		if err := call(); err != nil || first != 1 || second != 1 {
			t.Error(err, first, second)
		}
	})
}

// What was sent to a process that died behind a partition reaches nobody.
func TestMemRestartBehindAPartition(t *testing.T) {
	bubble(t, func(t *testing.T, n *Network) {
		first, second := 0, 0
		address, stop := memWorld(n).listen(t, counting(&first))
		conn := memWorld(n).dial(t, address)
		if _, err := conn.ServeCall(t.Context(), callOf(text("x"))); err != nil {
			t.Fatal(err)
		}
		n.Partition("a:1", "b:1")
		stop()
		memWorld(n).listen(t, counting(&second))
		time.AfterFunc(time.Second, n.HealAll)
		_, err := conn.ServeCall(t.Context(), callOf(text("x")))
		want(t, err, fault.Indeterminate, fault.OutcomeUnknown)
		if _, err := conn.ServeCall(t.Context(), callOf(text("x"))); err != nil || first != 1 || second != 1 {
			t.Error(err, first, second)
		}
	})
}

// pushing delivers what comes through frames.
func pushing(frames <-chan string) fake {
	return fake{pushes: func(ctx context.Context, _ string, ready func(), deliver func(PushFrame) error) error {
		ready()
		for {
			select {
			case id := <-frames:
				if err := deliver(PushFrame{ClientIDs: []string{id}}); err != nil {
					return err
				}
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}}
}

func TestMemPushesThroughAPartition(t *testing.T) {
	bubble(t, func(t *testing.T, n *Network) {
		frames := make(chan string)
		conn := memWorld(n).connect(t, pushing(frames))
		n.Delay(10 * time.Millisecond)
		var got []string
		var at []time.Duration
		began := time.Now()
		ended := make(chan error, 1)
		go func() {
			ended <- conn.ServePushes(t.Context(), Hearing{Gate: "gate:1"}, func(Opening) {}, func(f PushFrame) error {
				got, at = append(got, f.ClientIDs...), append(at, time.Since(began))
				return nil
			})
		}()
		frames <- "1"
		frames <- "2" // both afloat at once: the delay is no throttle
		time.Sleep(time.Second)
		n.PartitionOneWay("b:1", "a:1")
		frames <- "3"
		time.Sleep(5 * time.Second)
		if synctest.Wait(); len(got) != 2 || at[0] != 20*time.Millisecond || at[1] != at[0] {
			t.Errorf("got %v at %v", got, at)
		}
		n.HealAll()
		if synctest.Wait(); len(got) != 3 {
			t.Errorf("after healing: %v", got)
		}
		n.PartitionOneWay("a:1", "b:1") // nothing to say, and still noticed
		took(t, givenUpAfter, func() { want(t, <-ended, fault.Indeterminate, fault.OutcomeUnknown) })
	})
}

func TestMemPushesEndWithThePeer(t *testing.T) {
	bubble(t, func(t *testing.T, n *Network) {
		address, stop := memWorld(n).listen(t, pushing(nil))
		conn := memWorld(n).dial(t, address)
		err := conn.ServePushes(t.Context(), Hearing{Gate: "gate:1"}, func(Opening) { stop() }, nil)
		want(t, err, fault.Indeterminate, fault.OutcomeUnknown)
	})
}

func TestMemTakenAddress(t *testing.T) {
	n := NewNetwork()
	defer n.Listen("b:1", fake{})()
	defer func() {
		if recover() == nil {
			t.Error("two listen at one address")
		}
	}()
	n.Listen("b:1", fake{})
}
