package gateserver

import (
	"net/http"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/anypb"

	gate_pb "github.com/xiaonanln/goverse/gate/proto"
)

func benchServer(b *testing.B) *GateServer {
	s, err := NewGateServer(&GateServerConfig{ListenAddress: "127.0.0.1:0", HTTPListenAddress: "127.0.0.1:0", Router: newCluster(echo), Logger: quiet()})
	if err != nil {
		b.Fatal(err)
	}
	if err := s.Start(b.Context()); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = s.Stop() })
	return s
}

// The gate's own share of a call: the cluster behind it is a function.
func BenchmarkCallOverGRPC(b *testing.B) {
	cc, err := grpc.NewClient("passthrough:///"+benchServer(b).GRPCAddr(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		b.Fatal(err)
	}
	defer cc.Close()
	c := gate_pb.NewGateServiceClient(cc)
	r := &gate_pb.CallObjectRequest{Type: "Room", Id: "general", Method: "Say", Request: &anypb.Any{Value: make([]byte, 62)}}
	b.SetParallelism(32)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := c.CallObject(b.Context(), r); err != nil {
				b.Error(err)
				return
			}
		}
	})
}

func BenchmarkCallOverJSON(b *testing.B) {
	url := "http://" + benchServer(b).HTTPAddr() + "/api/v1/objects/Room/general/Say"
	tr := &http.Transport{MaxIdleConnsPerHost: 64}
	defer tr.CloseIdleConnections()
	c := &http.Client{Transport: tr}
	b.SetParallelism(32)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			resp, err := c.Post(url, "application/json", strings.NewReader(`{"userName":"guest","message":"a message of some sixty-two bytes"}`))
			if err != nil {
				b.Error(err)
				return
			}
			resp.Body.Close()
		}
	})
}
