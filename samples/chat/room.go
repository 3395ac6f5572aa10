package main

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/xiaonanln/goverse/goverseapi"
	chat_pb "github.com/xiaonanln/goverse/samples/chat/proto"
)

const (
	keptMessages = 1000             // in a room's state
	keptBytes    = 512 << 10        // of them, so that all of a room fits into one reply
	firstPage    = 200              // what a newcomer is shown
	maxMembers   = 1000             // in a room at once
	maxName      = 40               // characters
	maxMessage   = 4000             // characters
	maxMessageID = 64               // characters
	presence     = 45 * time.Second // a member that is silent longer has left
)

// ChatRoom is one room: it serves the service ChatRoom of proto/chat.proto. Its methods
// run one at a time.
type ChatRoom struct {
	goverseapi.BaseObject
	state   *chat_pb.RoomState
	bytes   int               // of state.Messages
	members map[string]member // by client id, or by name for who has no push stream
}

type member struct {
	name     string
	clientID string // where pushes go; empty for none
	seen     time.Time
}

// OnCreated implements goverseapi.Object.
func (r *ChatRoom) OnCreated() { r.members = map[string]member{} }

// Join brings the caller in, or says that it is still here, and shows the room.
func (r *ChatRoom) Join(ctx context.Context, req *chat_pb.JoinRequest) (*chat_pb.JoinResponse, error) {
	name, err := checkName(req.GetUserName())
	if err != nil {
		return nil, err
	}
	before := r.users()
	r.prune()
	key := memberKey(name, goverseapi.CallerClientID(ctx))
	if _, here := r.members[key]; !here && len(r.members) >= maxMembers {
		return nil, status.Errorf(codes.ResourceExhausted, "the room is full: it has %d members", maxMembers)
	}
	r.members[key] = member{name: name, clientID: goverseapi.CallerClientID(ctx), seen: time.Now()}
	r.announce(ctx, before)
	after := req.GetAfter()
	if after <= 0 {
		after = r.state.LastNumber - firstPage
	}
	return &chat_pb.JoinResponse{Messages: r.after(after), Users: r.users(), LastNumber: r.state.LastNumber}, nil
}

// SendMessage keeps a message and shows it to everyone here. When it has answered,
// the message is stored.
func (r *ChatRoom) SendMessage(ctx context.Context, req *chat_pb.SendMessageRequest) (*chat_pb.SendMessageResponse, error) {
	name, err := checkName(req.GetUserName())
	if err != nil {
		return nil, err
	}
	text := strings.TrimSpace(req.GetMessage())
	if text == "" || utf8.RuneCountInString(text) > maxMessage {
		return nil, status.Errorf(codes.InvalidArgument, "a message has 1 to %d characters", maxMessage)
	}
	if utf8.RuneCountInString(req.GetMessageId()) > maxMessageID {
		return nil, status.Errorf(codes.InvalidArgument, "a message id has at most %d characters", maxMessageID)
	}
	if said := r.find(name, req.GetMessageId()); said != nil {
		return &chat_pb.SendMessageResponse{Message: said}, nil
	}
	m := &chat_pb.ChatMessage{
		Number: r.state.LastNumber + 1, UserName: name, Message: text,
		SentUnixMs: time.Now().UnixMilli(), MessageId: req.GetMessageId(), Room: r.Id(),
	}
	r.keep(m)
	r.show(ctx, m)
	return &chat_pb.SendMessageResponse{Message: m}, nil
}

// History shows what was said. It changes nothing.
func (r *ChatRoom) History(ctx context.Context, req *chat_pb.HistoryRequest) (*chat_pb.HistoryResponse, error) {
	return &chat_pb.HistoryResponse{Messages: r.after(req.GetAfter()), Users: r.users()}, nil
}

