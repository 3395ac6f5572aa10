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

	"go.uber.org/goleak"

	"github.com/xiaonanln/goverse/bench/load/child"
	"github.com/xiaonanln/goverse/bench/load/meter"
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
	goleak.VerifyTestMain(m)
}

// Every road is measured, in real processes, in both loops and on every kind of object.
func TestRun(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes")
	}
	for _, args := range []string{"-objects hot -rounds 2 -callers 1,8", "-objects random -rate 100 -callers 8"} {
		t.Run(args, func(t *testing.T) {
			o, err := parse(strings.Fields("-o json -rounds 1 -window 200ms -warmup 20ms "+args), nil)
			if err != nil {
				t.Fatal(err)
			}
			var out, progress bytes.Buffer
			if err := run(t.Context(), o, &out, &progress); err != nil {
				t.Fatalf("%v\n%s", err, progress.String())
			}
			var report struct{ Rows []figures }
			if err := json.Unmarshal(out.Bytes(), &report); err != nil {
				t.Fatal(err)
			}
			if want := len(o.callers) * len(o.roads); len(report.Rows) != want {
				t.Fatalf("%d rows, want %d", len(report.Rows), want)
			}
			for _, f := range report.Rows {
				if f.Rate.Least <= 0 || f.P50.Least <= 0 || f.Max.Median < f.P50.Median || f.OfGRPC.Median <= 0 || f.CPU.Median <= 0 || f.Failed != 0 || len(f.EachRate) != o.rounds {
					t.Errorf("%+v", f)
				}
			}
		})
	}
}

// Whoever stops it gets what was measured, and nothing is left.
func TestInterrupt(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes")
	}
	o, err := parse(strings.Fields("-roads grpc -callers 2 -window 50ms -warmup 0 -rounds 1000000"), nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	var out bytes.Buffer
	if err := run(ctx, o, &out, writer(func(p []byte) { stop() })); !errors.Is(err, context.Canceled) {
		t.Errorf("the error is %v", err)
	}
	if !strings.Contains(out.String(), "grpc") {
		t.Errorf("the table is %q", out.String())
	}
}

type writer func([]byte)

func (w writer) Write(p []byte) (int, error) { w(p); return len(p), nil }

func TestTable(t *testing.T) {
	of := func(calls, d int) measurement {
		m := measurement{used: 3 * time.Second}
		m.Latency, m.Late, m.Took = &meter.Histogram{}, &meter.Histogram{}, time.Second
		for range calls {
			m.Latency.Record(time.Duration(d) * time.Microsecond)
		}
		m.Late.Record(5 * time.Microsecond)
		return m
	}
	r := results{options: options{size: 60, objects: 7, window: time.Second, rate: 20, rounds: 2}}
	r.add(roadGRPC, 4, of(100, 40))
	r.add(roadNode, 4, of(300, 10))
	r.add(roadGRPC, 4, of(200, 40))
	failed := of(300, 20)
	failed.Failed, failed.Failure, failed.Unsent = 2, errors.New("broken"), 3
	r.add(roadNode, 4, failed)
	var b strings.Builder
	if err := r.write(&b); err != nil {
		t.Fatal(err)
	}
	var rows []string
	for _, line := range strings.Split(b.String(), "\n")[2:] {
		rows = append(rows, strings.Join(strings.Fields(line), " "))
	}
	want := []string{
		"callers road calls/s of grpc p50 of grpc p90 p99 of grpc p99.9 max cpu late unsent",
		"4 grpc 150 (100–200) – 40.0 – 40.0 40.0 – 40.0 40.0 22.5k 5.00 0",
		"4 node 300 2.25 (1.50–3.00) 15.0 (10.0–20.0) 0.38 (0.25–0.50) 15.0 15.0 (10.0–20.0) 0.38 (0.25–0.50) 15.0 15.0 10.0k 5.00 3",
	}
	for i, w := range want {
		if rows[i] != w {
			t.Errorf("line %d is\n%s\nwant\n%s", i, rows[i], w)
		}
	}
	if err := r.failure(); err == nil || !strings.Contains(err.Error(), "2 calls failed, the first: broken") {
		t.Errorf("the error is %v", err)
	}
}

func TestArgumentsThatMakeNoSense(t *testing.T) {
	for args, says := range map[string]string{
		"-roads air": "-roads", "-roads node,node": "-roads", "-callers 0": "-callers", "-callers 1,x": "-callers", "-objects none": "-objects",
		"-objects 0": "-objects", "-o xml": "-o xml", "-rate -1": "-rate", "-rate NaN": "-rate", "-rate 0.1": "not even one", "-window 0": "-window",
		"-rounds 0": "-rounds", "-size 7": "-size", "more": "more", "-pace 3": "load -help", "-size 3 -rounds 0": "-size",
	} {
		if _, err := parse(strings.Fields(args), nil); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", args, err)
		}
	}
}

func TestHelp(t *testing.T) {
	var b strings.Builder
	if _, err := parse([]string{"-help"}, &b); !errors.Is(err, flag.ErrHelp) {
		t.Error(err)
	}
	for _, word := range []string{"go run ./bench/load", "Closed loop", "-rate", "-objects", "Ctrl-C", child.ProfileVar} {
		if !strings.Contains(b.String(), word) {
			t.Errorf("the help does not say %q", word)
		}
	}
}
