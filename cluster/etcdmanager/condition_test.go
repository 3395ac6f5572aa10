package etcdmanager_test

import (
	"errors"
	"fmt"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/xiaonanln/goverse/cluster/etcdmanager"
	"github.com/xiaonanln/goverse/cluster/etcdmanager/embedded"
)

// A real etcd tells its size and its alarms, also when it is full or corrupt.
func TestExamine(t *testing.T) {
	s, err := embedded.Start(t.Context(), embedded.Config{Dir: t.TempDir(), Quota: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	c := dial(t, s)
	well := c.Examine(t.Context())
	if len(well.Endpoints) != 1 || len(well.Alarms) != 0 || well.AlarmsErr != nil {
		t.Fatalf("%+v", well)
	}
	if e := well.Endpoints[0]; e.Address != s.Endpoint() || e.Err != nil || !e.Led || e.Learner || e.TooOld != nil || e.Cluster == 0 || e.Version == "" ||
		e.InUse <= 0 || e.Size < e.InUse || e.Quota != 1<<20 {
		t.Errorf("%+v", e)
	}
	for err = nil; err == nil; {
		_, err = c.Commit(t.Context(), etcdmanager.Txn{Then: []etcdmanager.Op{etcdmanager.Put("a", make([]byte, 100<<10), 0)}})
	}
	if !errors.Is(err, etcdmanager.ErrNoSpace) {
		t.Fatal(err)
	}
	if full := c.Examine(t.Context()); fmt.Sprint(kinds(full)) != "[NOSPACE]" || full.Endpoints[0].Size < 900<<10 {
		t.Errorf("%+v", full)
	}
	raise(t, s.Endpoint(), pb.AlarmType_CORRUPT)
	if corrupt := c.Examine(t.Context()); fmt.Sprint(kinds(corrupt)) != "[NOSPACE CORRUPT]" && fmt.Sprint(kinds(corrupt)) != "[CORRUPT NOSPACE]" {
		t.Errorf("%+v", corrupt)
	}
}

func kinds(c *etcdmanager.Condition) (list []etcdmanager.AlarmKind) {
	for _, a := range c.Alarms {
		list = append(list, a.Kind)
	}
	return list
}

// raise raises an alarm, as a member does that finds the reason for it.
func raise(t *testing.T, endpoint string, kind pb.AlarmType) {
	t.Helper()
	conn, err := grpc.NewClient(endpoint, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := pb.NewMaintenanceClient(conn).Alarm(t.Context(), &pb.AlarmRequest{Action: pb.AlarmRequest_ACTIVATE, MemberID: 1, Alarm: kind}); err != nil {
		t.Fatal(err)
	}
}

// Each endpoint is judged by itself, and one that is not there holds up nobody.
func TestExamineEachEndpoint(t *testing.T) {
	well := (&fakeEtcd{}).serve(t)
	cutOff := (&fakeEtcd{status: func() *pb.StatusResponse {
		return &pb.StatusResponse{Header: &pb.ResponseHeader{ClusterId: 7}, Version: "3.4.0", IsLearner: true, DbSize: 5, DbSizeInUse: 4, DbSizeQuota: 9}
	}}).serve(t)
	gone := closedPort(t)
	c, err := etcdmanager.Dial(etcdmanager.Config{Endpoints: []string{well}})
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	if closed := c.Examine(t.Context()); closed.AlarmsErr == nil {
		t.Errorf("after its end: %+v", closed)
	}
	each, err := etcdmanager.DialEach(etcdmanager.Config{Endpoints: []string{cutOff}})
	if err != nil {
		t.Fatal(err)
	}
	defer each[0].Close()
	got := each[0].(*etcdmanager.Client).Examine(t.Context())
	if e := got.Endpoints[0]; e.Led || !e.Learner || !errors.Is(e.TooOld, etcdmanager.ErrTooOld) || e.Cluster != 7 || e.Size != 5 || e.InUse != 4 || e.Quota != 9 {
		t.Errorf("%+v", e)
	}
	if got.AlarmsErr == nil {
		t.Error("alarms of an etcd that tells none")
	}
	both, err := etcdmanager.Dial(etcdmanager.Config{Endpoints: []string{well, gone}})
	if err != nil {
		t.Fatal(err)
	}
	defer both.Close()
	if e := both.Examine(t.Context()).Endpoints; e[0].Err != nil || !e[0].Led || e[0].Address != well || e[1].Err == nil || e[1].Address != gone {
		t.Errorf("%+v", e)
	}
}
