package object

import (
	"testing"
	"time"
)

func TestCallIDs(t *testing.T) {
	seen := map[string]bool{}
	for range 1000 {
		before := time.Now().Truncate(time.Millisecond)
		id := NewCallID()
		minted, ok := CallIDTime(id)
		if !ok || minted.Before(before) || minted.After(time.Now()) || seen[id] || ValidID(id) != nil {
			t.Fatalf("%s: %v, %v", id, minted, ok)
		}
		seen[id] = true
	}
	for id, want := range map[string]int64{
		"017f22e2-79b0-7cc3-98c4-dc0c0c07398f": 1645557742000, // RFC 9562's example
		"017F22E2-79B0-7CC3-98C4-DC0C0C07398F": 1645557742000,
		"017f22e2-79b0-4cc3-98c4-dc0c0c07398f": 0, // another version
		"017f22e2-79b0-7cc3-18c4-dc0c0c07398f": 0, // another variant
		"017f22e2-79b0-7cc3-98c4-dc0c0c0739xx": 0,
		"017f22e279b07cc398c4dc0c0c07398f":     0,
		"order-17":                             0,
		"":                                     0,
	} {
		if minted, ok := CallIDTime(id); ok != (want > 0) || ok && minted.UnixMilli() != want {
			t.Errorf("%s: %v, %v", id, minted, ok)
		}
	}
}

// No two calls out of a method share an id, and the same call has the same each time.
func TestChildCallIDs(t *testing.T) {
	seen := map[string]string{}
	for _, parent := range []string{"p", "pA"} {
		for _, typ := range []string{"A", "AB"} {
			for _, id := range []string{"1", "B1", "1M"} {
				for _, method := range []string{"M", "MM"} {
					for nth := range uint64(2) {
						child := ChildCallID(parent, nth, Ref{typ, id}, method)
						name := parent + " " + typ + " " + id + " " + method
						if other, ok := seen[child]; ok || child != ChildCallID(parent, nth, Ref{typ, id}, method) {
							t.Fatalf("%s and %s share %s", name, other, child)
						}
						seen[child] = name
					}
				}
			}
		}
	}
	const frozen = "child-" // the ids are in stores
	if got := ChildCallID("p", 1, Ref{"A", "1"}, "M"); len(got) != len(frozen)+24 || got[:len(frozen)] != frozen {
		t.Error(got)
	}
}
