package peer

import (
	"context"

	"google.golang.org/protobuf/proto"

	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/object"
	goverse_pb "github.com/xiaonanln/goverse/proto"
)

// What types a node has, as it is asked for and answered.

// serveCatalog answers a question that came in.
func serveCatalog(ctx context.Context, svc Service, m *goverse_pb.CatalogRequest) *goverse_pb.CatalogReply {
	c, err := svc.Catalog(ctx, m.Known)
	if err != nil {
		return &goverse_pb.CatalogReply{Fault: encodeFault(err)}
	}
	reply := &goverse_pb.CatalogReply{Digest: c.Digest, SinceUnixNanos: nanos(c.Since), Types: make([]*goverse_pb.CatalogType, len(c.Types)), Files: c.Files}
	for i, t := range c.Types {
		methods := make([]*goverse_pb.CatalogMethod, len(t.Methods))
		for j, m := range t.Methods {
			methods[j] = &goverse_pb.CatalogMethod{Name: m.Name, ReadOnly: m.ReadOnly, Request: m.Request, Response: m.Response}
		}
		reply.Types[i] = &goverse_pb.CatalogType{Name: t.Name, MustCreate: t.MustCreate, Methods: methods}
	}
	if size := proto.Size(reply); size > maxMessage {
		return &goverse_pb.CatalogReply{Fault: encodeFault(fault.New(fault.TooLarge,
			"the description of this node's %d types takes %d bytes, at most %d are carried", len(c.Types), size, maxMessage))}
	}
	return reply
}

func decodeCatalog(m *goverse_pb.CatalogReply) (object.Catalog, error) {
	if m.Fault != nil {
		return object.Catalog{}, fault.FromWire(m.Fault)
	}
	c := object.Catalog{Digest: m.Digest, Since: moment(m.SinceUnixNanos), Files: m.Files}
	for _, t := range m.Types {
		one := object.CatalogType{Name: t.GetName(), MustCreate: t.GetMustCreate()}
		for _, m := range t.GetMethods() {
			one.Methods = append(one.Methods, object.CatalogMethod{Name: m.GetName(), ReadOnly: m.GetReadOnly(), Request: m.GetRequest(), Response: m.GetResponse()})
		}
		c.Types = append(c.Types, one)
	}
	return c, nil
}
