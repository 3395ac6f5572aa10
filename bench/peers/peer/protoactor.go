package peer

import (
	"context"
	"fmt"
	"io"
	"log/slog"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/asynkron/protoactor-go/remote"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// protoPeer is Proto.Actor: named actors, RequestFuture, the gRPC remote.
var protoPeer = Peer{
	Name: "protoactor", Version: "protoactor-go v0.0.0-20240822202345-3c0e61ca19c9",
	Serve: serveProto, Dial: dialProto, Open: openProto,
}

// newProto is an actor system that logs nothing; everything else is its default.
func newProto() *actor.ActorSystem {
	return actor.NewActorSystem(actor.WithLoggerFactory(func(*actor.ActorSystem) *slog.Logger {
		return slog.New(slog.NewTextHandler(io.Discard, &slog.HandlerOptions{Level: slog.LevelError + 1}))
	}))
}

// protoEcho is the actor.
type protoEcho struct{}

func (protoEcho) Receive(ctx actor.Context) {
	if m, ok := ctx.Message().(*wrapperspb.BytesValue); ok {
		ctx.Respond(m)
	}
}

var protoProps = actor.PropsFromProducer(func() actor.Actor { return protoEcho{} })

func serveProto(ctx context.Context, ready func(string)) error {
	system := newProto()
	r := remote.NewRemote(system, remote.Configure("127.0.0.1", 0))
	r.Start()
	for _, name := range names(Objects) {
		if _, err := system.Root.SpawnNamed(protoProps, name); err != nil {
			return err
		}
	}
	ready(system.Address())
	<-ctx.Done()
	r.Shutdown(false)
	system.Shutdown()
	return nil
}

type protoFar struct {
	system *actor.ActorSystem
	remote *remote.Remote
	pids   []*actor.PID
}

func dialProto(_ context.Context, address string) (Far, error) {
	p := &protoFar{system: newProto()}
	p.remote = remote.NewRemote(p.system, remote.Configure("127.0.0.1", 0))
	p.remote.Start()
	for _, name := range names(Objects) {
		p.pids = append(p.pids, actor.NewPID(address, name))
	}
	return p, nil
}

func (p *protoFar) Say(_ context.Context, object int, m *wrapperspb.BytesValue) (*wrapperspb.BytesValue, error) {
	return askProto(p.system, p.pids[object], m)
}

func (p *protoFar) Close() error {
	p.remote.Shutdown(false)
	p.system.Shutdown()
	return nil
}

func askProto(system *actor.ActorSystem, pid *actor.PID, m *wrapperspb.BytesValue) (*wrapperspb.BytesValue, error) {
	reply, err := system.Root.RequestFuture(pid, m, timeout).Result()
	if err != nil {
		return nil, err
	}
	echo, ok := reply.(*wrapperspb.BytesValue)
	if !ok {
		return nil, fmt.Errorf("the answer is a %T", reply)
	}
	return echo, nil
}

type protoNear struct {
	system *actor.ActorSystem
	names  []string
	pids   []*actor.PID
}

func openProto(context.Context) (Near, error) { return &protoNear{system: newProto()}, nil }

func (p *protoNear) Prepare(n int) { p.names, p.pids = names(n), make([]*actor.PID, n) }

func (p *protoNear) Make(_ context.Context, object int, m *wrapperspb.BytesValue) (*wrapperspb.BytesValue, error) {
	pid, err := p.system.Root.SpawnNamed(protoProps, p.names[object])
	if err != nil {
		return nil, err
	}
	p.pids[object] = pid
	return askProto(p.system, pid, m)
}

func (p *protoNear) Say(_ context.Context, object int, m *wrapperspb.BytesValue) (*wrapperspb.BytesValue, error) {
	return askProto(p.system, p.pids[object], m)
}

func (p *protoNear) Close() error {
	p.system.Shutdown()
	return nil
}
