package peer

import (
	"context"
	"fmt"
	"reflect"
	"testing"
	"time"

	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/object"
)

// counted is a Census that was made beforehand, and notes what it is asked.
type counted struct {
	survey *Survey
	live   []LiveObject
	sight  *Sight
	fails  error
	asked  []string
}

func (c *counted) note(format string, args ...any) {
	c.asked = append(c.asked, fmt.Sprintf(format, args...))
}

func (c *counted) Survey(context.Context) (*Survey, error) { return c.survey, c.fails }

func (c *counted) LiveObjects(_ context.Context, q LiveQuery) ([]LiveObject, error) {
	c.note("live %+v", q)
	return c.live, c.fails
}

func (c *counted) Look(_ context.Context, ref object.Ref, state bool) (*Sight, error) {
	c.note("look %v %v", ref, state)
	return c.sight, c.fails
}

func (c *counted) Deactivate(_ context.Context, ref object.Ref, force bool) (bool, error) {
	c.note("deactivate %v %v", ref, force)
	return true, c.fails
}

func (c *counted) Report(_ context.Context, g GateSurvey) (bool, error) {
	c.note("report %+v", g)
	return true, c.fails
}

// Everything that a node knows of itself arrives as it was said, over every road.
func TestCensusCrosses(t *testing.T) {
	exercise(t, func(t *testing.T, w world) {
		at, room := time.Unix(1700000000, 7), object.Ref{Type: "Room", ID: "a/b"}
		c := &counted{
			survey: &Survey{
				Since: 1 << 63, Age: time.Second, Objects: 5, Executions: 2, Commits: 9, Now: at,
				Types: []TypeSurvey{{Type: "Empty"}, {Type: "Room", Objects: 5, Queued: 1, Activations: 7, Calls: 11, Errors: 3, Latency: []Bucket{{time.Millisecond, 8}, {time.Second, 3}}}},
				Edges: []EdgeSurvey{{FromClient, "Room", 11}},
				Top:   []ObjectSurvey{{room, 11, 2}},
				Gates: []GateSurvey{{Address: "g:1", Since: 4, Age: time.Minute, Clients: 6, Calls: 7, Pushes: 8, Ago: time.Second, Now: at.Add(time.Hour)}},
			},
			live: []LiveObject{{Ref: room, Shard: 8191, LastUsed: at, Queued: 3}, {Ref: object.Ref{Type: "Room", ID: "c"}}},
			sight: &Sight{
				Live: true, Phase: "live", Shard: 7, Pinned: true, Epoch: 9, Version: 3, Unsaved: true, Mode: "Sequential", Durability: "Durable", Created: at, LastUsed: at,
				Running: []LookedCall{{Method: "Say", Caller: "client x"}}, Queue: []LookedCall{{Method: "Say", Caller: "program", At: at}}, Queued: 40,
				Recent: []LookedCall{{Method: "Say", Caller: "User/u.Post", At: at, Took: time.Second, Outcome: "ok"}},
				State:  []byte(`{"a":1}`), Hidden: []string{"secret"}, NoState: "why",
			},
		}
		conn := w.connect(t, fake{Census: c})
		ctx := t.Context()
		if got, err := conn.Survey(ctx); err != nil || !reflect.DeepEqual(got, c.survey) {
			t.Errorf("%+v, %v", got, err)
		}
		live, err := conn.LiveObjects(ctx, LiveQuery{Type: "Room", Prefix: "p", After: room, Limit: 9})
		if err != nil || !reflect.DeepEqual(live, c.live) {
			t.Errorf("%+v, %v", live, err)
		}
		if got, err := conn.Look(ctx, room, true); err != nil || !reflect.DeepEqual(got, c.sight) {
			t.Errorf("%+v, %v", got, err)
		}
		if was, err := conn.Deactivate(ctx, room, true); !was || err != nil {
			t.Error(was, err)
		}
		if watched, err := conn.Report(ctx, c.survey.Gates[0]); !watched || err != nil {
			t.Error(watched, err)
		}
		want := []string{
			"live {Type:Room Prefix:p After:Room/a/b Limit:9}", "look Room/a/b true", "deactivate Room/a/b true",
			fmt.Sprintf("report %+v", c.survey.Gates[0]),
		}
		if !reflect.DeepEqual(c.asked, want) {
			t.Errorf("%q", c.asked)
		}
	})
}

// What a node refuses is refused at the other end, and a closed connection asks nobody.
func TestCensusThatFails(t *testing.T) {
	exercise(t, func(t *testing.T, w world) {
		c := &counted{fails: fault.New(fault.NotReady, "not yet")}
		conn := w.connect(t, fake{Census: c})
		for i, err := range askAll(t.Context(), conn) {
			if fault.KindOf(err) != fault.NotReady {
				t.Error(i, err)
			}
		}
		if err := conn.Close(); err != nil {
			t.Fatal(err)
		}
		asked := len(c.asked)
		for i, err := range askAll(t.Context(), conn) {
			if err == nil || fault.OutcomeOf(err) == fault.Executed {
				t.Error(i, err)
			}
		}
		if len(c.asked) != asked {
			t.Error("the node was asked over a closed connection")
		}
	})
}

func askAll(ctx context.Context, c Census) (errs []error) {
	note := func(err error) { errs = append(errs, err) }
	_, err := c.Survey(ctx)
	note(err)
	_, err = c.LiveObjects(ctx, LiveQuery{Limit: 1})
	note(err)
	_, err = c.Look(ctx, object.Ref{}, false)
	note(err)
	_, err = c.Deactivate(ctx, object.Ref{}, false)
	note(err)
	_, err = c.Report(ctx, GateSurvey{})
	note(err)
	return errs
}

// A state too large for the road is said to be.
func TestCensusThatDoesNotFit(t *testing.T) {
	exerciseWire(t, func(t *testing.T, w world) {
		conn := w.connect(t, fake{Census: &counted{sight: &Sight{State: make([]byte, maxMessage)}}})
		_, err := conn.Look(t.Context(), object.Ref{}, true)
		want(t, err, fault.TooLarge, fault.NotExecuted)
		_, err = conn.Look(t.Context(), object.Ref{ID: "\xff"}, true)
		want(t, err, fault.Invalid, fault.NotExecuted)
	})
}
