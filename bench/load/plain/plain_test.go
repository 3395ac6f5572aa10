package plain

import (
	"context"
	"testing"

	"go.uber.org/goleak"

	"github.com/xiaonanln/goverse/bench/load/meter"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestEcho(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	address, served := make(chan string, 1), make(chan error, 1)
	go func() { served <- Serve(ctx, func(a string) { address <- a }) }()
	c, err := Dial(<-address)
	if err != nil {
		t.Fatal(err)
	}
	q := meter.Question(60, 1, 2)
	reply, err := c.Say(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	if err := meter.Check(q, reply); err != nil {
		t.Error(err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	stop()
	if err := <-served; err != nil {
		t.Error(err)
	}
}
