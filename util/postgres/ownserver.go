package postgres

import "github.com/xiaonanln/goverse/object"

var _ object.OwnServer = (*Provider)(nil)

// OwnServer implements object.OwnServer: PostgreSQL does not end with a node or with
// etcd, so durable objects are served by its word while etcd is silent.
func (p *Provider) OwnServer() bool { return true }
