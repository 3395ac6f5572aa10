// Package gate is the engine of a gate: it owns the sessions of the clients that
// are connected to this process and hands each of them what is pushed to it. It
// knows no network: a door (package gateserver) opens a session for a connection,
// drains its outbox, and closes it.
//
// Deliver never waits for a client. What a client has not taken yet waits in its
// session's bounded outbox, and a client that lets it overflow loses its session,
// and nobody else notices.
package gate
