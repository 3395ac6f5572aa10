package main

import (
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
	firstPage    = 200              // what a newcomer is shown
	maxName      = 40               // characters
	maxMessage   = 4000             // characters
	presence     = 45 * time.Second // a member that is silent longer has left
)

// ChatRoom is one room. Pages join it again every now and then, which is how it
// knows who is still here. Its methods run one at a time.
type ChatRoom struct {
	goverseapi.BaseObject
	state   *chat_pb.RoomState
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
	client := goverseapi.CallerClientID(ctx)
	key := client
	if key == "" {
		key = "name:" + name
	}
	r.members[key] = member{name: name, clientID: client, seen: time.Now()}
	r.prune()
	r.announce(ctx, before)
	return &chat_pb.JoinResponse{Messages: r.after(r.state.NextNumber - firstPage), Users: r.users()}, nil
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
	if said := r.find(name, req.GetMessageId()); said != nil {
		return &chat_pb.SendMessageResponse{Message: said}, nil
	}
	r.state.NextNumber++
	m := &chat_pb.ChatMessage{
		Number: r.state.NextNumber, UserName: name, Message: text,
		SentUnixMs: time.Now().UnixMilli(), MessageId: req.GetMessageId(),
	}
	r.state.Messages = append(r.state.Messages, m)
	if extra := len(r.state.Messages) - keptMessages; extra > 0 {
		r.state.Messages = slices.Delete(r.state.Messages, 0, extra)
	}
	r.show(ctx, m)
	return &chat_pb.SendMessageResponse{Message: m}, nil
}

// History shows what was said. It changes nothing.
func (r *ChatRoom) History(ctx context.Context, req *chat_pb.HistoryRequest) (*chat_pb.HistoryResponse, error) {
	return &chat_pb.HistoryResponse{Messages: r.after(req.GetAfter()), Users: r.users()}, nil
}

// Leave takes the caller out.
func (r *ChatRoom) Leave(ctx context.Context, req *chat_pb.LeaveRequest) (*chat_pb.LeaveResponse, error) {
	before := r.users()
	client := goverseapi.CallerClientID(ctx)
	for key, m := range r.members {
		if m.name == req.GetUserName() && m.clientID == client {
			delete(r.members, key)
		}
	}
	r.announce(ctx, before)
	return &chat_pb.LeaveResponse{}, nil
}

// ToData implements goverseapi.Object.
func (r *ChatRoom) ToData() (proto.Message, error) { return r.state, nil }

// FromData implements goverseapi.Object.
func (r *ChatRoom) FromData(data proto.Message) error {
	r.state = &chat_pb.RoomState{}
	if kept, ok := data.(*chat_pb.RoomState); ok {
		r.state = kept
	}
	return nil
}

func (r *ChatRoom) after(number int64) []*chat_pb.ChatMessage {
	i, _ := slices.BinarySearchFunc(r.state.Messages, number+1, func(m *chat_pb.ChatMessage, n int64) int {
		return int(m.GetNumber() - n)
	})
	return slices.Clone(r.state.Messages[i:])
}

// find is the sender's message with this id, if it is among the latest.
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
