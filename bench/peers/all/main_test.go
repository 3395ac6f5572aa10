package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/xiaonanln/goverse/bench/load/child"
	"github.com/xiaonanln/goverse/bench/peers/peer"
)

// TestMain also is the processes of the tests.
func TestMain(m *testing.M) {
	if role := child.Role(); role != "" {
		if err := serve(role); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// Every peer does all of the work, in processes of its own.
func TestEveryPeer(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes")
	}
	o, err := parse(strings.Fields("-o json -rounds 1 -window 50ms -objects 1100"), nil)
	if err != nil {
		t.Fatal(err)
	}
	var out, progress bytes.Buffer
	if err := run(t.Context(), o, &out, &progress); err != nil {
		t.Fatalf("%v\n%s", err, progress.String())
	}
	var report struct{ Rounds map[string][]round }
	if err := json.Unmarshal(out.Bytes(), &report); err != nil {
		t.Fatal(err)
	}
	for _, p := range peer.All {
		if len(report.Rounds[p.Name]) != 1 {
			t.Errorf("%s has %d rounds", p.Name, len(report.Rounds[p.Name]))
			continue
		}
		m := report.Rounds[p.Name][0]
		for _, n := range callers {
			if a := m.Far[n]; a.Calls == 0 || a.Rate <= 0 || a.P50 <= 0 || a.P99 < a.P50 || a.CPU <= 0 || a.Failed > 0 {
				t.Errorf("%s, %d callers: %+v", p.Name, n, a)
			}
		}
		if a := m.Near; p.Open != nil && (a.Calls == 0 || a.Call <= 0 || a.Made != p.Made(o.objects) || a.Make <= 0) {
			t.Errorf("%s, local: %+v", p.Name, a)
		}
	}
}

// Whoever stops it gets what was measured.
func TestInterrupt(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes")
	}
	o, err := parse(strings.Fields("-peers grpc-unary -window 20ms -rounds 1000000"), nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	var out bytes.Buffer
	if err := run(ctx, o, &out, writer(func() { stop() })); !errors.Is(err, context.Canceled) {
		t.Errorf("the error is %v", err)
	}
	if !strings.Contains(out.String(), "| grpc-unary (") {
		t.Errorf("the table is %q", out.String())
	}
}

type writer func()

func (w writer) Write(p []byte) (int, error) { w(); return len(p), nil }

func TestTable(t *testing.T) {
	of := func(rate float64) (m round) {
		m.Far = map[int]farAnswer{}
		for _, n := range callers {
			m.Far[n] = farAnswer{Calls: 10, Rate: rate * float64(n), P50: 20 * time.Microsecond, P99: 30 * time.Microsecond, CPU: 5 * time.Microsecond}
		}
		m.Near = nearAnswer{Calls: 1, Call: 200, Allocs: 2, Made: 1, Make: 3000, Bytes: 400}
		return m
	}
	o, err := parse([]string{"-peers", "goverse,grpc-unary,protoactor"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	failed := of(1)
	failed.Far[64] = farAnswer{Calls: 9, Rate: 64, Failed: 1, Failure: "broken"}
	r := results{options: o, rounds: map[string][]round{"goverse": {of(4), of(2)}, "grpc-unary": {of(1), of(1)}, "protoactor": {failed}}}
	var b strings.Builder
	if err := r.write(&b); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(b.String(), "\n")
	for i, want := range map[int]string{
		2:  "| remote calls/s by callers | 1 | 16 | 64 | 256 | of grpc-unary at 64 / 256 | goverse of it at 64 / 256 | p50 at 1, µs | p50 at 64, µs | p99 at 64, µs | cpu at 64, µs |",
		4:  "| goverse (this repository) | 3.00 (2.00–4.00) | 48.0 (32.0–64.0) | 192 (128–256) | 768 (512–1024) | 3.00 (2.00–4.00) / 3.00 (2.00–4.00) | – / – | 20.0 | 20.0 | 30.0 | 5.00 |",
		9:  "| --- | --- | --- | --- | --- |",
		10: "| goverse | 200 | 2.00 | 3.00 | 400 |",
		11: "| protoactor | 200 | 2.00 | 3.00 | 400 |",
	} {
		if i >= len(lines) || lines[i] != want {
			t.Errorf("line %d is not\n%s\nin\n%s", i, want, b.String())
		}
	}
	if !strings.Contains(lines[6], "| 1.00 / 1.00 | 4.00 / 4.00 |") {
		t.Errorf("protoactor's row is %s", lines[6])
	}
	if err := r.failure(); err == nil || !strings.Contains(err.Error(), "protoactor with 64 callers: 1 of 10 calls failed, the first: broken") {
		t.Errorf("the error is %v", err)
	}
}

// A child that fails says why.
func TestPeerThatFails(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes")
	}
	p := peer.Peer{Name: "nobody"}
	if _, err := measure(t.Context(), options{window: time.Millisecond}, p); err == nil || !strings.Contains(err.Error(), `no role "far:nobody"`) {
		t.Errorf("the error is %v", err)
	}
}

func TestArgumentsThatMakeNoSense(t *testing.T) {
	for args, says := range map[string]string{
		"-peers erlang": "-peers", "-peers goverse,goverse": "-peers", "-rounds 0": "-rounds", "-window 0": "-window", "-objects 0": "-objects",
		"-o xml": "-o", "more": "nothing else", "-pace 3": "all -help",
	} {
		if _, err := parse(strings.Fields(args), nil); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", args, err)
		}
	}
	var b strings.Builder
	if _, err := parse([]string{"-help"}, &b); !errors.Is(err, flag.ErrHelp) || !strings.Contains(b.String(), "go run ./all") || !strings.Contains(b.String(), child.ProfileVar) {
		t.Errorf("%v: %s", err, b.String())
	}
}
