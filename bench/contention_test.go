package bench

import (
	"context"
	"strconv"
	"testing"

	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/xiaonanln/goverse/object"
)

// BenchmarkHotObject calls one object from every core.
func BenchmarkHotObject(b *testing.B) {
	for _, method := range []string{"Say", "Look"} {
		b.Run(method, func(b *testing.B) {
			n, c := startNode(b), callOf("Echo", "hot", method)
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if _, err := n.Call(b.Context(), c); err != nil {
						b.Error(err)
						return
					}
				}
			})
		})
	}
}

// BenchmarkManyObjects calls a quarter of a million live objects in an order without pattern.
func BenchmarkManyObjects(b *testing.B) {
	const objects = 1 << 18
	n := startNode(b)
	ids := make([]string, objects)
	for i := range ids {
		ids[i] = strconv.Itoa(i)
		must(b, n, callOf("Echo", ids[i], "Say"))
	}
	i := 0
	for b.Loop() {
		i = (i + 611_953) % objects
		must(b, n, callOf("Echo", ids[i], "Say"))
	}
}

// Asker calls itself.
type Asker struct{ Echo }

func (a *Asker) Ask(ctx context.Context, m *wrapperspb.Int64Value) (*wrapperspb.Int64Value, error) {
	world, _ := object.RuntimeFrom(ctx)
	reply, err := world.Call(ctx, callOf("Asker", a.Id(), "Say"))
	if err != nil {
		return nil, err
	}
	return reply.Message.(*wrapperspb.Int64Value), nil
}

// BenchmarkNestedCall calls a method that calls another of its own object.
func BenchmarkNestedCall(b *testing.B) {
	n, c := startNode(b), callOf("Asker", "x", "Ask")
	if err := n.RegisterObjectType((*Asker)(nil)); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		must(b, n, c)
	}
}
