package census

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/xiaonanln/goverse/internal/peer"
)

// What is told of a clock holds whatever part of the time the way there took.
func TestClocks(t *testing.T) {
	asked, second := time.Now(), time.Second
	at := func(d time.Duration) time.Time { return asked.Add(d) }
	gates := []peer.GateSurvey{{Address: "g:1", Now: at(-7 * second), Ago: 5 * second}, {Address: "old:1", Ago: second}}
	answers := []Answer{
		{Address: "b:1", Asked: asked, Took: 4 * second, Survey: &peer.Survey{Now: at(43 * second), Gates: gates}},
		{Address: "a:1", Asked: asked, Took: 2 * second, Survey: &peer.Survey{Now: at(second), Gates: gates}}, // the better witness
		{Address: "old:2", Asked: asked, Took: second, Survey: &peer.Survey{}},
		{Address: "mute:1", Asked: asked, Took: second, Err: errors.New("late")},
	}
	list := Clocks(answers)
	if got, want := fmt.Sprint(list), "[{a:1 false -1s 1s} {b:1 false 39s 43s} {g:1 true -4s -1s}]"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if c := list[1]; c.Middle() != 41*second || c.Error() != 2*second || c.Surely() != 39*second {
		t.Errorf("%v: %v ± %v", c, c.Middle(), c.Error())
	}
	if c := list[0]; c.Surely() != 0 {
		t.Errorf("%v differs by %v", c, c.Surely())
	}
	if c := list[2]; c.Surely() != second {
		t.Errorf("%v differs by %v", c, c.Surely())
	}
	if c := list[2].Since(list[1]); c.From != -47*second || c.To != -40*second || c.Surely() != 40*second || c.Address != "g:1" {
		t.Errorf("seen by another: %+v", c)
	}
	if m := Median(list); m.Address != "a:1" {
		t.Errorf("%+v", m)
	}
}

// slow is a node whose clock is ahead, and which is slow to tell.
type slow struct{ peer.Service }

func (slow) Survey(context.Context) (*peer.Survey, error) {
	time.Sleep(300 * time.Millisecond)
	defer time.Sleep(100 * time.Millisecond)
	return &peer.Survey{Now: time.Now().Add(time.Hour)}, nil
}

// A survey notes when it was asked for and how long that took.
func TestASurveyTimesItsAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := peer.NewNetwork()
		defer network.Listen("a:1", slow{})()
		p := NewPeers(network.Dialer("me"))
		defer p.Close()
		if got := fmt.Sprint(Clocks(p.Survey(t.Context(), []string{"a:1"}))); got != "[{a:1 false 59m59.9s 1h0m0.3s}]" {
			t.Error(got)
		}
	})
}