// Leave takes the caller out. Client ids cannot be guessed, and rooms do not tell them.
func (r *ChatRoom) Leave(ctx context.Context, req *chat_pb.LeaveRequest) (*chat_pb.LeaveResponse, error) {
	before := r.users()
	client := cmp.Or(req.GetClientId(), goverseapi.CallerClientID(ctx))
	delete(r.members, memberKey(strings.TrimSpace(req.GetUserName()), client))
	r.announce(ctx, before)
	return &chat_pb.LeaveResponse{}, nil
}

// ToData implements goverseapi.Object.
func (r *ChatRoom) ToData() (proto.Message, error) { return r.state, nil }

// FromData implements goverseapi.Object.
func (r *ChatRoom) FromData(data proto.Message) error {
	r.state = &chat_pb.RoomState{}
	if data == nil {
		return nil
	}
	kept, ok := data.(*chat_pb.RoomState)
	if !ok {
		return status.Errorf(codes.DataLoss, "what is stored is a %s, not a room", data.ProtoReflect().Descriptor().FullName())
	}
	r.state, r.bytes = kept, 0
	for _, m := range kept.Messages {
		r.bytes += proto.Size(m)
	}
	return nil
}

// keep adds a message, and forgets the oldest ones when there are too many.
func (r *ChatRoom) keep(m *chat_pb.ChatMessage) {
	r.state.LastNumber = m.Number
	r.state.Messages = append(r.state.Messages, m)
	r.bytes += proto.Size(m)
	old := 0
	for ; len(r.state.Messages)-old > keptMessages || r.bytes > keptBytes; old++ {
		r.bytes -= proto.Size(r.state.Messages[old])
	}
	r.state.Messages = slices.Delete(r.state.Messages, 0, old)
}

// after are the kept messages that are numbered higher, oldest first.
func (r *ChatRoom) after(number int64) []*chat_pb.ChatMessage {
	i, found := slices.BinarySearchFunc(r.state.Messages, number, func(m *chat_pb.ChatMessage, n int64) int {
		return cmp.Compare(m.GetNumber(), n)
	})
	if found {
		i++
	}
	return slices.Clone(r.state.Messages[i:])
}

// find is the sender's message with this id, if it is still kept.
func (r *ChatRoom) find(name, id string) *chat_pb.ChatMessage {
	if id == "" {
		return nil
	}
	for _, m := range slices.Backward(r.state.Messages) {
		if m.GetMessageId() == id && m.GetUserName() == name {
			return m
		}
	}
	return nil
}

// memberKey tells members apart: by their push stream, else by their name.
func memberKey(name, clientID string) string {
	if clientID == "" {
		return "name:" + name
	}
	return clientID
}

// users are the names of those who are here, sorted, each once.
func (r *ChatRoom) users() []string {
	var names []string
	for _, m := range r.members {
		names = append(names, m.name)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func (r *ChatRoom) prune() {
	for key, m := range r.members {
		if time.Since(m.seen) > presence {
			delete(r.members, key)
		}
	}
}

// announce tells everyone who is here, if that has changed.
func (r *ChatRoom) announce(ctx context.Context, before []string) {
	if now := r.users(); !slices.Equal(before, now) {
		r.show(ctx, &chat_pb.Presence{Room: r.Id(), Users: now})
	}
}

// show pushes to everyone here. Who cannot be reached reads the history later.
func (r *ChatRoom) show(ctx context.Context, m proto.Message) {
	var clients []string
	for _, member := range r.members {
		if member.clientID != "" {
			clients = append(clients, member.clientID)
		}
	}
	if len(clients) == 0 {
		return
	}
	if err := goverseapi.PushMessageToClients(ctx, clients, m); err != nil {
		r.Logger.Warnf("%v: push to %d clients: %v", r, len(clients), err)
	}
}

func checkName(name string) (string, error) {
	name = strings.TrimSpace(name)
	if name == "" || utf8.RuneCountInString(name) > maxName {
		return "", status.Errorf(codes.InvalidArgument, "a user name has 1 to %d characters", maxName)
	}
	return name, nil
}
