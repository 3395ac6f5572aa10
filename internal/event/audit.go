package event

// AccessDenied: somebody asked for what is not for him, and got it not. Its texts may be a
// stranger's own: whoever keeps them bounds them.
type AccessDenied struct {
	Where            Door
	Why              Denial
	Client           string // the client id; empty: none
	User             string // who it proved to be; empty: nobody
	From             string // the address that it came from, where a gate knows it
	Type, ID, Method string // what it asked for; Method is "CreateObject" or its like where it is no method; empty: none, or not known here
	Rule             int    // ByRule, ByLifecycle: which, from 1
	Err              error  // ByHandler: what the handler said
}

// SensitiveOperation: what changes or shows more than a call does was let through.
type SensitiveOperation struct {
	Where    Door
	What     Sensitive
	Client   string // as in AccessDenied
	User     string
	From     string
	Type, ID string
}

// Door is where somebody asked.
type Door uint8

// The doors.
const (
	AtNode Door = iota // a node, behind all of a gate's doors
	AtGate             // a gate, where its doors meet
	AtGRPC
	AtHTTP
	AtEvents
	AtWebSocket
	AtOperations // the operations port

	NumDoors = iota
)

var doorNames = [NumDoors]string{"node", "gate", "grpc", "http", "events", "websocket", "operations"}

// String is the door's name, in lower case with underscores.
func (d Door) String() string { return doorNames[d] }

// Denial is why somebody got it not.
type Denial uint8

// The denials.
const (
	ByHandler   Denial = iota // the program's OnClientAuthorise refused it
	HandlerFail               // OnClientAuthorise panicked, or did not answer in time
	ByCaller                  // a client id that is another's
	ByRule                    // an access rule
	ByLifecycle               // a lifecycle rule
	ByMethod                  // the method is internal
	ByExpiry                  // its session is over, because its identity has expired
	ByAddress                 // it comes from another machine

	NumDenials = iota
)

var denialNames = [NumDenials]string{
	"credentials", "handler_failed", "foreign_client_id", "access_rule", "lifecycle_rule", "internal_method", "identity_expired", "address",
}

// String is the denial's name, in lower case with underscores.
func (d Denial) String() string { return denialNames[d] }

// Sensitive is a kind of SensitiveOperation.
type Sensitive uint8

// The kinds.
const (
	ClientCreates Sensitive = iota // a client created an object
	ClientDeletes                  // a client deleted one
	OperatorReads                  // an operator read what is stored
	OperatorTakes                  // an operator took a profile

	NumSensitive = iota
)

var sensitiveNames = [NumSensitive]string{"client_creates", "client_deletes", "operator_reads", "operator_profiles"}

// String is the kind's name, in lower case with underscores.
func (s Sensitive) String() string { return sensitiveNames[s] }
