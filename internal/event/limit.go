package event

// LimitReached: something was refused, given up or sent away because of a bound, or has
// become so large that it soon may be.
type LimitReached struct {
	Limit    Limit
	Type, ID string // the object that it happened to; empty: none, or not known here
}

// Limit is a bound that work can come up against.
type Limit uint8

// The limits.
const (
	Executions         Limit = iota // calls under way on a node
	QueueCalls                      // calls that wait for an object's turn
	QueueBytes                      // their requests
	QueueTime                       // how long they wait where the queue stands
	ParkedCalls                     // calls that wait for a shard on its way
	DeadlineBefore                  // a call's time was over before it ran
	DeadlineBehind                  // it was over before it was known whether the call took effect
	MethodTime                      // how long a method runs
	MessageBytes                    // a message, in or out
	StateBytes                      // an object's state
	LargeState                      // an object's state, at a sixteenth of that
	ObjectID                        // what an id may be
	Activations                     // objects that live on a node
	Memory                          // the heap's part of the memory limit
	Sessions                        // clients of a gate
	SessionCalls                    // calls under way of one client
	GateCalls                       // calls under way of a gate
	Retries                         // of overloaded calls, as a part of all calls
	Connections                     // connections of clients to a gate
	AddressConnections              // the same from one address
	AddressOpens                    // how often an address connects, or opens a session
	ClientRate                      // how often a client calls
	AddressRate                     // how often an address calls
	AddressCalls                    // calls under way of one address, beside sessions
	SlowRequests                    // how slowly a request may arrive
	SlowReaders                     // how long a client may take nothing of what is sent to it
	AnswerBytes                     // of long answers that the clients of a gate have not taken
	AddressAnswerBytes              // the same of one address

	NumLimits = iota
)

var limitNames = [NumLimits]string{
	"executions", "queue_calls", "queue_bytes", "queue_time", "parked_calls", "deadline_before", "deadline_behind",
	"method_time", "message_bytes", "state_bytes", "large_state", "object_id", "activations", "memory", "sessions",
	"session_calls", "gate_calls", "retries", "connections", "address_connections", "address_opens", "client_rate", "address_rate",
	"address_calls", "slow_requests", "slow_readers",
	"answer_bytes", "address_answer_bytes",
}

// String is the limit's name, in lower case with underscores.
func (l Limit) String() string { return limitNames[l] }
