package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/xiaonanln/goverse/cluster/etcdmanager/embedded"
	"github.com/xiaonanln/goverse/cluster/sharding"
	"github.com/xiaonanln/goverse/gate/gateserver"
	"github.com/xiaonanln/goverse/goverseapi"
	"github.com/xiaonanln/goverse/object"
	"github.com/xiaonanln/goverse/server"
	"github.com/xiaonanln/goverse/util/logger"
	"github.com/xiaonanln/goverse/util/sqlite"
)

// Clerk passes on what it is told, and keeps the last of it.
type Clerk struct {
	goverseapi.BaseObject
	last string
}

func (c *Clerk) ToData() (proto.Message, error) { return wrapperspb.String(c.last), nil }

func (c *Clerk) FromData(m proto.Message) error {
	if v, ok := m.(*wrapperspb.StringValue); ok {
		c.last = v.Value
	}
	return nil
}

// Order has another clerk note the order, sends it on, and returns the span that it ran in.
func (c *Clerk) Order(ctx context.Context, to *wrapperspb.StringValue) (*wrapperspb.StringValue, error) {
	c.last = to.Value
	if _, err := goverseapi.CallObject(ctx, "Clerk", to.Value, "Note", to); err != nil {
		return nil, err
	}
	if err := goverseapi.Send(ctx, "Clerk", to.Value, "Deliver", to); err != nil {
		return nil, err
	}
	return wrapperspb.String(trace.SpanContextFromContext(ctx).SpanID().String()), nil
}

func (c *Clerk) Note(_ context.Context, what *wrapperspb.StringValue) (*wrapperspb.StringValue, error) {
	c.last = what.Value
	return what, nil
}

// Deliver is what is sent.
func (c *Clerk) Deliver(_ context.Context, what *wrapperspb.StringValue) (*wrapperspb.StringValue, error) {
	c.last = "delivered " + what.Value
	return what, nil
}

func (c *Clerk) Last(context.Context, *wrapperspb.StringValue) (*wrapperspb.StringValue, error) {
	return wrapperspb.String(c.last), nil
}

// spans keeps what ends.
type spans chan sdktrace.ReadOnlySpan

func (s spans) OnStart(context.Context, sdktrace.ReadWriteSpan) {}
func (s spans) OnEnd(span sdktrace.ReadOnlySpan)                { s <- span }
func (s spans) Shutdown(context.Context) error                  { return nil }
func (s spans) ForceFlush(context.Context) error                { return nil }

// mail is two nodes and a gate, of real parts.
type mail struct {
	t     *testing.T
	etcd  *embedded.Server
	db    *sqlite.DB
	nodes [2]*server.Server
	gate  *gateserver.GateServer
	ends  []func() // in the order in which they began
}

// openMail starts them with the providers of the nodes, and then of the gate.
func openMail(t *testing.T, traced [3]trace.TracerProvider) *mail {
	t.Helper()
	return openMailAs(t, func(i int, c *server.ServerConfig) {
		c.TracerProvider = traced[i]
	}, func(c *gateserver.GateServerConfig) { c.TracerProvider = traced[2] })
}

// openMailAs starts them with what else their configurations are to be.
func openMailAs(t *testing.T, node func(i int, c *server.ServerConfig), gate func(*gateserver.GateServerConfig)) *mail {
	t.Helper()
	if testing.Short() {
		t.Skip("starts a real etcd: not with -short")
	}
	m, dir := &mail{t: t}, t.TempDir()
	t.Cleanup(m.close)
	var err error
	if m.etcd, err = embedded.Start(t.Context(), embedded.Config{Dir: dir}); err != nil {
		t.Fatal(err)
	}
	m.ends = append(m.ends, func() { m.check(m.etcd.Close()) })
	if m.db, err = sqlite.Open(t.Context(), sqlite.Config{Path: filepath.Join(dir, "goverse.db")}); err != nil {
		t.Fatal(err)
	}
	m.ends = append(m.ends, func() { m.check(m.db.Close()) })
	if err = m.db.InitSchema(t.Context()); err != nil {
		t.Fatal(err)
	}
	for i := range m.nodes {
		m.nodes[i] = m.startNode(func(c *server.ServerConfig) { node(i, c) })
	}
	for _, n := range m.nodes {
		<-n.Joined()
	}
	cfg := &gateserver.GateServerConfig{ListenAddress: "127.0.0.1:0", HTTPListenAddress: "127.0.0.1:0", EtcdAddress: m.etcd.Endpoint(), Logger: silent()}
	gate(cfg)
	if m.gate, err = gateserver.NewGateServer(cfg); err != nil {
		t.Fatal(err)
	}
	m.check(m.gate.Start(t.Context()))
	m.ends = append(m.ends, func() { m.check(m.gate.Stop()) })
	m.settle()
	return m
}

