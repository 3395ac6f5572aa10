//go:build unix

package e2e

import (
	"os/exec"
	"strings"
	"testing"

	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/xiaonanln/goverse/cluster/consensusmanager"
	"github.com/xiaonanln/goverse/cluster/etcdmanager"
	gate_pb "github.com/xiaonanln/goverse/gate/proto"
	chat_pb "github.com/xiaonanln/goverse/samples/chat/proto"
	"github.com/xiaonanln/goverse/test/spawn"
)

// An operator pushes to a client and to everybody: it arrives, and the log and the
// cluster's timeline say who ordered it.
func TestAnOperatorPushes(t *testing.T) {
	s := newSite(t, chatBinary)
	goverse, err := goverseBinary()
	if err != nil {
		t.Fatal(err)
	}
	ops := spawn.FreeAddress(t)
	p := s.start(t, "--inspector-listen", "off", "--ops-listen", ops)
	client, err := dialGRPC(s)
	if err != nil {
		t.Fatal(err)
	}
	defer client.close()
	stream, err := client.gate.Register(t.Context(), &emptypb.Empty{})
	if err != nil {
		t.Fatal(err)
	}
	hello, err := stream.Recv()
	if err != nil {
		t.Fatal(err)
	}
	var registered gate_pb.RegisterResponse
	if err := hello.UnmarshalTo(&registered); err != nil {
		t.Fatal(err)
	}
	for text, to := range map[string]string{"to one": registered.GetClientId(), "to all": "--all"} {
		push := exec.Command(goverse, "push", to, `{"@type":"type.googleapis.com/chat.ChatMessage","message":"`+text+`"}`, "--ops", ops)
		if said, err := push.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, said)
		}
		got, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		var m chat_pb.ChatMessage
		if err := got.UnmarshalTo(&m); err != nil || m.GetMessage() != text {
			t.Errorf("%s: got %v, %v", text, got, err)
		}
	}
	if out := p.output(); strings.Count(out, "operation=operator_pushes") != 2 {
		t.Errorf("the log does not tell of both:\n%s", out)
	}
	kv, err := etcdmanager.Dial(etcdmanager.Config{Endpoints: []string{s.etcd(t)}})
	if err != nil {
		t.Fatal(err)
	}
	defer kv.Close()
	v, err := consensusmanager.Read(t.Context(), kv, consensusmanager.DefaultPrefix)
	if err != nil {
		t.Fatal(err)
	}
	if list := v.Acts(); len(list) != 2 || !strings.Contains(list[0].Who, "@") || list[0].What != consensusmanager.Pushes {
		t.Errorf("the timeline has %+v", list)
	}
}
