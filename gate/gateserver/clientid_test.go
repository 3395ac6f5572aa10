package gateserver

import (
	"context"
	"fmt"
	"net/http"
	"testing"

	"github.com/coder/websocket"
	"google.golang.org/grpc/metadata"

	gate_pb "github.com/xiaonanln/goverse/gate/proto"
	"github.com/xiaonanln/goverse/object"
)

// entry is a door that a session's client comes to: open is the client's id, and what asks.
type entry struct {
	name string
	open func(t *testing.T, s *GateServer) (id string, ask func(object.Op))
}

var everyDoor = []entry{
	{"Converse", func(t *testing.T, s *GateServer) (string, func(object.Op)) {
		k, w := talkOn(t, metadata.AppendToOutgoingContext(grpcAs(t, "ann"), clientIDHeader, "g:1/another"), dial(t, s), &gate_pb.Hello{})
		return w.ClientId, func(op object.Op) {
			k.say(frameFor(op))
			if f := k.next(); f.GetFailure() != nil {
				t.Error(said(t, f.GetFailure()))
			}
		}
	}},
	{"WebSocket", func(t *testing.T, s *GateServer) (string, func(object.Op)) {
		conn, _, err := websocket.Dial(t.Context(), "ws://"+s.HTTPAddr()+socketPath, &websocket.DialOptions{
			HTTPClient: &http.Client{Transport: transport(t)}, HTTPHeader: http.Header{"Authorization": {"ann"}},
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.CloseNow() })
		p := &page{t: t, conn: conn}
		return p.next().ClientID, func(op object.Op) {
			p.say(map[object.Op]string{
				object.OpCall:   `{"op":"call","seq":1,"type":"Room","id":"1","method":"M"}`,
				object.OpCreate: `{"op":"create","seq":1,"type":"Room","id":"1"}`,
				object.OpDelete: `{"op":"delete","seq":1,"type":"Room","id":"1"}`,
				object.OpSettle: `{"op":"settle","seq":1,"type":"Room","id":"1","callId":"c1"}`,
			}[op])
			if f := p.next(); f.Error != "" {
				t.Error(f)
			}
		}
	}},
	{"gRPC", func(t *testing.T, s *GateServer) (string, func(object.Op)) {
		c := dial(t, s)
		id, _ := register(t, grpcAs(t, "ann"), c)
		ctx := metadata.AppendToOutgoingContext(grpcAs(t, "ann"), clientIDHeader, id)
		return id, func(op object.Op) {
			if err := askUnary(ctx, c, op); err != nil {
				t.Error(err)
			}
		}
	}},
	throughHTTP("plain JSON", [...][3]string{
		object.OpCall: {"POST", "/api/v1/objects/Room/1/M", "{}"}, object.OpCreate: {"PUT", "/api/v1/objects/Room/1"},
		object.OpDelete: {"DELETE", "/api/v1/objects/Room/1"}, object.OpSettle: {"POST", "/api/v1/settle/Room/1"},
	}),
	throughHTTP("the envelope", [...][3]string{
		object.OpCall: {"POST", "/api/v1/objects/call/Room/1/M", "{}"}, object.OpCreate: {"POST", "/api/v1/objects/create/Room/1"},
		object.OpDelete: {"POST", "/api/v1/objects/delete/Room/1"}, object.OpSettle: {"POST", "/api/v1/settle/Room/1"},
	}),
	throughHTTP("Connect", [...][3]string{
		object.OpCall:   {"POST", webRoot + "CallObject", `{"type":"Room","id":"1","method":"M"}`},
		object.OpCreate: {"POST", webRoot + "CreateObject", `{"type":"Room","id":"1"}`},
		object.OpDelete: {"POST", webRoot + "DeleteObject", `{"type":"Room","id":"1"}`},
		object.OpSettle: {"POST", webRoot + "Settle", `{"callId":"c1","type":"Room","id":"1"}`},
	}, "Content-Type", "application/json"),
}

// throughHTTP asks in the name of a session that Register has opened.
func throughHTTP(name string, requests [4][3]string, header ...string) entry {
	return entry{name, func(t *testing.T, s *GateServer) (string, func(object.Op)) {
		id, _ := register(t, grpcAs(t, "ann"), dial(t, s))
		return id, func(op object.Op) {
			r, h := requests[op], append([]string{"Authorization", "ann", clientIDHeader, id}, header...)
			if op == object.OpSettle && r[2] == "" {
				h = append(h, callIDHeader, "c1")
			}
			if got := request(t, s, r[0], r[1], r[2], h...); got.status/100 != 2 {
				t.Error(got)
			}
		}
	}}
}

// frameFor asks for op over a stream.
func frameFor(op object.Op) *gate_pb.ClientFrame {
	f := &gate_pb.ClientFrame{Call: 1}
	switch op {
	case object.OpCall:
		f.Kind = &gate_pb.ClientFrame_CallObject{CallObject: &gate_pb.CallObjectRequest{Type: "Room", Id: "1", Method: "M"}}
	case object.OpCreate:
		f.Kind = &gate_pb.ClientFrame_CreateObject{CreateObject: &gate_pb.CreateObjectRequest{Type: "Room", Id: "1"}}
	case object.OpDelete:
		f.Kind = &gate_pb.ClientFrame_DeleteObject{DeleteObject: &gate_pb.DeleteObjectRequest{Type: "Room", Id: "1"}}
	case object.OpSettle:
		f.Kind = &gate_pb.ClientFrame_Settle{Settle: &gate_pb.SettleRequest{CallId: "c1", Type: "Room", Id: "1"}}
	}
	return f
}

// askUnary asks for what the frame asks for.
func askUnary(ctx context.Context, c gate_pb.GateServiceClient, op object.Op) (err error) {
	switch f := frameFor(op); op {
	case object.OpCall:
		_, err = c.CallObject(ctx, f.GetCallObject())
	case object.OpCreate:
		_, err = c.CreateObject(ctx, f.GetCreateObject())
	case object.OpDelete:
		_, err = c.DeleteObject(ctx, f.GetDeleteObject())
	case object.OpSettle:
		_, err = c.Settle(ctx, f.GetSettle())
	}
	return err
}

var everyOp = []object.Op{object.OpCall, object.OpCreate, object.OpDelete, object.OpSettle}

// Whatever a client asks for, and at whichever door, the node hears for whom: with an
// EventHandler and without.
func TestEveryDoorCarriesTheClientsID(t *testing.T) {
	for _, asked := range []bool{false, true} {
		for _, d := range everyDoor {
			t.Run(fmt.Sprintf("%s/handler=%v", d.name, asked), func(t *testing.T) {
				var seen visitors
				s := start(t, newCluster(seen.answer), func(c *GateServerConfig) {
					if asked {
						c.EventHandler = &doorman{}
					}
				})
				id, ask := d.open(t, s)
				for _, op := range everyOp {
					ask(op)
					if who := seen.take(); id == "" || len(who) != 1 || who[0].ClientID != id || !who[0].Client || (who[0].UserID == "ann") != asked {
						t.Errorf("%v: the node saw %+v, and the client is %s", op, who, id)
					}
				}
			})
		}
	}
}
