// Command node is a node that hosts logs, for tests that need processes. With
// GOVERSE_LOGBOOK_JOURNAL it keeps a journal in that directory; with --store, the URL of a
// PostgreSQL database, its logs are kept there.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"

	"github.com/xiaonanln/goverse/goverseapi"
	"github.com/xiaonanln/goverse/test/logbook"
	"github.com/xiaonanln/goverse/util/postgres"
)

func main() {
	if dir := os.Getenv("GOVERSE_LOGBOOK_JOURNAL"); dir != "" {
		if err := logbook.KeepJournal(dir); err != nil {
			fmt.Fprintln(os.Stderr, "node:", err)
			os.Exit(1)
		}
	}
	goverseapi.RegisterObjectType((*logbook.DurableLog)(nil))
	goverseapi.RegisterObjectType((*logbook.VolatileLog)(nil), goverseapi.WithDurability(goverseapi.Volatile))
	if err := run(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "node:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	store := flag.String("store", "", "the `URL` of a PostgreSQL database (default: SQLite)")
	s := goverseapi.NewServer()
	if *store == "" {
		return s.Run(ctx)
	}
	db, err := postgres.Open(ctx, postgres.Config{URL: *store})
	if err != nil {
		return err
	}
	defer db.Close()
	if err := db.InitSchema(ctx); err != nil {
		return err
	}
	s.Node.SetPersistenceProvider(postgres.NewPostgresPersistenceProvider(db))
	return s.Run(ctx)
}
