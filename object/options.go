package object

import (
	"errors"
	"fmt"
	"time"
)

// Options is how a type's objects live. The zero value is the default.
type Options struct {
	Name        string // "" = the Go struct's name
	Mode        Mode
	ReadOnly    []string // methods that do not change the object
	Internal    []string // methods that no client may call
	Durability  Durability
	IdleTimeout time.Duration // 0 = DefaultIdleTimeout, negative = never
	MaxQueue    int           // calls that may wait for a turn; 0 = DefaultMaxQueue
	MustCreate  bool          // calls to an object that was never created are NotFound

	// MethodTimeout is how long a method may run. Its context then ends. 0: nothing is ended,
	// but one that runs for longer than DefaultMethodTimeout is told of; negative: nor that.
	MethodTimeout time.Duration

	// Service, if there is one, knows the methods.
	Service *Service

	// Transactional: a method that returns an error leaves the object as it found it.
	Transactional bool

	Interceptors []Interceptor // around its methods, the first outermost
}

// Defaults of Options.
const (
	DefaultIdleTimeout   = 10 * time.Minute
	DefaultMaxQueue      = 1000
	DefaultMethodTimeout = 30 * time.Second
)

// TypeOption changes one of a type's options.
type TypeOption func(*Options)

// WithName registers the type under name instead of its Go name.
func WithName(name string) TypeOption { return func(o *Options) { o.Name = name } }

// WithMode says which methods may run at the same time.
func WithMode(m Mode) TypeOption { return func(o *Options) { o.Mode = m } }

// ReadOnlyMethods names the methods that do not change the object: they run
// together, excluded by all others, and are not followed by a save.
func ReadOnlyMethods(names ...string) TypeOption {
	return func(o *Options) { o.ReadOnly = append(o.ReadOnly, names...) }
}

// InternalMethods names the methods that no client may call: only objects and nodes do,
// also for a client that has called them. What else is allowed is for access rules.
func InternalMethods(names ...string) TypeOption {
	return func(o *Options) { o.Internal = append(o.Internal, names...) }
}

// WithDurability says when state is kept.
func WithDurability(d Durability) TypeOption { return func(o *Options) { o.Durability = d } }

// WithIdleTimeout ends an activation that was not called for d; negative is never.
func WithIdleTimeout(d time.Duration) TypeOption { return func(o *Options) { o.IdleTimeout = d } }

// WithMaxQueue bounds how many calls may wait for one object's turn; more are
// refused as overloaded.
func WithMaxQueue(n int) TypeOption { return func(o *Options) { o.MaxQueue = n } }

// WithMethodTimeout ends the context of a method that has run for d, in about: an eighth of
// d, or 10 s, may be added. The method is answered with what it returns. An operator hears
// of it, and of one that goes on for three times as long. Without it the context ends with
// the caller's deadline alone, and an operator hears of a method that runs for 30 s;
// negative: of none.
func WithMethodTimeout(d time.Duration) TypeOption { return func(o *Options) { o.MethodTimeout = d } }

// MustCreate makes calls to an object that was never created fail as not found.
func MustCreate() TypeOption { return func(o *Options) { o.MustCreate = true } }

// Transactional makes a method that returns an error leave the object as it found it:
// the state that ToData returned before the method is given to FromData, which so has
// to set every field, also on an object that lives. What the method had pushed does not
// leave; calls that it made stand. For Sequential types with a ToData.
func Transactional() TypeOption { return func(o *Options) { o.Transactional = true } }

func (o *Options) withDefaults() {
	if o.IdleTimeout == 0 {
		o.IdleTimeout = DefaultIdleTimeout
	}
	if o.MaxQueue == 0 {
		o.MaxQueue = DefaultMaxQueue
	}
}

func (o *Options) validate() error {
	switch {
	case o.Mode > Concurrent:
		return fmt.Errorf("mode %d does not exist", o.Mode)
	case o.Durability < Volatile:
		return fmt.Errorf("durability %d does not exist", o.Durability)
	case o.Transactional && o.Mode != Sequential:
		return errors.New("it is Transactional and Concurrent: methods that run together cannot be undone one by one; make it Sequential, or leave Transactional out")
	case o.MaxQueue < 0:
		return fmt.Errorf("a queue of %d calls is not possible", o.MaxQueue)
	}
	return nil
}
