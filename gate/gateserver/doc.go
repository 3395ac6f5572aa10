// Package gateserver is the gate process: the doors through which clients come in
// (gRPC, JSON over HTTP, Server-Sent Events, WebSocket), the port for operators,
// and the life of them all. Sessions and pushes belong to package gate; where an
// object lives is the Router's business.
//
// Every door turns what it hears into an object.Call and hands it to calls, and
// drains the outbox of a gate.Session for what is pushed. A door decodes and
// encodes, and decides nothing.
package gateserver
