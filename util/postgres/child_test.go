package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/xiaonanln/goverse/object"
)

// A test binary that is started with this variable is a child: "<mode> <url>".
const childVar = "GOVERSE_POSTGRES_CHILD"

func child(spec string) error {
	mode, url, _ := strings.Cut(spec, " ")
	ctx := context.Background()
	db, err := Open(ctx, Config{URL: url})
	if err != nil {
		return err
	}
	defer db.Close()
	if err := db.InitSchema(ctx); err != nil {
		return err
	}
	p := NewPostgresPersistenceProvider(db)
	switch mode {
	case "init":
		id, err := p.StoreID(ctx)
		fmt.Println("store", id)
		return err
	case "sit":
		return sit(ctx, p)
	}
	return fmt.Errorf("unknown mode %q", mode)
}

// frozen is the fence of a child that will be stopped.
var frozen = object.Fence{Shard: 5, Epoch: 1, Owner: "n:1#frozen"}

// sit holds the fence of a shard in a transaction, until it is stopped.
func sit(ctx context.Context, p *Provider) error {
	if _, err := p.Stamp(ctx, frozen.Owner, []object.Fence{frozen}); err != nil {
		return err
	}
	save := object.Save{Ref: object.Ref{Type: "T", ID: "sat"}, Data: []byte(`{"late":true}`), Shard: 5, Epoch: 1, SaveID: [16]byte{1}}
	_, err := p.CommitWith(ctx, frozen.Owner, save, func(ctx context.Context, _ object.Tx) error {
		fmt.Println("sitting")
		<-ctx.Done()
		return errors.New("nobody has stopped this process")
	})
	return err
}
