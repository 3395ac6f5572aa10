//go:build linux

package hostile

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"runtime"
	"runtime/metrics"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/xiaonanln/goverse/gate/gateserver"
	"github.com/xiaonanln/goverse/goverseapi"
	"github.com/xiaonanln/goverse/internal/event"
)

// victimVariable makes a process of this test the one that is attacked; it is where the
// victim keeps its data.
const victimVariable = "GOVERSE_HOSTILE_VICTIM"

// impatience is which limits of a victim are shorter than the defaults: those that an attack
// has to wait for. A victim that is busy would else hold them against those who mean well.
type impatience string

const (
	patient       impatience = "patient"
	withWriters   impatience = "writers"
	withReaders   impatience = "readers"
	kindOfVictims            = "GOVERSE_HOSTILE_KIND"
)

func (i impatience) limit(g *gateserver.GateServerConfig) {
	// Loopback counts, and whoever opens too much hears of it on slow machines, too.
	g.Limits = gateserver.Limits{LimitLoopback: true, OpenRate: 1, OpenBurst: 100}
	switch i {
	case withWriters:
		g.HeartbeatInterval = time.Second
		g.Limits.HeaderTimeout, g.Limits.BodyGrace, g.Limits.BodyRate = time.Second, time.Second, 4<<20
	case withReaders:
		g.WriteTimeout, g.HeartbeatInterval = 2*time.Second, time.Minute // a beat has to be answered within the former
		g.Limits.AnswerBytes = 32 << 20                                  // which is in the bounds of the attacks
	}
}

// Room is what clients call.
type Room struct{ goverseapi.BaseObject }

// Say answers with what was said, and pushes it to who said it.
func (*Room) Say(ctx context.Context, text *wrapperspb.StringValue) (*wrapperspb.StringValue, error) {
	if id := goverseapi.CallerClientID(ctx); id != "" {
		if err := goverseapi.PushMessageToClient(ctx, id, text); err != nil {
			return nil, err
		}
	}
	return text, nil
}

// Long answers with so many bytes.
func (*Room) Long(_ context.Context, bytes *wrapperspb.Int64Value) (*wrapperspb.BytesValue, error) {
	return wrapperspb.Bytes(make([]byte, bytes.Value)), nil
}

// Wait waits until nobody waits for it.
func (*Room) Wait(ctx context.Context, _ *wrapperspb.StringValue) (*wrapperspb.StringValue, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

// Pour pushes so many messages of 64 KiB to its caller.
func (*Room) Pour(ctx context.Context, messages *wrapperspb.Int64Value) (*wrapperspb.Int64Value, error) {
	for range messages.Value {
		if err := goverseapi.PushMessageToClient(ctx, goverseapi.CallerClientID(ctx), wrapperspb.Bytes(make([]byte, 64<<10))); err != nil {
			return nil, err
		}
	}
	return messages, nil
}

// Secret is for objects.
func (*Room) Secret(context.Context, *wrapperspb.StringValue) (*wrapperspb.StringValue, error) {
	return wrapperspb.String("the secret"), nil
}

// addresses is where a victim listens.
type addresses struct{ Node, Inspector, GRPC, HTTP, Ops string }

// state is how a victim is, and what it has told of since it began.
type state struct {
	Heap, Peak int64 // bytes of objects: that live, and at most since it was asked last
	Goroutines int
	Sockets    int
	Limits     map[string]int // that were reached
	Denials    map[string]int // and audited
	Refused    int            // at the port for members
}

// told counts events.
type told struct {
	mu              sync.Mutex
	limits, denials map[string]int
	refused         int
}

func (o *told) listener() event.Listener {
	o.limits, o.denials = map[string]int{}, map[string]int{}
	return event.Listener{
		LimitReached: func(e event.LimitReached) {
			o.mu.Lock()
			defer o.mu.Unlock()
			o.limits[e.Limit.String()]++
		},
		AccessDenied: func(e event.AccessDenied) {
			o.mu.Lock()
			defer o.mu.Unlock()
			o.denials[e.Why.String()+" at "+e.Where.String()]++
		},
		Notice: func(e event.Notice) {
			o.mu.Lock()
			defer o.mu.Unlock()
			if e.From == "peer" && strings.Contains(e.Text, "was refused") {
				o.refused++
			}
		},
	}
}

// beVictim serves until standard input ends. It says first where, and then for each line
// that it reads how it is, in lines of JSON.
func beVictim() error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	goverseapi.RegisterObjectType((*Room)(nil), goverseapi.WithMode(goverseapi.Concurrent))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	var o told
	on := o.listener()
	whole := goverseapi.Standalone{
		Server: goverseapi.ServerConfig{
			Listener: l, DataDir: os.Getenv(victimVariable), NumShards: 64, NodeStabilityDuration: 50 * time.Millisecond, Events: on,
			ObjectAccessRules: []goverseapi.AccessRule{
				{Type: "Room", Method: "Secret", Access: goverseapi.AccessInternal}, {Type: "Room", Access: goverseapi.AccessAllow},
			},
		},
		Gate: gateserver.GateServerConfig{
			ListenAddress: "127.0.0.1:0", HTTPListenAddress: "127.0.0.1:0", OpsListenAddress: "127.0.0.1:0", Listener: on,
			ResumeWindow: 2 * time.Second, DefaultCallTimeout: 10 * time.Second * slow,
		},
		Inspector: os.Getenv(inspectorVariable),
	}
	impatience(os.Getenv(kindOfVictims)).limit(&whole.Gate)
	say := json.NewEncoder(os.Stdout)
	var peak atomic.Int64
	go watchHeap(ctx, &peak)
	spoke := make(chan error, 1)
	return whole.Run(ctx, func(g *gateserver.GateServer) {
		go func() {
			defer cancel()
			spoke <- say.Encode(addresses{l.Addr().String(), whole.Inspector, g.GRPCAddr(), g.HTTPAddr(), g.OpsAddr()})
			for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
				_ = say.Encode(o.state(&peak)) // who asks has gone otherwise
			}
		}()
		if err := <-spoke; err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	})
}

const inspectorVariable = "GOVERSE_HOSTILE_INSPECTOR"

// watchHeap keeps the highest of what the heap has.
func watchHeap(ctx context.Context, peak *atomic.Int64) {
	for look := time.NewTicker(5 * time.Millisecond); ctx.Err() == nil; <-look.C {
		peak.Store(max(peak.Load(), heapObjects()))
	}
}

func heapObjects() int64 {
	s := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(s)
	return int64(s[0].Value.Uint64())
}

func (o *told) state(peak *atomic.Int64) state {
	highest := peak.Load()
	runtime.GC()
	runtime.GC() // what pools have goes with the second
	s := state{Heap: heapObjects(), Peak: highest, Goroutines: runtime.NumGoroutine(), Limits: map[string]int{}, Denials: map[string]int{}}
	peak.Store(s.Heap)
	fds, _ := os.ReadDir("/proc/self/fd") // without /proc there are none, and the tests say so
	for _, fd := range fds {
		if to, _ := os.Readlink("/proc/self/fd/" + fd.Name()); strings.HasPrefix(to, "socket:") {
			s.Sockets++
		}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	for limit, n := range o.limits {
		s.Limits[limit] = n
	}
	for denial, n := range o.denials {
		s.Denials[denial] = n
	}
	s.Refused = o.refused
	return s
}
