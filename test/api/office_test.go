package api

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/xiaonanln/goverse/cluster/etcdmanager/embedded"
	"github.com/xiaonanln/goverse/gate/gateserver"
	"github.com/xiaonanln/goverse/goverseapi"
	"github.com/xiaonanln/goverse/object"
	"github.com/xiaonanln/goverse/server"
	"github.com/xiaonanln/goverse/util/logger"
	"github.com/xiaonanln/goverse/util/sqlite"
)

// Account is a sum that is stored before anybody hears of it.
type Account struct{ Tally }

// Add adds, whatever comes of it.
func (a *Account) Add(_ context.Context, n *wrapperspb.Int64Value) (*wrapperspb.Int64Value, error) {
	a.sum += n.Value
	return wrapperspb.Int64(a.sum), nil
}

// Take is another method with the same messages.
func (a *Account) Take(_ context.Context, n *wrapperspb.Int64Value) (*wrapperspb.Int64Value, error) {
	a.sum -= n.Value
	return wrapperspb.Int64(a.sum), nil
}

// Read tells the sum.
func (a *Account) Read(context.Context, *wrapperspb.Int64Value) (*wrapperspb.Int64Value, error) {
	return wrapperspb.Int64(a.sum), nil
}

// office is a node that keeps its objects in an SQLite file, and a gate that reaches it
// over the wire: each has ports of its own, and both find each other by a real etcd.
type office struct {
	t       *testing.T
	etcd    *embedded.Server
	file    string
	address string // the node's, once it has run
	around  object.Interceptor
	gate    *gateserver.GateServer
	http    *http.Transport
	stop    func() // the node
}

// open starts an office whose node runs around, if it is not nil, around its methods.
func open(t *testing.T, around object.Interceptor) *office {
	t.Helper()
	if testing.Short() {
		t.Skip("starts a real etcd: not with -short")
	}
	dir := t.TempDir()
	etcd, err := embedded.Start(t.Context(), embedded.Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { etcd.Close() })
	o := &office{t: t, etcd: etcd, file: filepath.Join(dir, "goverse.db"), address: "127.0.0.1:0", around: around,
		http: &http.Transport{MaxConnsPerHost: 256, MaxIdleConnsPerHost: 256}}
	o.startNode()
	t.Cleanup(func() { o.stop() })
	o.startGate()
	t.Cleanup(o.http.CloseIdleConnections)
	return o
}

func (o *office) startNode() {
	o.t.Helper()
	db, err := sqlite.Open(o.t.Context(), sqlite.Config{Path: o.file})
	if err == nil {
		err = db.InitSchema(o.t.Context())
	}
	if err != nil {
		o.t.Fatal(err)
	}
	l, err := net.Listen("tcp", o.address)
	if err != nil {
		o.t.Fatal(err)
	}
	o.address = l.Addr().String()
	types := object.NewTypes()
	if err := types.Register((*Account)(nil), goverseapi.ReadOnlyMethods("Read")); err != nil {
		o.t.Fatal(err)
	}
	if err := types.Register((*Slow)(nil), goverseapi.WithDurability(goverseapi.Periodic(time.Hour))); err != nil {
		o.t.Fatal(err)
	}
	cfg := server.ServerConfig{Listener: l, EtcdAddress: o.etcd.Endpoint(), NumShards: 16, Types: types,
		NodeStabilityDuration: 50 * time.Millisecond, Logger: silent()}
	if o.around != nil {
		cfg.Interceptors = []object.Interceptor{o.around}
	}
	s, err := server.New(cfg)
	if err != nil {
		o.t.Fatal(err)
	}
	s.Node.SetPersistenceProvider(sqlite.NewSQLitePersistenceProvider(db))
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := s.Run(ctx); err != nil {
			o.t.Errorf("the node: %v", err)
		}
	})
	o.stop = func() {
		cancel()
		running.Wait()
		if err := db.Close(); err != nil {
			o.t.Error(err)
		}
	}
}

func silent() *logger.Logger { return logger.New(slog.New(slog.DiscardHandler)) }

func (o *office) startGate() {
	o.t.Helper()
	gate, err := gateserver.NewGateServer(&gateserver.GateServerConfig{
		ListenAddress: "127.0.0.1:0", HTTPListenAddress: "127.0.0.1:0", OpsListenAddress: "127.0.0.1:0",
		EtcdAddress: o.etcd.Endpoint(), Logger: silent(),
	})
	if err == nil {
		err = gate.Start(o.t.Context())
	}
	if err != nil {
		o.t.Fatal(err)
	}
	o.t.Cleanup(func() {
		if err := gate.Stop(); err != nil {
			o.t.Error(err)
		}
	})
	o.gate = gate
}

// restart stops the node, as SIGTERM does, and runs another one on its file.
func (o *office) restart() {
	o.t.Helper()
	o.stop()
	o.startNode()
}

// said is an answer of the gate's.
type said struct {
	code     int
	body     string
	status   string // what became of the call
	replayed string
	durable  string
}

func (s said) kind() string {
	var f struct{ Kind, Outcome string }
	_ = json.Unmarshal([]byte(s.body), &f) // a reply has neither
	return f.Kind + " " + f.Outcome
}

// post calls path, which is Type/id/Method. Without a call id, id is "".
func (o *office) post(path, body, id string, header ...string) said {
	o.t.Helper()
	if id != "" {
		header = append(header, "X-Goverse-Call-ID", id)
	}
	return o.ask("POST", "http://"+o.gate.HTTPAddr()+"/api/v1/objects/"+path, body, header...)
}

// ask makes a request of the gate.
func (o *office) ask(method, url, body string, header ...string) said {
	o.t.Helper()
	r, err := http.NewRequestWithContext(o.t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		o.t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	resp, err := o.http.RoundTrip(r)
	if err != nil {
		o.t.Error(err)
		return said{}
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		o.t.Error(err)
	}
	h := resp.Header
	return said{resp.StatusCode, strings.TrimSpace(string(b)), h.Get("X-Goverse-Call-Status"), h.Get("X-Goverse-Replayed"), h.Get("X-Goverse-Durable")}
}
