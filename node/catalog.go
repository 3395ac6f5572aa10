package node

import (
	"context"

	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/object"
)

var _ object.Cataloger = (*Node)(nil)

// Catalog implements object.Cataloger.
func (n *Node) Catalog(_ context.Context, known string) (object.Catalog, error) {
	c, err := n.cfg.Types.Catalog()
	if err != nil {
		return object.Catalog{}, fault.New(fault.NotReady, "%w", err)
	}
	return c.Unless(known), nil
}