func silent() *logger.Logger { return logger.New(slog.New(slog.DiscardHandler)) }

func (m *mail) startNode(more func(*server.ServerConfig)) *server.Server {
	m.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		m.t.Fatal(err)
	}
	types := object.NewTypes()
	m.check(types.Register((*Clerk)(nil), goverseapi.ReadOnlyMethods("Last")))
	cfg := server.ServerConfig{Listener: l, EtcdAddress: m.etcd.Endpoint(), NumShards: 16, Types: types, NodeStabilityDuration: 50 * time.Millisecond, Logger: silent()}
	more(&cfg)
	s, err := server.New(cfg)
	if err != nil {
		m.t.Fatal(err)
	}
	s.Node.SetPersistenceProvider(sqlite.NewSQLitePersistenceProvider(m.db))
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { m.check(s.Run(ctx)) })
	m.ends = append(m.ends, func() { cancel(); running.Wait() })
	return s
}

func (m *mail) check(err error) {
	if err != nil {
		m.t.Error(err)
	}
}

// close ends what was begun last first. It may be called twice.
func (m *mail) close() {
	for _, end := range slices.Backward(m.ends) {
		end()
	}
	m.ends = nil
}

// shardOf is one that a node holds, and how many those are.
func (m *mail) shardOf(i int) (shard, count int) {
	view := m.nodes[0].Cluster().View()
	for s := range 16 {
		if holder, _ := view.Holder(sharding.ID(s)); holder == m.nodes[i].Address() {
			shard = s
			count++
		}
	}
	return shard, count
}

// settle waits until each node holds its half.
func (m *mail) settle() {
	m.t.Helper()
	m.await("the nodes to be ready", func() bool {
		_, a := m.shardOf(0)
		_, b := m.shardOf(1)
		return a == 8 && b == 8 && len(m.nodes[0].Cluster().Problems())+len(m.nodes[1].Cluster().Problems())+len(m.gate.Problems()) == 0
	})
}

// await looks again and again.
func (m *mail) await(what string, done func() bool) {
	m.t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	late := time.After(time.Minute)
	for !done() {
		select {
		case <-tick.C:
		case <-late:
			m.t.Fatalf("waited in vain for %s", what)
		}
	}
}

// clerk is the id of a clerk on a node.
func (m *mail) clerk(i int) string { return m.clerkNamed(i, "clerk") }

func (m *mail) clerkNamed(i int, name string) string {
	shard, _ := m.shardOf(i)
	return fmt.Sprintf("shard#%d/%s", shard, name)
}

const (
	clientsTrace = "0af7651916cd43dd8448eb211c80319c"
	clientsSpan  = "b7ad6b7169203331"
)

// order asks the first node's clerk by HTTP, in a trace, and returns what it says.
func (m *mail) order() string {
	m.t.Helper()
	path := "/api/v1/objects/Clerk/" + strings.NewReplacer("#", "%23", "/", "%2F").Replace(m.clerk(0)) + "/Order"
	r, err := http.NewRequestWithContext(m.t.Context(), http.MethodPost, "http://"+m.gate.HTTPAddr()+path, strings.NewReader(fmt.Sprintf("%q", m.clerk(1))))
	if err != nil {
		m.t.Fatal(err)
	}
	r.Header.Set("traceparent", "00-"+clientsTrace+"-"+clientsSpan+"-01")
	client := &http.Transport{DisableKeepAlives: true}
	answer, err := client.RoundTrip(r)
	if err != nil {
		m.t.Fatal(err)
	}
	body, err := io.ReadAll(answer.Body)
	if err = errors.Join(err, answer.Body.Close()); err != nil || answer.StatusCode != http.StatusOK {
		m.t.Fatalf("%s: %s %v", answer.Status, body, err)
	}
	return string(body)
}

