package node

import (
	"context"

	"github.com/xiaonanln/goverse/internal/callctx"
	"github.com/xiaonanln/goverse/internal/peer"
)

// SetTracer says who makes spans; call it before Run.
func (n *Node) SetTracer(t callctx.Tracer) { n.cfg.Tracer = t }

// traced begins the span of a call that is served, if it belongs to a trace.
func (n *Node) traced(ctx context.Context, req *peer.Request) (context.Context, callctx.Span) {
	if n.cfg.Tracer == nil || !callctx.From(ctx).Trace.Given() {
		return ctx, nil
	}
	return n.cfg.Tracer.Begin(ctx, callctx.Stretch{
		Kind: callctx.Serving, Op: req.Op.String(), Type: req.Ref.Type, ID: req.Ref.ID, Method: req.Method,
	})
}

// stretch begins the span of a part of a call's way; nil: it is not traced.
func (n *Node) stretch(ctx context.Context, c *call, kind callctx.StretchKind) callctx.Span {
	if n.cfg.Tracer == nil || c.info == nil || !c.info.Trace.Given() {
		return nil
	}
	_, span := n.cfg.Tracer.Begin(ctx, callctx.Stretch{Kind: kind, Type: c.ref.Type, ID: c.ref.ID})
	return span
}

func end(s callctx.Span, err error) {
	if s != nil {
		s.End(err)
	}
}

// awaitBegun is awaitLoaded, in a span for the call that loads.
func (a *activation) awaitBegun(ctx context.Context, c *call, begun bool) error {
	if !begun {
		return a.awaitLoaded(ctx, c)
	}
	span := a.node.stretch(ctx, c, callctx.Loading)
	err := a.awaitLoaded(ctx, c)
	end(span, err)
	return err
}
