package cluster

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/xiaonanln/goverse/internal/peer"
)

// heardBy is a hearer that writes down what it delivers: numbers, and "gap".
func heardBy() (*hearer, *[]string) {
	var told []string
	h := newHearer(&Cluster{}, "n:1", "g:1", func(f peer.PushFrame) error {
		if f.Stream != nil {
			return nil
		}
		if f.Gap {
			told = append(told, "gap")
		} else {
			told = append(told, fmt.Sprint(f.Seq))
		}
		return nil
	})
	return h, &told
}

func (h *hearer) takes(t *testing.T, seqs ...uint64) {
	t.Helper()
	for _, seq := range seqs {
		if err := h.take(peer.PushFrame{Seq: seq}); err != nil {
			t.Error(err)
		}
	}
}

func heard(t *testing.T, told *[]string, want ...string) {
	t.Helper()
	if !slices.Equal(*told, want) {
		t.Errorf("the clients are told %q, want %q", *told, want)
	}
	*told = nil
}

var errBroken = errors.New("the stream broke")

func TestWhatAGateHearsOfANode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, told := heardBy()
		h.begin(peer.Opening{Queue: "a"})
		h.takes(t, 1, 2, 3)
		heard(t, told, "1", "2", "3")

		h.broke(errBroken)
		time.Sleep(brokenFor / 2)
		h.begin(peer.Opening{Queue: "a", Last: 1}) // it comes back, and repeats itself
		h.takes(t, 2, 3, 4)
		time.Sleep(time.Minute)
		synctest.Wait()
		heard(t, told, "4")

		h.takes(t, 6) // a number is missing
		heard(t, told, "gap", "6")
		if err := h.take(peer.PushFrame{Seq: 9, Gap: true}); err != nil { // and here the node says why
			t.Error(err)
		}
		heard(t, told, "gap")

		h.broke(errBroken)
		h.broke(errBroken)
		time.Sleep(2 * brokenFor)
		synctest.Wait()
		heard(t, told, "gap") // the node does not come back soon
		h.begin(peer.Opening{Queue: "a", Last: 9})
		h.takes(t, 10)
		heard(t, told, "10") // it does, and nothing is lost

		h.begin(peer.Opening{Queue: "a", Last: 11})
		heard(t, told, "gap") // it has dropped 11 meanwhile
		h.begin(peer.Opening{Queue: "b"})
		h.takes(t, 1)
		heard(t, told, "gap", "1") // it is another process
		h.begin(peer.Opening{Queue: "b", Last: 1, Lost: true})
		heard(t, told, "gap")

		h.broke(errBroken)
		h.end(true)
		time.Sleep(time.Minute)
		synctest.Wait()
		heard(t, told, "gap")
	})
}

func TestANodeThatEndsInGoodOrderLosesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, told := heardBy()
		h.begin(peer.Opening{Queue: "a"})
		h.takes(t, 1)
		h.broke(nil)
		h.begin(peer.Opening{Queue: "b"})
		h.broke(nil)
		h.end(true)
		time.Sleep(time.Minute)
		synctest.Wait()
		heard(t, told, "1")

		h, told = heardBy()
		h.begin(peer.Opening{Queue: "a"})
		h.broke(errBroken)
		h.end(false) // the gate itself ends
		time.Sleep(time.Minute)
		synctest.Wait()
		heard(t, told)

		h, told = heardBy()
		h.begin(peer.Opening{}) // a node of an older version
		h.takes(t, 0, 0)
		h.broke(errBroken)
		h.end(true)
		heard(t, told, "0", "0")
	})
}

// A node that was never heard may have pushed for this gate's clients before it went.
func TestANodeThatWasNeverHeard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, told := heardBy()
		h.broke(errBroken)
		time.Sleep(2 * brokenFor)
		synctest.Wait()
		heard(t, told, "gap")
		h.end(true)
		heard(t, told, "gap")

		h, told = heardBy()
		h.begin(peer.Opening{}) // of a version without queues: it has nothing to go on from
		h.broke(errBroken)
		time.Sleep(2 * brokenFor)
		synctest.Wait()
		h.end(true)
		heard(t, told)
	})
}
