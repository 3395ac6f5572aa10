package telemetry

import (
	"fmt"
	"strings"
)

// logKey is a key of log lines, and what stands behind it.
type logKey struct{ name, meaning string }

// logKeys are all keys that lines have, by name; TestLogKeys holds the module to them. None
// stands for a message, a state, or what somebody proves himself by.
var logKeys = []logKey{
	{"client", "A client id, gate/unique. It is no secret: nothing can be done with it."},
	{"count", "How many there were of what the line tells, within a second."},
	{"err", "An error. Its text may have what a program's own code put into it."},
	{"from", "The address that somebody came from."},
	{"gate", "A gate's address, in a client's log."},
	{"id", "An object's id."},
	{"leader", "The node that plans for the cluster."},
	{"logger", "Who writes the line; in the text format it stands in brackets."},
	{"message", "The name of a message's type."},
	{"method", "A method's name."},
	{"objType", "An object's type."},
	{"objects", "How many objects."},
	{"operation", "Of a sensitive operation: which."},
	{"outcome", "Whether a call that failed has run: Executed, NotExecuted, Unknown."},
	{"reason", "Why."},
	{"revision", "Of the cluster's picture: etcd's counter."},
	{"rule", "Which access rule, from 1."},
	{"runs", "For how long a method has run."},
	{"stack", "What goroutines were doing."},
	{"stored", "Whether an object came from its stored state."},
	{"term", "Which leader it is, counted."},
	{"took", "How long something took."},
	{"user", "Who a client has proved to be."},
	{"value", "What a program's own code panicked with."},
	{"was", "Whether a message that was changed was a request or a reply."},
	{"where", "The door at which somebody asked."},
}

// LogReference is docs/reference/logs.md.
func LogReference() string {
	var b strings.Builder
	b.WriteString(logReferenceHead)
	for _, k := range logKeys {
		fmt.Fprintf(&b, "| `%s` | %s |\n", k.name, k.meaning)
	}
	return b.String()
}

const logReferenceHead = `<!-- Written by internal/telemetry; go test ./internal/telemetry -update writes it anew. -->
# Logs

Lines go to standard error: ` + "`--log-format text`" + ` (the default) or ` + "`json`" + `, from ` + "`--log-level`" + ` on: debug, info, warn, error or off. The
level of a process that runs is changed by ` + "`cluster.log_level`" + ` in its file, or by ` + "`PUT /debug/loglevel`" + ` on its operations port. Lines of a
program's own objects have the program's words.

Goverse itself writes no message, no state and no credential into a line, at any level, nor into a metric, a span or ` + "`/debug/goverse`" + `; and what
it says to one caller has nothing of another's messages, nor of an object's state. It tells names: of types, methods and objects, of users, and of
fields that a request should not have.

The error that a method returns, and what it panics with, are the program's own words, and are told whole: to the caller, in the line of a
panic, and with ` + "`LogOperations`" + ` in the line of a call that fails. Let them have no secrets. Of a panic with a message as its value only the
message's name is told. A span has the kind of an error and never its words.

These are all keys that there are:

| key | meaning |
|---|---|
`
