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
	Err              error  // what there is to say of why
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
	AtMembers    // a node's port, for nodes and gates
	AtInspector
	AtCluster // etcd, where operators leave their orders

	NumDoors = iota
)

var doorNames = [NumDoors]string{"node", "gate", "grpc", "http", "events", "websocket", "operations", "members", "inspector", "cluster"}

// String is the door's name, in lower case with underscores.
func (d Door) String() string { return doorNames[d] }

// Denial is why somebody got it not.
type Denial uint8

// The denials.
const (
	ByHandler    Denial = iota // the program's OnClientAuthorise refused it
	HandlerFail                // OnClientAuthorise panicked, or did not answer in time
	ByCaller                   // a client id that is another's
	ByRule                     // an access rule
	ByLifecycle                // a lifecycle rule
	ByMethod                   // the method is internal
	ByExpiry                   // its session is over, because its identity has expired
	ByAddress                  // it comes from another machine
	ByOrigin                   // it is made by a web page of others, or under a name that is not ours
	ByToken                    // a token of no session here: forged, used up, late, or another gate's
	ByMembership               // it did not prove to be a member of the cluster

	NumDenials = iota
)

var denialNames = [NumDenials]string{
	"credentials", "handler_failed", "foreign_client_id", "access_rule", "lifecycle_rule", "internal_method", "identity_expired", "address",
	"origin", "session_token", "not_a_member",
}

// String is the denial's name, in lower case with underscores.
func (d Denial) String() string { return denialNames[d] }

// Sensitive is a kind of SensitiveOperation.
type Sensitive uint8

// The kinds.
const (
	ClientCreates    Sensitive = iota // a client created an object
	ClientDeletes                     // a client deleted one
	OperatorReads                     // an operator read what is stored
	OperatorTakes                     // an operator took a profile
	OperatorTunes                     // an operator changed what is logged
	OperatorDrains                    // an operator ordered that a node drain; here and below ID says what it is about
	OperatorUndrains                  // that it take shards again
	OperatorMoves                     // that a shard move
	OperatorPins                      // that it stay
	OperatorUnpins                    // took such an order back
	OperatorPushes                    // pushed a message to clients

	NumSensitive = iota
)

var sensitiveNames = [NumSensitive]string{"client_creates", "client_deletes", "operator_reads", "operator_profiles", "operator_tunes",
	"operator_drains", "operator_undrains", "operator_moves", "operator_pins", "operator_unpins", "operator_pushes"}

// String is the kind's name, in lower case with underscores.
func (s Sensitive) String() string { return sensitiveNames[s] }
