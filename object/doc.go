// Package object says what an object is: its identity, its base, its type and
// options, what a store must keep of it, and what it may ask of its world. It
// does no I/O and starts no goroutine.
package object
