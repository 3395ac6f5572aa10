package peer

import (
	"context"
	"fmt"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"

	"github.com/xiaonanln/goverse/internal/batch"
)

// pipe carries batches of frames to the other end of a lane and back, whole and in
// order. It is all that a lane knows of its transport. One goroutine may send while
// another receives.
type pipe interface {
	// send takes batch over. It may wait until the other end takes some. After an
	// error the batch may or may not arrive. taken, if not nil, is called when the other
	// end has taken a piece of a long one.
	send(batch *[]byte, taken func()) error
	// closeSend tells the other end that nothing more comes.
	closeSend() error
	// receive waits for a batch, which is the receiver's to free. io.EOF: nothing more
	// comes.
	receive() (mem.Buffer, error)
	// hangUp ends the pipe, if need be a little later: send and receive fail from then
	// on. It may be called by anyone, and twice.
	hangUp()
}

// The stream that a lane runs over. It stands beside PeerService because its
// messages are no protobuf messages: docs/format/wire.md draws them.
const (
	laneService = "goverse.Road"
	laneMethod  = "Lane"
	laneName    = "/" + laneService + "/" + laneMethod
)

func laneDesc(serve func(grpc.ServerStream) error) *grpc.ServiceDesc {
	handler := func(_ any, s grpc.ServerStream) error { return serve(s) }
	return &grpc.ServiceDesc{
		ServiceName: laneService,
		HandlerType: (*any)(nil),
		Streams:     []grpc.StreamDesc{{StreamName: laneMethod, Handler: handler, ServerStreams: true, ClientStreams: true}},
		Metadata:    "internal/peer/pipe.go",
	}
}

// grpcPipe is a lane's gRPC stream, at either end. A server's ends with its handler,
// whose business hangUp's is then.
type grpcPipe struct {
	stream messages
	end    context.CancelFunc
}

// messages is what the streams of both ends have.
type messages interface {
	Context() context.Context
	SendMsg(m any) error
	RecvMsg(m any) error
}

func (p grpcPipe) hangUp() { p.end() }

func (p grpcPipe) send(b *[]byte, taken func()) error {
	if taken == nil || len(*b) <= maxBody {
		return p.stream.SendMsg(b)
	}
	return p.stream.SendMsg(&batch.Watched{Message: b, Taken: taken})
}

func (p grpcPipe) closeSend() error {
	if s, ok := p.stream.(grpc.ClientStream); ok {
		return s.CloseSend()
	}
	return nil // a server's stream ends with its handler
}

func (p grpcPipe) receive() (mem.Buffer, error) {
	var b arrival
	if err := p.stream.RecvMsg(&b); err != nil {
		if status.Code(err) == codes.ResourceExhausted { // gRPC's own limit, before anything is read
			return nil, breach{err}
		}
		return nil, err
	}
	if b.Len() > maxBatch {
		defer b.Free()
		return nil, breach{fmt.Errorf("a batch of %d bytes, at most %d are allowed", b.Len(), maxBatch)}
	}
	return b.Buffer, nil
}

// arrival is a batch that RecvMsg receives.
type arrival struct{ mem.Buffer }

// buffers is where batches, bodies and replies are written.
var buffers = batch.Buffers

// batches is gRPC's codec of a process that has lanes: batches pass through as they
// are, and everything else is protobuf.
type batches struct{ encoding.CodecV2 }

func newBatches() batches { return batches{batch.Codec()} }

func (c batches) Unmarshal(data mem.BufferSlice, v any) error {
	if b, ok := v.(*arrival); ok {
		b.Buffer = data.MaterializeToBuffer(buffers)
		return nil
	}
	return c.CodecV2.Unmarshal(data, v)
}

// greet says hello over a new pipe and hears the other end's.
func greet(p pipe, own hello) error {
	b := own.append(nil)
	return p.send(&b, nil)
}

// heed receives the other end's hello.
func heed(p pipe) (hello, error) {
	batch, err := p.receive()
	if err != nil {
		return hello{}, err
	}
	defer batch.Free()
	f, rest, err := cutFrame(batch.ReadOnlyData())
	if err != nil {
		return hello{}, err
	}
	if f.kind == kindGoodbye {
		return hello{}, errLeaving
	}
	if len(rest) > 0 {
		return hello{}, fmt.Errorf("%d bytes stand beside a hello", len(rest))
	}
	return parseHello(f)
}