// tree is where each span of a trace is: its name and address, below those that it is in.
func tree(t *testing.T, in string, all []sdktrace.ReadOnlySpan, who map[string]string) []string {
	byID := map[trace.SpanID]sdktrace.ReadOnlySpan{}
	for _, s := range all {
		byID[s.SpanContext().SpanID()] = s
	}
	var lines []string
	for _, s := range all {
		var line []string
		for at := s; at != nil; at = byID[at.Parent().SpanID()] {
			if id := at.SpanContext().TraceID().String(); id != in {
				t.Errorf("%s is in trace %s", at.Name(), id)
			}
			var where string
			for _, a := range at.Attributes() {
				if a.Key == "goverse.address" {
					where = who[a.Value.AsString()]
				}
			}
			line = append(line, where+" "+at.Name())
			if parent := at.Parent().SpanID(); byID[parent] == nil {
				line = append(line, parent.String())
			}
		}
		slices.Reverse(line)
		lines = append(lines, strings.Join(line, " > "))
	}
	slices.Sort(lines)
	return lines
}

// A client's trace goes through the gate, a node, the call to another node, the commits
// of both, and on to what was sent, and each span is below what asked for it.
func TestATraceThroughTheCluster(t *testing.T) {
	kept := make(spans, 100)
	p := sdktrace.NewTracerProvider(sdktrace.WithSampler(sdktrace.ParentBased(sdktrace.NeverSample())), sdktrace.WithSpanProcessor(kept))
	m := openMail(t, [3]trace.TracerProvider{p, p, p})
	who := map[string]string{m.nodes[0].Address(): "A", m.nodes[1].Address(): "B", m.gate.GRPCAddr(): "gate"}
	said := m.order()
	var all []sdktrace.ReadOnlySpan
	for len(all) == 0 || all[len(all)-1].Name() != "call Clerk.Deliver" {
		select {
		case s := <-kept:
			all = append(all, s)
		case <-time.After(time.Minute):
			t.Fatalf("nothing was delivered; of %v", tree(t, clientsTrace, all, who))
		}
	}
	m.close()
	close(kept)
	for s := range kept {
		all = append(all, s)
	}
	const (
		gate    = clientsSpan + " > gate gate Clerk.Order"
		order   = gate + " > gate call Clerk.Order > A serve Clerk.Order"
		note    = order + " > A call Clerk.Note > B serve Clerk.Note"
		deliver = order + " > A call Clerk.Deliver > B serve Clerk.Deliver"
	)
	want := []string{
		gate, gate + " > gate call Clerk.Order", order, order + " > A load", order + " > A commit",
		order + " > A call Clerk.Note", note, note + " > B load", note + " > B commit",
		order + " > A call Clerk.Deliver", deliver, deliver + " > B commit",
	}
	slices.Sort(want)
	if got := tree(t, clientsTrace, all, who); !slices.Equal(got, want) {
		t.Errorf("the spans are\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	for _, s := range all {
		if s.Name() == "serve Clerk.Order" && said != fmt.Sprintf("%q", s.SpanContext().SpanID()) {
			t.Errorf("the method ran in span %s", said)
		}
	}
}

// Where the gate and the caller's node have no provider nothing is made, whatever a client
// asks for: the method sees no span, and no trace travels on to a node that has one.
func TestNoTraceWithoutAProvider(t *testing.T) {
	kept := make(spans, 100)
	m := openMail(t, [3]trace.TracerProvider{nil, sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(kept)), nil})
	if said := m.order(); said != fmt.Sprintf("%q", trace.SpanID{}) {
		t.Errorf("the method ran in span %s", said)
	}
	ctx := object.WithRuntime(t.Context(), m.nodes[0])
	m.await("the order to be delivered", func() bool {
		last, err := goverseapi.CallObject(ctx, "Clerk", m.clerk(1), "Last", wrapperspb.String(""))
		m.check(err)
		return t.Failed() || strings.HasPrefix(last.(*wrapperspb.StringValue).Value, "delivered")
	})
	m.close()
	close(kept)
	for s := range kept {
		t.Errorf("%s was made", s.Name())
	}
}
