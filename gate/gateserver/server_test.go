package gateserver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	gate_pb "github.com/xiaonanln/goverse/gate/proto"
	"github.com/xiaonanln/goverse/internal/peer"
	"github.com/xiaonanln/goverse/object"
)

func TestConfigurationProblemsComeAllAtOnce(t *testing.T) {
	_, err := NewGateServer(&GateServerConfig{
		ListenAddress: "49000", HTTPListenAddress: "localhost:http", AdvertiseAddress: "nowhere", NumShards: 9000,
		DefaultCallTimeout: -1, AllowedOrigins: []string{"chat.example"},
	})
	if err == nil {
		t.Fatal("it passed")
	}
	for _, want := range []string{"--listen", "--http-listen", "--advertise", "NumShards", "DefaultCallTimeout", "chat.example", "--etcd"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%v\ndoes not mention %s", err, want)
		}
	}
	if _, err := NewGateServer(nil); err == nil || !strings.Contains(err.Error(), "--etcd") {
		t.Errorf("a gate without a cluster: %v", err)
	}
	for _, same := range []GateServerConfig{
		{ListenAddress: ":1", HTTPListenAddress: "localhost:1"}, {ListenAddress: "a:1", HTTPListenAddress: "a:1"},
		{HTTPListenAddress: "0.0.0.0:7", OpsListenAddress: ":7"},
	} {
		same.Router = newCluster(echo)
		if _, err := NewGateServer(&same); err == nil || !strings.Contains(err.Error(), "the same port") {
			t.Errorf("%+v: %v", same, err)
		}
	}
	if _, err := NewGateServer(&GateServerConfig{EtcdAddress: "localhost:2379"}); err != nil {
		t.Errorf("the seed's configuration: %v", err)
	}
}

func TestATakenPortSaysWhatToDo(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for _, c := range []struct {
		flag   string
		change func(*GateServerConfig)
	}{
		{"--listen", func(c *GateServerConfig) { c.ListenAddress = taken.Addr().String() }},
		{"--http-listen", func(c *GateServerConfig) { c.HTTPListenAddress = taken.Addr().String() }},
		{"--ops-listen", func(c *GateServerConfig) { c.OpsListenAddress = taken.Addr().String() }},
	} {
		cfg := &GateServerConfig{ListenAddress: "127.0.0.1:0", HTTPListenAddress: "127.0.0.1:0", Router: newCluster(echo), Logger: quiet()}
		c.change(cfg)
		s, err := NewGateServer(cfg)
		if err != nil {
			t.Fatal(err)
		}
		err = s.Run(t.Context())
		if err == nil || !strings.Contains(err.Error(), c.flag) || !strings.Contains(err.Error(), taken.Addr().String()) {
			t.Errorf("%s: %v", c.flag, err)
		}
		if err := s.Stop(); err != nil {
			t.Errorf("Stop of a server that did not start: %v", err)
		}
	}
}

func TestAdvertisedAddresses(t *testing.T) {
	bound := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1234}
	for _, c := range []struct {
		cfg  GateServerConfig
		want string
	}{
		{GateServerConfig{ListenAddress: ":0", Router: newCluster(echo)}, "localhost:1234"},
		{GateServerConfig{ListenAddress: "gate.example:0"}, "gate.example:1234"},
		{GateServerConfig{ListenAddress: ":0", AdvertiseAddress: "gate.example:49000"}, "gate.example:49000"},
	} {
		if got := c.cfg.advertised(bound); got != c.want {
			t.Errorf("%+v: %s", c.cfg, got)
		}
	}
}

func TestStartOnceStopOften(t *testing.T) {
	s := start(t, newCluster(echo))
	if err := s.Start(t.Context()); err == nil {
		t.Error("a second Start passed")
	}
	var stops sync.WaitGroup
	for range 4 {
		stops.Go(func() {
			if err := s.Stop(); err != nil {
				t.Error(err)
			}
		})
	}
	stops.Wait()
	if err := s.Start(t.Context()); err == nil {
		t.Error("a Start after Stop passed")
	}
	if _, err := net.Dial("tcp", s.HTTPAddr()); err == nil {
		t.Error("the port is still open")
	}
}

