package peer

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// streamPeer is one stream of grpc-go for all callers, as one would write it first: a
// message for each call, sent under a mutex; a goroutine for each request. Eight bytes
// in front of each message tell which answer is whose.
var streamPeer = Peer{
	Name: "grpc-stream", Version: "grpc-go " + grpc.Version,
	Serve: serveStream, Dial: dialStream,
}

const streamMethod = "Say"

var streamService = grpc.ServiceDesc{
	ServiceName: "goverse.bench.Stream",
	HandlerType: (*any)(nil),
	Streams:     []grpc.StreamDesc{{StreamName: streamMethod, Handler: echoStream, ClientStreams: true, ServerStreams: true}},
}

func serveStream(ctx context.Context, ready func(string)) error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	server := grpc.NewServer()
	server.RegisterService(&streamService, struct{}{})
	defer context.AfterFunc(ctx, server.Stop)()
	ready(listener.Addr().String())
	return server.Serve(listener)
}

// echoStream answers each request on a goroutine of its own, in any order.
func echoStream(_ any, stream grpc.ServerStream) error {
	var sending sync.Mutex
	var requests sync.WaitGroup
	defer requests.Wait()
	for {
		m := new(wrapperspb.BytesValue)
		if err := stream.RecvMsg(m); err != nil {
			return nil // the client has gone
		}
		requests.Go(func() {
			sending.Lock()
			defer sending.Unlock()
			_ = stream.SendMsg(m) // the receiver sees it too
		})
	}
}

// streamFar is the calling end.
type streamFar struct {
	conn   *grpc.ClientConn
	stream grpc.ClientStream
	stop   context.CancelFunc
	ended  chan struct{} // closed when the receiver has

	sending sync.Mutex

	mu      sync.Mutex
	next    uint64
	waiting map[uint64]chan *wrapperspb.BytesValue // guarded by mu; nil: the stream has ended
}

func dialStream(_ context.Context, address string) (Far, error) {
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(context.Background())
	s := &streamFar{conn: conn, stop: stop, ended: make(chan struct{}), waiting: map[uint64]chan *wrapperspb.BytesValue{}}
	if s.stream, err = conn.NewStream(ctx, &streamService.Streams[0], "/"+streamService.ServiceName+"/"+streamMethod); err != nil {
		stop()
		return nil, errors.Join(err, conn.Close())
	}
	go s.receive()
	return s, nil
}

// receive hands each answer to its caller.
func (s *streamFar) receive() {
	defer close(s.ended)
	for {
		m := new(wrapperspb.BytesValue)
		if err := s.stream.RecvMsg(m); err != nil || len(m.Value) < 8 {
			break
		}
		id := binary.LittleEndian.Uint64(m.Value)
		m.Value = m.Value[8:]
		s.mu.Lock()
		answer := s.waiting[id]
		delete(s.waiting, id)
		s.mu.Unlock()
		if answer != nil {
			answer <- m
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, answer := range s.waiting {
		close(answer)
	}
	s.waiting = nil
}

func (s *streamFar) Say(ctx context.Context, _ int, m *wrapperspb.BytesValue) (*wrapperspb.BytesValue, error) {
	answer := make(chan *wrapperspb.BytesValue, 1)
	s.mu.Lock()
	id := s.next
	s.next++
	if s.waiting == nil {
		s.mu.Unlock()
		return nil, errors.New("the stream has ended")
	}
	s.waiting[id] = answer
	s.mu.Unlock()
	framed := wrapperspb.Bytes(append(binary.LittleEndian.AppendUint64(make([]byte, 0, 8+len(m.Value)), id), m.Value...))
	s.sending.Lock()
	err := s.stream.SendMsg(framed)
	s.sending.Unlock()
	if err != nil {
		return nil, fmt.Errorf("send: %w", err)
	}
	select {
	case reply, ok := <-answer:
		if !ok {
			return nil, errors.New("the stream has ended")
		}
		return reply, nil
	case <-ctx.Done():
		s.mu.Lock()
		delete(s.waiting, id)
		s.mu.Unlock()
		return nil, ctx.Err()
	}
}

func (s *streamFar) Close() error {
	s.stop()
	<-s.ended
	return s.conn.Close()
}
