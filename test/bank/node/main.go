//go:build unix

// Command node is a node of a bank, for tests that need processes. Its store is a SQLite
// file or a PostgreSQL database that it shares with the others; it may be told to die at
// a boundary.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/xiaonanln/goverse/goverseapi"
	"github.com/xiaonanln/goverse/test/bank"
	"github.com/xiaonanln/goverse/util/postgres"
	"github.com/xiaonanln/goverse/util/sqlite"
)

func main() {
	if err := run(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "node:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	store := flag.String("store", "", "a SQLite `file`, or the URL of a PostgreSQL database")
	acks := flag.String("acks", "", "`file` to which each save is added that was committed")
	at := flag.String("die-at", "", "the `boundary` at which the process dies, from SIGUSR1 on")
	resend := flag.Bool("die-resending", false, "until then, or SIGUSR2, it dies where it would deliver again what a crash left behind")
	goverseapi.RegisterObjectType((*bank.Account)(nil), goverseapi.ReadOnlyMethods("Look"))
	goverseapi.RegisterObjectType((*bank.Clerk)(nil), goverseapi.ReadOnlyMethods("Look"))
	s := goverseapi.NewServer()

	provider, done, err := open(ctx, *store)
	if err != nil {
		return err
	}
	defer done()
	log, err := os.OpenFile(*acks, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	doomed := bank.NewDoomed(provider, log, die)
	if *resend {
		doomed.DieAt(bank.BeforeSecondDelivery)
	}
	told := make(chan os.Signal, 1)
	signal.Notify(told, syscall.SIGUSR1, syscall.SIGUSR2)
	go func() {
		for s := range told {
			if s == syscall.SIGUSR1 {
				doomed.DieAt(bank.Boundary(*at))
			} else {
				doomed.DieAt("")
			}
		}
	}()
	s.Node.SetPersistenceProvider(doomed)
	return s.Run(ctx)
}

func open(ctx context.Context, store string) (bank.Store, func() error, error) {
	if strings.HasPrefix(store, "postgres://") {
		db, err := postgres.Open(ctx, postgres.Config{URL: store})
		if err != nil {
			return nil, nil, err
		}
		return postgres.NewPostgresPersistenceProvider(db), db.Close, db.InitSchema(ctx)
	}
	db, err := sqlite.Open(ctx, sqlite.Config{Path: store})
	if err != nil {
		return nil, nil, err
	}
	return sqlite.NewSQLitePersistenceProvider(db), db.Close, db.InitSchema(ctx)
}

// die is what kill -9 does.
func die(at bank.Boundary) {
	fmt.Fprintln(os.Stderr, "dies", at)
	if err := syscall.Kill(os.Getpid(), syscall.SIGKILL); err != nil {
		panic(err)
	}
	select {}
}