func TestStartsContextBoundsOnlyTheStart(t *testing.T) {
	s, err := NewGateServer(&GateServerConfig{ListenAddress: "127.0.0.1:0", HTTPListenAddress: "off", Router: newCluster(echo), Logger: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	if err := s.Start(ctx); err != nil {
		t.Fatal(err)
	}
	defer s.Stop()
	cancel()
	register(t, t.Context(), dial(t, s))
	if s.HTTPAddr() != "" || s.OpsAddr() != "" {
		t.Error("ports are open that are off")
	}
}

func TestRunEndsWhenAListenerFails(t *testing.T) {
	s := start(t, newCluster(echo))
	s.listen.http.Close()
	<-s.done
	if err := s.Stop(); err == nil || !strings.Contains(err.Error(), "HTTP listener") {
		t.Errorf("Stop says %v", err)
	}
	s.failure = nil // start's cleanup expects a clean stop
}

// Run ends with its context, within 5 s and with everyone connected: streams, an
// event stream, pages, a page and a stream that stall, a connection that says
// nothing, and calls of each kind under way.
func TestRunEndsCleanlyWithClientsConnected(t *testing.T) {
	entered := make(chan struct{}, 8)
	router := newCluster(func(ctx context.Context, call object.Call) (object.Payload, error) {
		if call.Method == "Hang" {
			entered <- struct{}{}
			<-ctx.Done()
			return object.Payload{}, ctx.Err()
		}
		return call.Payload, nil
	})
	s, err := NewGateServer(&GateServerConfig{ListenAddress: "127.0.0.1:0", HTTPListenAddress: "127.0.0.1:0", Router: router, Logger: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	ctx, end := context.WithCancel(t.Context())
	defer end()
	ran := make(chan error, 1)
	go func() { ran <- s.Run(ctx) }()
	<-router.followed // it serves

	_, stream := register(t, t.Context(), dial(t, s))
	_, events := follow(t, t.Context(), s)
	reading := socketTo(t, s)
	stalledPage := socketTo(t, s)
	stalledID, _ := register(t, t.Context(), dial(t, s))
	silent, err := net.Dial("tcp", s.HTTPAddr())
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	big := `"` + strings.Repeat("x", 900<<10) + `"`
	for range 12 {
		router.push(peer.PushFrame{ClientIDs: []string{stalledPage.id, stalledID}, Message: text(t, big), JSON: []byte(big)})
	}
	hanging := socketTo(t, s)
	hanging.say(`{"op":"call","seq":1,"type":"T","id":"i","method":"Hang"}`)
	<-entered
	router.push(peer.PushFrame{ClientIDs: []string{reading.id}, Message: text(t, ""), JSON: []byte(`"last words"`)})

	begin := time.Now()
	end()
	if f := reading.next(); string(f.Message) != `"last words"` {
		t.Errorf("what waited: %+v", f)
	}
	if ce := reading.closed(); ce.Code != websocket.StatusGoingAway || !strings.Contains(ce.Reason, "stopping") {
		t.Errorf("the page hears %+v", ce)
	}
	if _, err := stream.Recv(); status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "stopping") {
		t.Errorf("the stream hears %v", err)
	}
	if e := events.next(t); e.name != "closed" || !strings.Contains(e.data, "NOT_READY") {
		t.Errorf("the event stream hears %+v", e)
	}
	if err := <-ran; err != nil {
		t.Errorf("Run: %v", err)
	}
	if took := time.Since(begin); took > 5*time.Second {
		t.Errorf("it took %v", took)
	}
}

func TestACallUnderWayIsAnsweredBeforeTheStop(t *testing.T) {
	var d diary
	entered, release := make(chan struct{}), make(chan struct{})
	s := start(t, newCluster(func(_ context.Context, call object.Call) (object.Payload, error) {
		close(entered)
		<-release
		return call.Payload, nil
	}), func(c *GateServerConfig) { c.Listener = d.listener() })
	p := socketTo(t, s)
	p.say(`{"op":"call","seq":1,"type":"T","id":"i","method":"M"}`)
	<-entered
	stopped := make(chan error)
	go func() { stopped <- s.Stop() }()
	d.wait(t, p.id)
	p.say(`{"op":"call","seq":2,"type":"T","id":"i","method":"M"}`)
	if f := p.next(); f.Seq != 2 || f.Code != "NOT_READY" || f.Outcome != "NotExecuted" {
		t.Errorf("a call in the stop: %+v", f)
	}
	close(release)
	if f := p.next(); f.Seq != 1 || f.Error != "" {
		t.Errorf("the call under way: %+v", f)
	}
	if ce := p.closed(); ce.Code != websocket.StatusGoingAway {
		t.Errorf("%+v", ce)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}

// A method that does not heed its context holds nobody up.
func TestStopDoesNotWaitForACallThatIgnoresItsEnd(t *testing.T) {
	entered, release := make(chan struct{}), make(chan struct{})
	s := start(t, newCluster(func(_ context.Context, call object.Call) (object.Payload, error) {
		entered <- struct{}{}
		<-release
		return call.Payload, nil
	}))
	var calls sync.WaitGroup
	client, p := dial(t, s), socketTo(t, s)
	calls.Go(func() {
		_, _ = client.CallObject(context.Background(), &gate_pb.CallObjectRequest{Type: "T", Id: "i", Method: "M"}) // it is cut off
	})
	p.say(`{"op":"call","seq":1,"type":"T","id":"i","method":"M"}`)
	<-entered
	<-entered
	begin := time.Now()
	if err := s.Stop(); err != nil {
		t.Error(err)
	}
	if took := time.Since(begin); took > 5*time.Second {
		t.Errorf("it took %v", took)
	}
	calls.Wait()
	close(release)
}

// A thousand clients of each kind come and go while pushes fly.
func TestRacesOfConnectingLeavingAndPushing(t *testing.T) {
	router := newCluster(echo)
	s := start(t, router)
	stop := make(chan struct{})
	var pushing, clients sync.WaitGroup
	pushing.Go(func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(100 * time.Microsecond):
				router.push(peer.PushFrame{Broadcast: true, Message: text(t, "x"), JSON: []byte(`"x"`)})
			}
		}
	})
	c := dial(t, s)
	for worker := range 8 {
		clients.Go(func() {
			for i := range 125 {
				comeAndGo(t, s, (worker+i)%3, func() error {
					ctx, leave := context.WithCancel(t.Context())
					defer leave()
					stream, err := c.Register(ctx, nil)
					if err == nil {
						_, err = stream.Recv()
					}
					return err
				})
			}
		})
	}
	clients.Wait()
	close(stop)
	pushing.Wait()
}

func comeAndGo(t *testing.T, s *GateServer, kind int, overGRPC func() error) {
	var err error
	switch kind {
	case 0:
		err = overGRPC()
	case 1:
		var conn *websocket.Conn
		if conn, _, err = websocket.Dial(t.Context(), "ws://"+s.HTTPAddr()+socketPath, nil); err == nil {
			_, _, err = conn.Read(t.Context())
			conn.CloseNow()
		}
	case 2:
		var conn net.Conn
		if conn, err = net.Dial("tcp", s.HTTPAddr()); err == nil {
			fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n", eventsPath)
			_, err = conn.Read(make([]byte, 100))
			conn.Close()
		}
	}
	if err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("client of kind %d: %v", kind, err)
	}
}
