// Package goverseclient is how a program outside a Goverse cluster calls its objects
// and hears what they push.
//
//	c, err := goverseclient.NewClient([]string{"gate-1:49000", "gate-2:49000"})
//	...
//	defer c.Close()
//	if err := c.Connect(ctx); err != nil { ... }
//	reply, err := c.CallObject(ctx, "ChatRoom", "general", "Join", &chat_pb.JoinRequest{UserName: "guest"})
//
// # Gates come and go
//
// Name several gates. The client is connected to one of them at a time, chosen at
// random, and to the next when that one goes. Callers notice nothing of a gate that
// stops in good order: their calls on it finish, new ones go elsewhere. While no gate
// can be reached a call waits, as long as its context or the call timeout allows.
//
// Gates that encrypt their connections are reached WithTLS.
//
// # One stream
//
// Calls and pushes share one stream to the gate, whose calls under way the gate bounds:
// what is more waits here for its turn. Gates of older versions have no such stream, and
// WithUnaryCalls does without: then each call is a unary call of gRPC.
//
// # Whether it ran
//
// What surely did not run, because it was never sent or the gate said so, is repeated
// until the deadline. What was sent and not answered is not: the error's OutcomeOf is
// then Unknown, and whether to call again is the program's to decide. WithAtLeastOnce
// decides it once and for all for methods that may run twice.
//
// Repeating a call at a gate that has refused it is paced and has a budget, a tenth of
// the calls: gates in trouble are not buried.
//
// # Pushes
//
// Objects push to a client id. It is new with every connection, so subscribe in
// WithOnConnect. Within one connection messages come in order and none twice; what was
// pushed between two connections is lost, and WithOnDisconnect says when that may be.
// Take messages with WithOnMessage or from MessageChan.
//
// # An object's state
//
// Objects whose type has OnSubscribe can be followed: first comes the state, then each
// change behind it.
//
//	room, err := c.Subscribe(ctx, "ChatRoom", "general")
//	...
//	for u, err := range goverseclient.UpdatesOf[*chat_pb.Room, *chat_pb.ChatMessage](ctx, room) {
//		switch {
//		case err != nil:
//			return err // the subscription, or ctx, has ended
//		case u.IsChange:
//			show.Add(u.Change)
//		default:
//			show.All(u.Snapshot) // at first, and as a Reset where changes are missing
//		}
//	}
//
// No change is missing and none comes twice, unless a Reset says so, also where the
// connection is lost or the gate goes: the client goes on behind the version that it has.
package goverseclient
