//lint:file-ignore SA1019 the deprecated parts of the golden code have to work, too

package main

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/xiaonanln/goverse/cmd/protoc-gen-go-goverse/testdata/good/edition"
	foreign "github.com/xiaonanln/goverse/cmd/protoc-gen-go-goverse/testdata/good/foreign"
	"github.com/xiaonanln/goverse/cmd/protoc-gen-go-goverse/testdata/good/foreign/ctx"
	payload "github.com/xiaonanln/goverse/cmd/protoc-gen-go-goverse/testdata/good/foreign/object"
	oldpb "github.com/xiaonanln/goverse/cmd/protoc-gen-go-goverse/testdata/good/old"
	"github.com/xiaonanln/goverse/cmd/protoc-gen-go-goverse/testdata/good/pair"
	"github.com/xiaonanln/goverse/cmd/protoc-gen-go-goverse/testdata/good/room"
	"github.com/xiaonanln/goverse/goverseapi"
	"github.com/xiaonanln/goverse/goversetest"
	"github.com/xiaonanln/goverse/object"
)

// Hall is a room by another name.
type Hall struct {
	goverseapi.BaseObject
	names []string
}

func (h *Hall) Join(_ context.Context, req *room.JoinRequest) (*room.JoinReply, error) {
	h.names = append(h.names, req.GetName())
	return h.members(), nil
}

func (h *Hall) Count(context.Context, *room.CountRequest) (*room.JoinReply, error) {
	return h.members(), nil
}

// Enter joins twice, through calls of the object to itself.
func (h *Hall) Enter(ctx context.Context, req *room.JoinRequest) (*room.JoinReply, error) {
	me := room.NewRoomRef(goverseapi.Runtime(), h.Id())
	if _, err := me.Join(ctx, req); err != nil {
		return nil, err
	}
	return me.Join(ctx, req)
}

// Leave answers with nothing at all.
func (h *Hall) Leave(context.Context, *room.JoinRequest) (*room.Nothing, error) { return nil, nil }

func (h *Hall) Fail(context.Context, *room.JoinRequest) (*room.Nothing, error) {
	return nil, status.Error(codes.OutOfRange, "no")
}

// Whisper is in no service.
func (h *Hall) Whisper(context.Context, *room.JoinRequest) (*room.Nothing, error) {
	return &room.Nothing{}, nil
}

func (h *Hall) members() *room.JoinReply { return &room.JoinReply{Members: int64(len(h.names))} }

type Desk struct{ goverseapi.BaseObject }

func (d *Desk) Echo(_ context.Context, req *ctx.Req) (*payload.Payload_Inner, error) {
	return &payload.Payload_Inner{Text: req.GetText()}, nil
}

func (d *Desk) Clear(context.Context, *emptypb.Empty) (*emptypb.Empty, error) {
	return &emptypb.Empty{}, nil
}

func (d *Desk) Own(_ context.Context, req *foreign.Outer_Inner) (*wrapperspb.StringValue, error) {
	return wrapperspb.String(req.GetText()), nil
}

type Talk struct{ goverseapi.BaseObject }

func (c *Talk) JoinRoom(_ context.Context, req *edition.Object) (*edition.Context, error) {
	return &edition.Context{Text: req.GetRange()}, nil
}
func (c *Talk) Func(context.Context, *edition.Object) (*edition.Context, error) { return nil, nil }
func (c *Talk) Do(context.Context, *edition.Object) (*edition.Context, error)   { return nil, nil }
func (c *Talk) New(context.Context, *edition.Object) (*edition.Context, error)  { return nil, nil }
func (c *Talk) Error(context.Context, *edition.Context) (*edition.Object, error) {
	return nil, nil
}

type Both struct{ goverseapi.BaseObject }

func (b *Both) Ask(_ context.Context, req *pair.Word) (*pair.Word, error) { return req, nil }

func (b *Both) Add(_ context.Context, req *oldpb.Amount) (*oldpb.Amount, error) {
	return &oldpb.Amount{Value: proto.Int64(req.GetValue() + 1)}, nil
}

// The Go type of a service may have any name, and one Go type may serve several.
var world = goversetest.Cluster{Types: []goversetest.Type{
	goversetest.Of(room.NewRoomType((*Hall)(nil), goverseapi.WithMode(goverseapi.Sequential))),
	goversetest.Of(foreign.NewDeskType((*Desk)(nil))),
	goversetest.Of(edition.NewChatRoomType((*Talk)(nil))),
	goversetest.Of(pair.NewLeftType((*Both)(nil))),
	goversetest.Of(pair.NewRightType((*Both)(nil))),
	goversetest.Of(oldpb.NewOldType((*Both)(nil))),
}}

