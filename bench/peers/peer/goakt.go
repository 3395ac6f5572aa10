package peer

import (
	"context"
	"fmt"
	"io"
	"net"
	"strconv"

	"github.com/tochemey/goakt/v2/actors"
	"github.com/tochemey/goakt/v2/address"
	"github.com/tochemey/goakt/v2/goaktpb"
	"github.com/tochemey/goakt/v2/log"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// aktPeer is GoAkt: named actors without passivation, Ask, and RemoteAsk of its remoting.
var aktPeer = Peer{
	Name: "goakt", Version: "goakt/v2 v2.10.2",
	Serve: serveAkt, Dial: dialAkt, Open: openAkt,
	Most: 1000, // each actor copies the list of its siblings: 20,000 take minutes, and 15 GB
}

const aktSystem = "bench"

// newAkt is an actor system that logs nothing and keeps idle actors.
func newAkt(ctx context.Context, more ...actors.Option) (actors.ActorSystem, error) {
	system, err := actors.NewActorSystem(aktSystem, append(more, actors.WithLogger(log.New(log.PanicLevel, io.Discard)), actors.WithPassivationDisabled())...)
	if err != nil {
		return nil, err
	}
	return system, system.Start(ctx)
}

// aktEcho is the actor.
type aktEcho struct{}

func (*aktEcho) PreStart(context.Context) error { return nil }
func (*aktEcho) PostStop(context.Context) error { return nil }

func (*aktEcho) Receive(ctx *actors.ReceiveContext) {
	switch m := ctx.Message().(type) {
	case *goaktpb.PostStart:
	case *wrapperspb.BytesValue:
		ctx.Response(m)
	default:
		ctx.Unhandled()
	}
}

func serveAkt(ctx context.Context, ready func(string)) error {
	where, err := freeAddress()
	if err != nil {
		return err
	}
	system, err := newAkt(ctx, actors.WithRemoting(where.IP.String(), int32(where.Port)))
	if err != nil {
		return err
	}
	for _, name := range names(Objects) {
		if _, err := system.Spawn(ctx, name, new(aktEcho)); err != nil {
			return err
		}
	}
	ready(where.String())
	<-ctx.Done()
	return system.Stop(context.WithoutCancel(ctx))
}

// freeAddress is one on loopback: GoAkt wants to know its port before it listens.
func freeAddress() (*net.TCPAddr, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	return l.Addr().(*net.TCPAddr), l.Close()
}

type aktFar struct {
	remoting *actors.Remoting
	actors   []*address.Address
}

func dialAkt(ctx context.Context, where string) (Far, error) {
	host, text, err := net.SplitHostPort(where)
	if err != nil {
		return nil, err
	}
	port, err := strconv.Atoi(text)
	if err != nil {
		return nil, err
	}
	a := &aktFar{remoting: actors.NewRemoting()}
	for _, name := range names(Objects) {
		to, err := a.remoting.RemoteLookup(ctx, host, port, name)
		if err != nil || to == nil {
			a.remoting.Close()
			return nil, fmt.Errorf("look up %s: %v, %w", name, to, err)
		}
		a.actors = append(a.actors, to)
	}
	return a, nil
}

func (a *aktFar) Say(ctx context.Context, object int, m *wrapperspb.BytesValue) (*wrapperspb.BytesValue, error) {
	packed, err := a.remoting.RemoteAsk(ctx, address.NoSender(), a.actors[object], m, timeout)
	if err != nil {
		return nil, err
	}
	reply, err := packed.UnmarshalNew()
	return aktAnswer(reply, err)
}

func (a *aktFar) Close() error {
	a.remoting.Close()
	return nil
}

func aktAnswer(reply proto.Message, err error) (*wrapperspb.BytesValue, error) {
	if err != nil {
		return nil, err
	}
	echo, ok := reply.(*wrapperspb.BytesValue)
	if !ok {
		return nil, fmt.Errorf("the answer is a %T", reply)
	}
	return echo, nil
}

type aktNear struct {
	system actors.ActorSystem
	names  []string
	pids   []*actors.PID
}

func openAkt(ctx context.Context) (Near, error) {
	system, err := newAkt(ctx)
	return &aktNear{system: system}, err
}

func (a *aktNear) Prepare(n int) { a.names, a.pids = names(n), make([]*actors.PID, n) }

func (a *aktNear) Make(ctx context.Context, object int, m *wrapperspb.BytesValue) (*wrapperspb.BytesValue, error) {
	pid, err := a.system.Spawn(ctx, a.names[object], new(aktEcho))
	if err != nil {
		return nil, err
	}
	a.pids[object] = pid
	return a.Say(ctx, object, m)
}

func (a *aktNear) Say(ctx context.Context, object int, m *wrapperspb.BytesValue) (*wrapperspb.BytesValue, error) {
	return aktAnswer(actors.Ask(ctx, a.pids[object], m, timeout))
}

func (a *aktNear) Close() error { return a.system.Stop(context.Background()) }
