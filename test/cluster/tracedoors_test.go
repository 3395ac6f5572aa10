package cluster

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/xiaonanln/goverse/client/goverseclient"
)

// door is a way into the gate, and the trace that a client is in who takes it.
type door struct {
	name  string
	trace trace.TraceID
	// order asks a clerk in the trace of ctx.
	order func(ctx context.Context, clerk, to string) error
	spans bool // the client makes a span of its own
}

// byClient orders with the Go client.
func (m *mail) byClient(p trace.TracerProvider, options ...goverseclient.Option) func(ctx context.Context, clerk, to string) error {
	return func(ctx context.Context, clerk, to string) error {
		c, err := goverseclient.NewClient([]string{m.gate.GRPCAddr()}, append(options, goverseclient.WithTracerProvider(p))...)
		if err != nil {
			return err
		}
		defer c.Close()
		if err := c.Connect(ctx); err != nil {
			return err
		}
		_, err = c.CallObject(ctx, "Clerk", clerk, "Order", wrapperspb.String(to))
		return err
	}
}

// bySocket orders over a WebSocket, which says that it takes traces.
func (m *mail) bySocket(ctx context.Context, clerk, to string) error {
	conn, _, err := websocket.Dial(ctx, "ws://"+m.gate.HTTPAddr()+"/api/v1/ws", nil)
	if err != nil {
		return err
	}
	defer conn.CloseNow()
	at := trace.SpanContextFromContext(ctx)
	ask, err := json.Marshal(map[string]any{
		"op": "call", "seq": 1, "type": "Clerk", "id": clerk, "method": "Order", "request": to,
		"traceparent": fmt.Sprintf("00-%s-%s-01", at.TraceID(), at.SpanID()), "tracestate": "v=1",
	})
	if err != nil {
		return err
	}
	for {
		_, data, err := conn.Read(ctx)
		if err != nil {
			return err
		}
		var f struct {
			Op, Error string
			Traces    bool
		}
		switch err := json.Unmarshal(data, &f); {
		case err != nil:
			return err
		case f.Op == "register" && f.Traces:
			if err := conn.Write(ctx, websocket.MessageText, ask); err != nil {
				return err
			}
		case f.Op == "register" || f.Error != "":
			return fmt.Errorf("the gate says %s", data)
		case f.Op == "reply":
			return conn.Close(websocket.StatusNormalClosure, "")
		}
	}
}

// A client's trace is one tree through the gate, both nodes, their commits and what was
// sent, whichever door the client takes; the Go client's own spans are its top.
func TestATraceOverEachDoor(t *testing.T) {
	kept := make(spans, 1000)
	p := sdktrace.NewTracerProvider(sdktrace.WithSampler(sdktrace.ParentBased(sdktrace.NeverSample())), sdktrace.WithSpanProcessor(kept))
	m := openMail(t, [3]trace.TracerProvider{p, p, p})
	who := map[string]string{m.nodes[0].Address(): "A", m.nodes[1].Address(): "B", m.gate.GRPCAddr(): "gate"}
	doors := []door{
		{"stream", trace.TraceID{1}, m.byClient(p), true},
		{"unary", trace.TraceID{2}, m.byClient(p, goverseclient.WithUnaryCalls()), true},
		{"socket", trace.TraceID{3}, m.bySocket, false},
	}
	above := trace.SpanID{7}
	for _, d := range doors {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		at := trace.NewSpanContext(trace.SpanContextConfig{TraceID: d.trace, SpanID: above, TraceFlags: trace.FlagsSampled})
		if err := d.order(trace.ContextWithSpanContext(ctx, at), m.clerkNamed(0, d.name), m.clerkNamed(1, d.name)); err != nil {
			t.Fatalf("%s: %v", d.name, err)
		}
		cancel()
	}
	all := map[trace.TraceID][]sdktrace.ReadOnlySpan{}
	for delivered := 0; delivered < len(doors); {
		select {
		case s := <-kept:
			all[s.SpanContext().TraceID()] = append(all[s.SpanContext().TraceID()], s)
			if s.Name() == "call Clerk.Deliver" {
				delivered++
			}
		case <-time.After(time.Minute):
			t.Fatalf("only %d orders were delivered", delivered)
		}
	}
	m.close()
	close(kept)
	for s := range kept {
		all[s.SpanContext().TraceID()] = append(all[s.SpanContext().TraceID()], s)
	}
	if len(all) != len(doors) {
		t.Errorf("there are %d traces", len(all))
	}
	for _, d := range doors {
		top, want := above.String(), []string{}
		if d.spans {
			top += " >  call Clerk.Order"
			want = append(want, top)
		}
		gate := top + " > gate gate Clerk.Order"
		order := gate + " > gate call Clerk.Order > A serve Clerk.Order"
		note := order + " > A call Clerk.Note > B serve Clerk.Note"
		deliver := order + " > A call Clerk.Deliver > B serve Clerk.Deliver"
		want = append(want, gate, gate+" > gate call Clerk.Order", order, order+" > A load", order+" > A commit",
			order+" > A call Clerk.Note", note, note+" > B load", note+" > B commit",
			order+" > A call Clerk.Deliver", deliver, deliver+" > B commit")
		slices.Sort(want)
		if got := tree(t, d.trace.String(), all[d.trace], who); !slices.Equal(got, want) {
			t.Errorf("%s: the spans are\n%s\nwant\n%s", d.name, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
}