// The golden code runs, from code on a node and through a gate.
func TestGoldenCode(t *testing.T) {
	goversetest.Run(t, world, func(w *goversetest.World) {
		c := w.Context()
		if err := w.Create("Room/x"); err != nil {
			w.T.Fatal(err)
		}
		for i, caller := range []goverseapi.Caller{w, w.Connect(), goverseapi.Runtime()} {
			hall := room.NewRoomRef(caller, "x")
			members := int64(3 * i)
			if got, err := hall.Join(c, &room.JoinRequest{Name: "ann"}); err != nil || got.GetMembers() != members+1 {
				w.T.Error(got, err)
			}
			if got, err := hall.Enter(c, &room.JoinRequest{Name: "bob"}); err != nil || got.GetMembers() != members+3 {
				w.T.Error(got, err)
			}
			if got, err := hall.Count(c, nil); err != nil || got.GetMembers() != members+3 {
				w.T.Error(got, err)
			}
			if got, err := hall.Fail(c, nil); got != nil || !errors.Is(err, goverseapi.ErrFailed) || status.Code(err) != codes.OutOfRange {
				w.T.Error(got, err)
			}
			if got, err := hall.Leave(c, nil); got != nil || !errors.Is(err, goverseapi.ErrFailed) || !strings.Contains(err.Error(), "neither a reply nor an error") {
				w.T.Error(got, err)
			}
			if _, err := room.NewRoomRef(caller, "y").Count(c, nil); !errors.Is(err, goverseapi.ErrNotFound) {
				w.T.Error("the service demands that rooms are created:", err)
			}
			if got, err := hall.Join(c, nil, goverseapi.WithCallID("")); got != nil || !errors.Is(err, goverseapi.ErrInvalid) {
				w.T.Error(got, err)
			}
			if got, err := hall.Count(c, nil, goverseapi.WithTimeout(time.Minute), goverseapi.WithAtLeastOnce()); err != nil || got.GetMembers() != members+3 {
				w.T.Error(got, err)
			}
			if got, err := foreign.NewDeskRef(caller, "d").Echo(c, &ctx.Req{Text: "hi"}); err != nil || got.GetText() != "hi" {
				w.T.Error(got, err)
			}
			if got, err := foreign.NewDeskRef(caller, "d").Own(c, &foreign.Outer_Inner{Text: "hi"}); err != nil || got.GetValue() != "hi" {
				w.T.Error(got, err)
			}
			if got, err := edition.NewChatRoomRef(caller, "e").JoinRoom(c, &edition.Object{Range: proto.String("hi")}); err != nil || got.GetText() != "hi" {
				w.T.Error(got, err)
			}
			if got, err := pair.NewRightRef(caller, "r").Ask(c, &pair.Word{Text: "hi"}); err != nil || got.GetText() != "hi" {
				w.T.Error(got, err)
			}
			if got, err := oldpb.NewOldRef(caller, "o").Add(c, &oldpb.Amount{Value: proto.Int64(1)}); err != nil || got.GetValue() != 2 {
				w.T.Error(got, err)
			}
		}
		if _, err := w.TryCall("Room/x", "Whisper", nil); !errors.Is(err, goverseapi.ErrUnknownMethod) {
			w.T.Error("a method beside the service:", err)
		}
		if _, err := w.TryCall("Room/x", "Join", &room.CountRequest{}); !errors.Is(err, goverseapi.ErrInvalid) {
			w.T.Error("a request of another method:", err)
		}
	})
}

