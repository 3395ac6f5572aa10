// Command node is a node that hosts logs, for tests that need processes. With
// GOVERSE_LOGBOOK_JOURNAL it keeps a journal in that directory.
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/xiaonanln/goverse/goverseapi"
	"github.com/xiaonanln/goverse/test/logbook"
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
	if err := goverseapi.NewServer().Run(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "node:", err)
		os.Exit(1)
	}
}
