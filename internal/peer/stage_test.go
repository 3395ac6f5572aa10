package peer

import (
	"reflect"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/xiaonanln/goverse/object"
	goverse_pb "github.com/xiaonanln/goverse/proto"
)

// All of a stage survives the wire, how it is to be passed on included.
func TestAStageOnTheWire(t *testing.T) {
	stage := &Stage{
		Shard: 8191, Handover: "h", Holder: "a:1#x", Epoch: 1 << 60, Target: "y", Hops: 1, Relay: "b:1",
		Objects: []Staged{
			{Ref: object.Ref{Type: "Room", ID: "1"}, Seq: 7, Created: time.Unix(1, 2), State: []byte("state")},
			{Ref: object.Ref{Type: "Room", ID: "2"}, Seq: 8, Created: time.Unix(3, 4), State: []byte{}, Gone: true},
		},
	}
	frame, err := encodeStage(stage)
	if err != nil {
		t.Fatal(err)
	}
	var m goverse_pb.StageRequest
	if err := proto.Unmarshal(frame, &m); err != nil {
		t.Fatal(err)
	}
	got := decodeStage(&m)
	for i := range got.Objects {
		got.Objects[i].State = append([]byte{}, got.Objects[i].State...)
	}
	if !reflect.DeepEqual(got, stage) {
		t.Errorf("%+v\nbecame\n%+v", stage, got)
	}
}