// What the .proto file states of the objects comes to be.
func TestGoldenOptions(t *testing.T) {
	types := object.NewTypes()
	for _, err := range []error{
		types.Register(room.NewRoomType((*Hall)(nil))),
		types.Register(room.NewVaultType((*Kept)(nil))),
		types.Register(room.NewLogType((*Kept)(nil), goverseapi.WithName("Journal"))),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	typ := func(name string) *object.Type {
		got, ok := types.Lookup(name)
		if !ok {
			t.Fatalf("no type %q in %q", name, types.Names())
		}
		return got
	}
	if r := typ("Room"); r.Mode != object.Concurrent || r.Durability != object.Volatile || r.IdleTimeout != 90*time.Minute || r.MaxQueue != 7 || !r.MustCreate ||
		!r.Methods["Count"].ReadOnly || r.Methods["Leave"].ReadOnly || r.Methods["Join"].ReadOnly || len(r.Methods) != 5 {
		t.Errorf("%+v", r)
	}
	if v := typ(`strong "room"`); v.Durability != object.Durable || v.IdleTimeout != -1 || !v.Transactional || v.Mode != object.Sequential {
		t.Errorf("%+v", v)
	}
	if l := typ("Journal"); l.Durability.Interval() != 1500*time.Millisecond || l.IdleTimeout != 1 ||
		l.Methods["Put"].Internal || !l.Methods["Trim"].Internal || !l.Methods["Swap"].Internal {
		t.Errorf("%+v", l)
	}
	if err := types.Register(room.NewVaultType((*Hollow)(nil), goverseapi.WithName("Hollow"))); err == nil || !strings.Contains(err.Error(), "neither a State nor ToData") {
		t.Error("a durable service on a type without a state:", err)
	}
	if got := room.NewVaultRef(nil, "x").String(); got != `strong "room"/x` {
		t.Error(got)
	}
}

type Hollow struct{ goverseapi.BaseObject }

func (k *Hollow) Put(context.Context, *room.JoinRequest) (*room.Nothing, error) { return nil, nil }

type Kept struct{ Hollow }

func (k *Kept) Trim(context.Context, *room.JoinRequest) (*room.Nothing, error) { return nil, nil }
func (k *Kept) Swap(context.Context, *room.JoinRequest) (*room.Nothing, error) { return nil, nil }

func (k *Kept) ToData() (proto.Message, error) { return &room.Nothing{}, nil }
func (k *Kept) FromData(proto.Message) error   { return nil }

// A fake answers as an object would, and says what it lacks.
func TestGoldenFake(t *testing.T) {
	odd := errors.New("odd")
	rooms := &room.RoomFake{
		JoinFunc: func(_ context.Context, id string, req *room.JoinRequest) (*room.JoinReply, error) {
			return &room.JoinReply{Members: int64(len(id) + len(req.GetName()))}, nil
		},
		FailFunc:  func(context.Context, string, *room.JoinRequest) (*room.Nothing, error) { return nil, odd },
		LeaveFunc: func(context.Context, string, *room.JoinRequest) (*room.Nothing, error) { return nil, nil },
		CountFunc: func(context.Context, string, *room.CountRequest) (*room.JoinReply, error) {
			return nil, goverseapi.ErrNotReady
		},
	}
	fakes := goversetest.NewFakes(rooms, &pair.LeftFake{})
	for _, caller := range []goverseapi.Caller{rooms, fakes, goverseapi.Runtime()} {
		c, x := fakes.Context(t.Context()), room.NewRoomRef(caller, "xyz")
		if got, err := x.Join(c, &room.JoinRequest{Name: "ann"}); err != nil || got.GetMembers() != 6 {
			t.Error(got, err)
		}
		if got, err := x.Join(c, nil); err != nil || got.GetMembers() != 3 {
			t.Error(got, err)
		}
		for _, fails := range []struct {
			err     error
			is      error
			outcome goverseapi.Outcome
			says    string
		}{
			{second(x.Fail(c, nil)), odd, goverseapi.Executed, "CallObject Room/xyz.Fail: failed: odd"},
			{second(x.Fail(c, nil)), goverseapi.ErrFailed, goverseapi.Executed, "failed"},
			{second(x.Leave(c, nil)), goverseapi.ErrFailed, goverseapi.Executed, "neither a reply nor an error"},
			{second(x.Count(c, nil)), goverseapi.ErrNotReady, goverseapi.NotExecuted, "Room/xyz.Count: not ready"},
			{second(x.Enter(c, nil)), goverseapi.ErrUnknownMethod, goverseapi.NotExecuted, "set EnterFunc"},
			{second(foreign.NewDeskRef(caller, "d").Clear(c, nil)), goverseapi.ErrUnknownType, goverseapi.NotExecuted, "Desk/d.Clear: unknown type"},
			{second(goverseapi.Call(c, "Room", "xyz", "Join", &room.CountRequest{})), goverseapi.ErrInvalid, goverseapi.NotExecuted, "takes a golden.room.JoinRequest"},
			{second(goverseapi.Call(c, "Room", "xyz", "Whisper", nil)), goverseapi.ErrUnknownMethod, goverseapi.NotExecuted, "set WhisperFunc"},
			{second(goverseapi.CreateObject(c, "Room", "xyz")), goverseapi.ErrInvalid, goverseapi.NotExecuted, "only answers calls of methods"},
		} {
			if !errors.Is(fails.err, fails.is) || goverseapi.OutcomeOf(fails.err) != fails.outcome || !strings.Contains(fails.err.Error(), fails.says) {
				t.Errorf("%v (%v), want it to say %q", fails.err, goverseapi.OutcomeOf(fails.err), fails.says)
			}
		}
	}
	if err := goverseapi.PushMessageToClient(fakes.Context(t.Context()), "gate/1", &room.Nothing{}); err != nil || len(fakes.Pushed()) != 1 {
		t.Error(err, fakes.Pushed())
	}
}

func second[T any](_ T, err error) error { return err }

// Code of a version that this Goverse does not know does not compile, and its file says
// what to do.
func TestVersionMismatch(t *testing.T) {
	const file = "testdata/good/pair/left_goverse.pb.go"
	code := read(t, file)
	newer := strings.ReplaceAll(code, "SupportPackageIsVersion1", "SupportPackageIsVersion2")
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	replaced, overlay := filepath.Join(dir, "newer.go"), filepath.Join(dir, "overlay.json")
	for path, text := range map[string]string{replaced: newer, overlay: `{"Replace": {"` + filepath.Join(here, file) + `": "` + replaced + `"}}`} {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	out, err := exec.Command("go", "build", "-overlay", overlay, "./testdata/good/pair").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "undefined: object.SupportPackageIsVersion2") {
		t.Errorf("%v\n%s", err, out)
	}
	if !strings.Contains(code, "// If this does not compile") || newer == code {
		t.Error("the code does not say what to do")
	}
}
