package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"testing"

	"github.com/xiaonanln/goverse/cluster/etcdmanager"
	"github.com/xiaonanln/goverse/cluster/etcdmanager/embedded"
)

// examined dials an etcd that says of itself what a test has it say.
func examined(dial dialer, says *etcdmanager.Condition) dialer {
	if says == nil {
		return dial
	}
	return func(cfg etcdmanager.Config) (etcdmanager.KV, error) {
		kv, err := dial(cfg)
		return talkative{kv, says}, err
	}
}

type talkative struct {
	etcdmanager.KV
	says *etcdmanager.Condition
}

func (e talkative) Examine(context.Context) *etcdmanager.Condition { return e.says }

// conditionOf reads what a transcript has etcd say; see TestTranscripts.
func conditionOf(t testing.TB, script string) *etcdmanager.Condition {
	t.Helper()
	c := new(etcdmanager.Condition)
	for line := range strings.Lines(script) {
		words := strings.Fields(line)
		switch words[0] {
		case "endpoint":
			c.Endpoints = append(c.Endpoints, endpointOf(t, words[1], words[2:]))
		case "alarm":
			kind := map[string]etcdmanager.AlarmKind{"NOSPACE": etcdmanager.AlarmNoSpace, "CORRUPT": etcdmanager.AlarmCorrupt, "LATER": 3}[words[1]]
			c.Alarms = append(c.Alarms, etcdmanager.Alarm{Kind: kind, Member: 1})
		case "untold":
			c.AlarmsErr = errors.New("permission denied")
		default:
			t.Fatalf("%q is no condition", line)
		}
	}
	return c
}

func endpointOf(t testing.TB, address string, words []string) etcdmanager.Endpoint {
	e := etcdmanager.Endpoint{Address: address, Cluster: 1, Version: "3.7.3", Led: true, Size: 3 << 20, InUse: 3 << 20, Quota: 2 << 30}
	for _, word := range words {
		name, value, _ := strings.Cut(word, "=")
		n, err := strconv.ParseInt(value, 10, 64)
		if err != nil && value != "" && name != "version" {
			t.Fatal(err)
		}
		switch name {
		case "silent":
			return etcdmanager.Endpoint{Address: address, Err: errors.New("connection refused")}
		case "unled":
			e.Led = false
		case "learner":
			e.Learner = true
		case "old":
			e.TooOld = etcdmanager.ErrTooOld
		case "version":
			e.Version = value
		case "cluster":
			e.Cluster = uint64(n)
		case "size":
			e.Size, e.InUse = n<<20, n<<20
		case "used":
			e.InUse = n << 20
		case "quota":
			e.Quota = n << 20
		default:
			t.Fatalf("%q is no condition of an endpoint", word)
		}
	}
	return e
}

// A real etcd that is full says so, and so does doctor; of two endpoints it names the one
// that is silent.
func TestDoctorOfAFullEtcd(t *testing.T) {
	etcd, err := embedded.Start(t.Context(), embedded.Config{Dir: t.TempDir(), Quota: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	defer etcd.Close()
	fill(t, etcd.Endpoint())
	silent := closedPort(t)
	out := here(t, nil, "doctor", "--etcd", etcd.Endpoint()+","+silent)
	for _, says := range []string{
		"wrong  etcd      alarm NOSPACE of 1 member: it stores nothing more",
		"then etcdctl alarm disarm",
		"wrong  etcd      " + silent + " does not answer, while others do",
		"wrong  etcd      the database of " + etcd.Endpoint() + " takes ",
		"of the 1 MiB that it may have",
	} {
		if out.code != 1 || !strings.Contains(out.stdout, says) {
			t.Errorf("%q is not in\n%v", says, out)
		}
	}
}

// fill puts keys until etcd takes no more.
func fill(t *testing.T, endpoint string) {
	t.Helper()
	kv, err := etcdmanager.Dial(etcdmanager.Config{Endpoints: []string{endpoint}})
	if err != nil {
		t.Fatal(err)
	}
	defer kv.Close()
	for n := range 100 {
		_, err := kv.Commit(t.Context(), etcdmanager.Txn{Then: []etcdmanager.Op{etcdmanager.Put(fmt.Sprint("/other/", n), make([]byte, 50<<10), 0)}})
		if errors.Is(err, etcdmanager.ErrNoSpace) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	t.Fatal("etcd took ten times its quota")
}

// closedPort is an address where nothing listens.
func closedPort(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}
