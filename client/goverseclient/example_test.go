package goverseclient_test

import (
	"context"
	"fmt"
	"log"
	"net"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/xiaonanln/goverse/client/goverseclient"
	gate_pb "github.com/xiaonanln/goverse/gate/proto"
)

func Example() {
	address, stop := runGate() // in life, a gate of your cluster
	defer stop()

	subscribed := make(chan struct{})
	heard := make(chan proto.Message, 1)
	c, err := goverseclient.NewClient([]string{address},
		goverseclient.WithUnaryCalls(), // this little gate has no stream for calls
		goverseclient.WithCallTimeout(5*time.Second),
		// A client id holds for one connection: here a chat client joins its room, each
		// time anew.
		goverseclient.WithOnConnect(func(string) { close(subscribed) }),
		goverseclient.WithOnMessage(func(m proto.Message) { heard <- m }),
	)
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()

	ctx := context.Background()
	if err := c.Connect(ctx); err != nil {
		log.Fatal(err)
	}
	<-subscribed

	reply, err := c.CallObject(ctx, "Greeter", "anna", "Hello", wrapperspb.String("Ben"))
	fmt.Println(reply.(*wrapperspb.StringValue).Value, err)
	fmt.Println("pushed:", (<-heard).(*wrapperspb.StringValue).Value)

	_, err = c.CallObject(ctx, "Greeter", "anna", "Insult", nil)
	fmt.Println(err)
	fmt.Println("did it run?", goverseclient.OutcomeOf(err))

	// Output:
	// Hello Ben, here is anna! <nil>
	// pushed: anna has greeted Ben
	// CallObject Greeter/anna.Insult: failed: rpc error: code = Unknown desc = anna is polite
	// did it run? Executed
}

// An object is followed: its state first, then each change.
func ExampleClient_Subscribe() {
	address, stop := runGate() // in life, a gate of your cluster
	defer stop()
	ctx := context.Background()
	c, err := goverseclient.NewClient([]string{address})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	if err := c.Connect(ctx); err != nil {
		log.Fatal(err)
	}
	visits, err := c.Subscribe(ctx, "Counter", "visits")
	if err != nil {
		log.Fatal(err)
	}
	defer visits.Unsubscribe()
	for u, err := range goverseclient.UpdatesOf[*wrapperspb.Int64Value, *wrapperspb.StringValue](ctx, visits) {
		switch {
		case err != nil:
			log.Fatal(err)
		case u.IsChange:
			fmt.Println("version", u.Version, "by", u.Change.Value)
		default:
			fmt.Println("version", u.Version, "is", u.Snapshot.Value)
		}
		if u.Version == 8 {
			break
		}
	}

	// Output:
	// version 7 is 42
	// version 8 by Ben
}

// Converse is where the Counter is followed; other examples' clients call one by one.
func (g *greeter) Converse(client grpc.BidiStreamingServer[gate_pb.ClientBatch, gate_pb.GateBatch]) error {
	say := func(frames ...*gate_pb.GateFrame) error { return client.Send(&gate_pb.GateBatch{Frames: frames}) }
	if err := say(&gate_pb.GateFrame{Kind: &gate_pb.GateFrame_Welcome{Welcome: &gate_pb.Welcome{ClientId: "gate/2", MaxCalls: 16, Subscriptions: true}}}); err != nil {
		return err
	}
	state, err := anypb.New(wrapperspb.Int64(42))
	if err != nil {
		return err
	}
	change, err := anypb.New(wrapperspb.String("Ben"))
	if err != nil {
		return err
	}
	for {
		b, err := client.Recv()
		if err != nil {
			return err
		}
		for _, f := range b.Frames {
			if f.GetSubscribe() == nil {
				continue
			}
			err := say(
				&gate_pb.GateFrame{Call: f.Call, Kind: &gate_pb.GateFrame_Subscribed{Subscribed: &gate_pb.SubscribeResponse{Subscription: 1}}},
				&gate_pb.GateFrame{Kind: &gate_pb.GateFrame_Published{Published: &gate_pb.Published{Subscription: 1, Version: 7, Incarnation: 1, Snapshot: state}}},
				&gate_pb.GateFrame{Kind: &gate_pb.GateFrame_Published{Published: &gate_pb.Published{Subscription: 1, Version: 8, Change: change}}},
			)
			if err != nil {
				return err
			}
		}
	}
}

// greeter plays a whole cluster for one client.
type greeter struct {
	gate_pb.UnimplementedGateServiceServer
	pushes chan *anypb.Any
}

func (g *greeter) Register(_ *emptypb.Empty, client grpc.ServerStreamingServer[anypb.Any]) error {
	welcome, err := anypb.New(&gate_pb.RegisterResponse{ClientId: "gate/1"})
	for err == nil {
		if err = client.Send(welcome); err != nil {
			break
		}
		select {
		case welcome = <-g.pushes:
		case <-client.Context().Done():
			err = client.Context().Err()
		}
	}
	return err
}

func (g *greeter) CallObject(_ context.Context, r *gate_pb.CallObjectRequest) (*gate_pb.CallObjectResponse, error) {
	if r.Method != "Hello" {
		return nil, fmt.Errorf("%s is polite", r.Id)
	}
	whom := new(wrapperspb.StringValue)
	if err := r.Request.UnmarshalTo(whom); err != nil {
		return nil, err
	}
	push, err := anypb.New(wrapperspb.String(r.Id + " has greeted " + whom.Value))
	if err != nil {
		return nil, err
	}
	g.pushes <- push
	reply, err := anypb.New(wrapperspb.String("Hello " + whom.Value + ", here is " + r.Id + "!"))
	return &gate_pb.CallObjectResponse{Response: reply}, err
}

func runGate() (address string, stop func()) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	s := grpc.NewServer()
	gate_pb.RegisterGateServiceServer(s, &greeter{pushes: make(chan *anypb.Any, 1)})
	served := make(chan struct{})
	go func() { defer close(served); _ = s.Serve(l) }()
	return l.Addr().String(), func() { s.Stop(); <-served }
}
