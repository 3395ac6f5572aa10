package etcdmanager

import (
	"context"
	"sync"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
)

// Condition is how an etcd is: what each of its endpoints says of itself, and the
// alarms that they have in common.
type Condition struct {
	Endpoints []Endpoint // in the order of Config.Endpoints
	Alarms    []Alarm
	AlarmsErr error // nobody has told the alarms
}

// Endpoint is what one endpoint of etcd says of itself. With Err, which says why it is
// silent, all but Address is zero.
type Endpoint struct {
	Address string
	Err     error
	Cluster uint64 // which etcd it belongs to
	Version string
	TooOld  error // why Goverse does not work with Version; nil: it does
	Led     bool  // it knows a leader
	Learner bool  // it has no vote yet, and answers no reads

	// In bytes: the database as it is on disk, the part of it that is not free, and what it
	// may grow to. Quota is 0 where it is not told, as by etcd before 3.6.
	Size, InUse, Quota int64
}

// Alarm is why an etcd refuses work until an operator disarms it.
type Alarm struct {
	Kind   AlarmKind
	Member uint64 // that has raised it
}

// AlarmKind says what is wrong. Those of a later etcd have its numbers.
type AlarmKind int32

const (
	AlarmNoSpace AlarmKind = AlarmKind(pb.AlarmType_NOSPACE) // a database has reached its quota: nothing is put
	AlarmCorrupt AlarmKind = AlarmKind(pb.AlarmType_CORRUPT) // the members do not have the same data: nothing is answered
)

// String is etcd's word for it.
func (k AlarmKind) String() string { return pb.AlarmType(k).String() }

// Examine asks every endpoint on its own, beside the others, how it is. It takes
// Config.RequestTimeout at most, twice.
func (c *Client) Examine(ctx context.Context) *Condition {
	condition := &Condition{Endpoints: make([]Endpoint, len(c.cfg.Endpoints))}
	var asking sync.WaitGroup
	for i, address := range c.cfg.Endpoints {
		asking.Go(func() { condition.Endpoints[i] = c.examine(ctx, address) })
	}
	asking.Wait()
	condition.Alarms, condition.AlarmsErr = c.alarms(ctx)
	return condition
}

// examine asks one endpoint, over a connection of its own.
func (c *Client) examine(ctx context.Context, address string) Endpoint {
	cfg := c.cfg
	cfg.Endpoints = []string{address}
	one, err := open(cfg)
	if err != nil {
		return Endpoint{Address: address, Err: err}
	}
	defer one.Close()
	ctx, cancel := context.WithTimeout(ctx, cfg.RequestTimeout)
	defer cancel()
	// One that is not there is told at once: others have answered.
	s, err := pb.NewMaintenanceClient(one.v3.ActiveConnection()).Status(ctx, &pb.StatusRequest{})
	if err != nil {
		return Endpoint{Address: address, Err: one.fail(ctx, "status", err)}
	}
	return Endpoint{
		Address: address, Cluster: s.GetHeader().GetClusterId(), Version: s.Version, TooOld: checkVersion(s.Version), Led: s.Leader != 0,
		Learner: s.IsLearner, Size: s.DbSize, InUse: s.DbSizeInUse, Quota: s.DbSizeQuota,
	}
}

// alarms is those that are raised. Whichever endpoint answers knows those of all.
func (c *Client) alarms(ctx context.Context) (list []Alarm, err error) {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.RequestTimeout)
	defer cancel()
	err = c.again(ctx, "alarms", func() error {
		resp, err := pb.NewMaintenanceClient(c.v3.ActiveConnection()).Alarm(ctx, &pb.AlarmRequest{Action: pb.AlarmRequest_GET}, grpc.WaitForReady(true))
		list = nil
		for _, a := range resp.GetAlarms() {
			list = append(list, Alarm{AlarmKind(a.Alarm), a.MemberID})
		}
		return err
	})
	return list, err
}
