package object

import (
	"fmt"
	"time"
)

// Mode says which of an object's methods may run at the same time.
type Mode uint8

const (
	// Sequential: one method at a time; read-only methods run together. The default.
	Sequential Mode = iota
	// Concurrent: methods run together and guard their fields themselves.
	Concurrent
)

// Durability says when a method's effects on its object are kept.
type Durability time.Duration

const (
	// DefaultDurability is Durable for a type with ToData where a store is set,
	// else Volatile.
	DefaultDurability Durability = 0
	// Durable: the reply leaves after the state is committed.
	Durable Durability = -1
	// Volatile: the state is not stored.
	Volatile Durability = -2
)

// Periodic stores a changed state every d; a crash loses at most about d.
func Periodic(d time.Duration) Durability { return Durability(d) }

// Interval is the period of a periodic durability, else 0.
func (d Durability) Interval() time.Duration { return max(0, time.Duration(d)) }

// String is Default, Durable, Volatile or Periodic(interval).
func (d Durability) String() string {
	switch {
	case d == Durable:
		return "Durable"
	case d == Volatile:
		return "Volatile"
	case d > 0:
		return fmt.Sprintf("Periodic(%v)", time.Duration(d))
	default:
		return "Default"
	}
}
