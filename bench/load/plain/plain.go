// Package plain is the reference of the benchmarks: the same echo by a unary method of
// grpc-go with its defaults, and nothing else.
package plain

import (
	"context"
	"net"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

const service, method = "goverse.bench.Echo", "Say"

// description is what generated code would say of the service.
var description = grpc.ServiceDesc{
	ServiceName: service,
	HandlerType: (*any)(nil),
	Methods: []grpc.MethodDesc{{MethodName: method, Handler: func(_ any, ctx context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
		m := new(wrapperspb.BytesValue)
		if err := decode(m); err != nil {
			return nil, err
		}
		return say(ctx, m)
	}}},
}

// say answers with what it was told.
func say(_ context.Context, m *wrapperspb.BytesValue) (*wrapperspb.BytesValue, error) { return m, nil }

// Serve is the server, until ctx ends.
func Serve(ctx context.Context, ready func(address string)) error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	server := grpc.NewServer()
	server.RegisterService(&description, struct{}{})
	defer context.AfterFunc(ctx, server.Stop)()
	ready(listener.Addr().String())
	return server.Serve(listener)
}

// Client is a connection to the server.
type Client struct{ conn *grpc.ClientConn }

// Dial makes a client of the server at an address. It connects with the first call.
func Dial(address string) (*Client, error) {
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	return &Client{conn}, err
}

// Say makes one call.
func (c *Client) Say(ctx context.Context, m *wrapperspb.BytesValue) (*wrapperspb.BytesValue, error) {
	reply := new(wrapperspb.BytesValue)
	if err := c.conn.Invoke(ctx, "/"+service+"/"+method, m, reply); err != nil {
		return nil, err
	}
	return reply, nil
}

// Close ends the connection.
func (c *Client) Close() error { return c.conn.Close() }
