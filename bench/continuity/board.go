package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/xiaonanln/goverse/goverseapi"
	"github.com/xiaonanln/goverse/object"
)

// boardType is the one type of object here.
const boardType = "Board"

// Board is a durable object that counts. It says each number twice: it pushes it to those
// who have joined, and publishes it to those who follow it.
type Board struct {
	goverseapi.BaseObject
	count  int64
	roster map[int64]string // who has joined: the reader's number → its client id
}

// Add counts on. Its answer is the count; the request is said along with it, as ballast.
func (b *Board) Add(ctx context.Context, ballast *wrapperspb.StringValue) (*wrapperspb.Int64Value, error) {
	said := saying{board: b.Id(), count: b.count + 1, at: time.Now(), ballast: ballast.GetValue()}.message()
	if len(b.roster) > 0 {
		if err := goverseapi.PushMessageToClients(ctx, slices.Collect(maps.Values(b.roster)), said); err != nil {
			return nil, err
		}
	}
	if err := goverseapi.Publish(ctx, said); err != nil {
		return nil, err
	}
	b.count++ // what could not be said is not counted
	return wrapperspb.Int64(b.count), nil
}

// Join has the client that calls hear every number from now on, in place of the client that
// joined under the same number before. The first that it hears is the count as it is. Who
// has hung up meanwhile is nobody, and cannot be told anything.
func (b *Board) Join(ctx context.Context, reader *wrapperspb.Int64Value) (*wrapperspb.Int64Value, error) {
	client := goverseapi.CallerClientID(ctx)
	if client == "" {
		return nil, errors.New("whoever joins has to be connected")
	}
	if b.roster == nil {
		b.roster = map[int64]string{}
	}
	b.roster[reader.GetValue()] = client
	said := saying{board: b.Id(), count: b.count, at: time.Now(), joined: true}.message()
	return wrapperspb.Int64(b.count), goverseapi.PushMessageToClient(ctx, client, said)
}

// Look is the count.
func (b *Board) Look(context.Context, *wrapperspb.Int64Value) (*wrapperspb.Int64Value, error) {
	return wrapperspb.Int64(b.count), nil
}

// OnSubscribe shows the count.
func (b *Board) OnSubscribe(context.Context) (proto.Message, error) {
	return saying{board: b.Id(), count: b.count, at: time.Now()}.message(), nil
}

// kept is a board as it is stored.
type kept struct {
	Count  int64
	Roster map[int64]string
}

func (b *Board) ToData() (proto.Message, error) {
	text, err := json.Marshal(kept{b.count, b.roster})
	return wrapperspb.Bytes(text), err
}

func (b *Board) FromData(data proto.Message) error {
	stored, ok := data.(*wrapperspb.BytesValue)
	if !ok {
		return nil
	}
	var k kept
	if err := json.Unmarshal(stored.Value, &k); err != nil {
		return err
	}
	b.count, b.roster = k.Count, k.Roster
	return nil
}

// boards is what the nodes host.
func boards() (*object.Types, error) {
	types := object.NewTypes()
	return types, types.Register((*Board)(nil), goverseapi.ReadOnlyMethods("Look"))
}

// saying is what a board pushes and publishes: "board-3 17 1700000000000000000 j ballast".
type saying struct {
	board   string
	count   int64
	at      time.Time
	joined  bool
	ballast string
}

func (s saying) message() *wrapperspb.StringValue {
	kind := "c"
	if s.joined {
		kind = "j"
	}
	return wrapperspb.String(fmt.Sprintf("%s %d %d %s %s", s.board, s.count, s.at.UnixNano(), kind, s.ballast))
}

func parseSaying(text string) (s saying, err error) {
	parts := strings.SplitN(text, " ", 5)
	if len(parts) != 5 {
		return s, fmt.Errorf("%.40q was not said by a board", text)
	}
	count, err := strconv.ParseInt(parts[1], 10, 64)
	if err != nil {
		return s, err
	}
	nanos, err := strconv.ParseInt(parts[2], 10, 64)
	return saying{parts[0], count, time.Unix(0, nanos), parts[3] == "j", parts[4]}, err
}
