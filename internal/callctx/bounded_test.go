package callctx

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

type testKey struct{}

func newBounded(parent context.Context, d time.Duration) *Bounded {
	b := new(Bounded)
	b.Bind(parent, time.Now().Add(d))
	return b
}

// A bounded context does all that context.WithTimeout's does, whoever waits first.
func TestBoundedIsAContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		parent := context.WithValue(context.Background(), testKey{}, 7)
		b := newBounded(parent, time.Second)
		if d, ok := b.Deadline(); !ok || time.Until(d) != time.Second {
			t.Error("deadline")
		}
		if b.Err() != nil || b.Value(testKey{}) != 7 {
			t.Error("before anyone waits")
		}
		child, cancel := context.WithCancel(b)
		defer cancel()
		if b.Err() != nil || b.Value(testKey{}) != 7 || child.Value(testKey{}) != 7 {
			t.Error("while someone waits")
		}
		begin := time.Now()
		<-child.Done()
		if time.Since(begin) != time.Second || !errors.Is(b.Err(), context.DeadlineExceeded) || !errors.Is(child.Err(), context.DeadlineExceeded) {
			t.Errorf("%v: %v, %v", time.Since(begin), b.Err(), child.Err())
		}
	})
}

func TestBoundedErrWithoutWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBounded(context.Background(), time.Second)
		time.Sleep(2 * time.Second)
		if !errors.Is(b.Err(), context.DeadlineExceeded) {
			t.Error(b.Err())
		}
		parent, cancel := context.WithCancel(context.Background())
		b = newBounded(parent, time.Second)
		cancel()
		if !errors.Is(b.Err(), context.Canceled) {
			t.Error(b.Err())
		}
		<-b.Done()
	})
}

// After the call it is over for whoever kept it, armed or not, and its values stay.
func TestBoundedEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, armed := range []bool{false, true} {
			b := newBounded(context.WithValue(context.Background(), testKey{}, 7), time.Hour)
			if armed {
				b.Done()
			}
			b.End()
			b.End()
			<-b.Done()
			if !errors.Is(b.Err(), context.Canceled) || b.Value(testKey{}) != 7 {
				t.Errorf("armed %v: %v", armed, b.Err())
			}
			child, cancel := context.WithCancel(b)
			<-child.Done()
			cancel()
		}
	})
}

func TestBoundedEndsWhileArmed(t *testing.T) {
	for range 200 {
		b := newBounded(context.Background(), time.Hour)
		var both sync.WaitGroup
		both.Go(func() { <-b.Done() })
		both.Go(b.End)
		both.Wait()
	}
}

// Without a deadline it ends with its parent, or when it is told to.
func TestBoundedWithoutADeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		parent, cancel := context.WithCancel(context.Background())
		for _, end := range []func(*Bounded){(*Bounded).End, func(*Bounded) { cancel() }} {
			b := new(Bounded)
			b.Bind(parent, time.Time{})
			if _, ok := b.Deadline(); ok || b.Err() != nil {
				t.Error("it has a deadline", b.Err())
			}
			child, stop := context.WithCancel(b)
			defer stop()
			time.Sleep(time.Hour)
			if b.Err() != nil {
				t.Error(b.Err())
			}
			end(b)
			<-child.Done()
			if !errors.Is(b.Err(), context.Canceled) {
				t.Error(b.Err())
			}
		}
	})
}
