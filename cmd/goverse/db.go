package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/xiaonanln/goverse/util/postgres"
)

// postgresVariable names the database where --postgres does not: a URL may have a
// password, which a command line would show to everybody.
const postgresVariable = "GOVERSE_POSTGRES"

func (p *program) db() *cobra.Command {
	var url string
	c := &cobra.Command{
		Use:   "db",
		Short: "Make, look at, check or empty the PostgreSQL database of a cluster",
		Long: `db works on the database that keeps the objects of a cluster. It does not need etcd.

Which database: --postgres, or ` + postgresVariable + `, a URL such as postgres://user@host:5432/goverse.
The password may be in it, in PGPASSWORD or in ~/.pgpass.`,
		Args: takes(),
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.PersistentFlags().StringVar(&url, "postgres", "", "`URL` of the database (default: $"+postgresVariable+")")
	with := func(ctx context.Context, f func(context.Context, *postgres.DB) error) error {
		return p.withDB(ctx, url, f)
	}
	c.AddCommand(p.dbInit(with), p.dbStatus(with), p.dbVerify(with), p.dbReset(with))
	return c
}

// withDB runs f on the database that was named, for --timeout at most.
func (p *program) withDB(ctx context.Context, url string, f func(context.Context, *postgres.DB) error) error {
	if url = p.databaseURL(url); url == "" {
		return usagef("no database: give --postgres, or set %s, to postgres://user@host:5432/database", postgresVariable)
	}
	cfg := postgres.Config{URL: url, Warn: func(text string, err error) { p.warn([]string{text}) }}
	if err := cfg.Validate(); err != nil {
		return usage{err}
	}
	ctx, cancel := context.WithTimeout(ctx, p.flags.timeout)
	defer cancel()
	db, err := postgres.Open(ctx, cfg)
	if err != nil {
		return err
	}
	defer db.Close()
	return f(ctx, db)
}

// databaseURL is the flag's, or the environment's; "" is none.
func (p *program) databaseURL(flag string) string {
	if flag == "" {
		flag, _ = p.environment(postgresVariable)
	}
	return flag
}

// onDB runs something on the database.
type onDB func(context.Context, func(context.Context, *postgres.DB) error) error

func (p *program) dbInit(with onDB) *cobra.Command {
	return &cobra.Command{
		Use:   "init",
		Short: "Make the tables, or bring older ones up to date",
		Long: `init makes the tables, or brings older ones up to date. It may be run again, and by several at
once. Programs that call InitSchema do not need it; it is for those whose own user may not make tables.

With -o json: what db status answers.`,
		Args: takes(),
		RunE: does(func(c *cobra.Command, _ []string) error {
			return with(c.Context(), func(ctx context.Context, db *postgres.DB) error {
				if err := db.InitSchema(ctx); err != nil {
					return err
				}
				return p.showStatus(ctx, db)
			})
		}),
	}
}

func (p *program) dbStatus(with onDB) *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Show what the database has, and how safe it keeps it",
		Long: `status counts what the database has. It reads all tables, which may take long: see --timeout.

With -o json: {"database", "server", "system", "timeline", "schema", "schemaWanted", "storeId", "cluster", "bytes", "fences", "objects",
"tombstones", "calls", "effects", "synchronousCommit", "synchronousStandbys", "replicas", "connections"}.`,
		Args: takes(),
		RunE: does(func(c *cobra.Command, _ []string) error { return with(c.Context(), p.showStatus) }),
	}
}

func (p *program) showStatus(ctx context.Context, db *postgres.DB) error {
	s, err := db.Status(ctx)
	if err != nil {
		return err
	}
	return p.show(stock(*s))
}

func (p *program) dbVerify(with onDB) *cobra.Command {
	return &cobra.Command{
		Use:   "verify",
		Short: "Check the tables and their rows, beside live nodes if need be",
		Long: `verify holds the tables against those that this program makes, and their rows against what no
program of Goverse writes. It changes nothing. It fails if something is wrong.

With -o json: {"findings": [text]}.`,
		Args: takes(),
		RunE: does(func(c *cobra.Command, _ []string) error {
			return with(c.Context(), func(ctx context.Context, db *postgres.DB) error {
				found, err := db.Verify(ctx)
				if err != nil {
					return err
				}
				if err := p.show(findings{append([]string{}, found...)}); err != nil || len(found) == 0 {
					return err
				}
				return fmt.Errorf("%d findings: restore a backup, or mend the rows while no node runs", len(found))
			})
		}),
	}
}

func (p *program) dbReset(with onDB) *cobra.Command {
	var yes string
	c := &cobra.Command{
		Use:   "reset",
		Short: "Delete everything that is stored, for ever",
		Long: `reset drops all tables of Goverse with everything in them, for ever. It is refused while nodes have
connections, and without --yes and the store's id, which db status shows.`,
		Example: `  goverse db reset --yes 0d9c6d0f1b2e4a5c8d7e6f5a4b3c2d1e`,
		Args:    takes(),
		RunE: does(func(c *cobra.Command, _ []string) error {
			if yes == "" {
				return usagef("reset deletes everything: confirm it with --yes and the store's id, which db status shows")
			}
			return with(c.Context(), func(ctx context.Context, db *postgres.DB) error { return db.Reset(ctx, yes) })
		}),
	}
	c.Flags().StringVar(&yes, "yes", "", "confirm it with the `id` of the store")
	return c
}

// stock is the answer of db status.
type stock postgres.Status

// MarshalJSON gives the fields their stable names.
func (s stock) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Database     string `json:"database"`
		Server       string `json:"server"`
		System       string `json:"system"`
		Timeline     string `json:"timeline"`
		Schema       int    `json:"schema"`
		SchemaWanted int    `json:"schemaWanted"`
		StoreID      string `json:"storeId"`
		Cluster      string `json:"cluster"`
		Bytes        int64  `json:"bytes"`
		Fences       int64  `json:"fences"`
		Objects      int64  `json:"objects"`
		Tombstones   int64  `json:"tombstones"`
		Calls        int64  `json:"calls"`
		Effects      int64  `json:"effects"`
		Synchronous  string `json:"synchronousCommit"`
		Standbys     string `json:"synchronousStandbys"`
		Replicas     int64  `json:"replicas"`
		Connections  int64  `json:"connections"`
	}{
		s.Database, s.Server, strconv.FormatInt(s.System, 10), s.Timeline, s.Schema, s.SchemaWanted, s.StoreID, s.Cluster, s.Bytes, s.Fences,
		s.Objects, s.Tombstones, s.Calls, s.Effects, s.Synchronous, s.Standbys, s.Replicas, s.LiveProcesses,
	})
}

func (s stock) table(w io.Writer) {
	schema := fmt.Sprintf("version %d", s.Schema)
	switch {
	case s.Schema == 0:
		schema = "none: goverse db init makes it"
	case s.Schema < s.SchemaWanted:
		schema += fmt.Sprintf(", goverse db init makes it %d", s.SchemaWanted)
	}
	rows := [][]string{
		{"database", s.Database}, {"server", "PostgreSQL " + s.Server}, {"schema", schema},
	}
	if s.Schema == s.SchemaWanted {
		count := func(name string, n int64) { rows = append(rows, []string{name, strconv.FormatInt(n, 10)}) }
		rows = append(rows, []string{"store", s.StoreID}, []string{"cluster", cmp.Or(s.Cluster, "none yet")})
		count("objects", s.Objects)
		count("deleted objects", s.Tombstones)
		count("call results", s.Calls)
		count("pending effects", s.Effects)
		count("stamped shards", s.Fences)
		rows = append(rows, []string{"size", fmt.Sprintf("%.1f MiB", float64(s.Bytes)/(1<<20))})
	}
	standbys := "none: a fail-over to a standby may lose the newest saves"
	if s.Standbys != "" {
		standbys = s.Standbys
	}
	rows = append(rows, []string{"nodes' connections", strconv.FormatInt(s.LiveProcesses, 10)},
		[]string{"streaming replicas", strconv.FormatInt(s.Replicas, 10)}, []string{"synchronous standbys", standbys})
	columns(w, rows)
}

// findings is the answer of db verify.
type findings struct {
	Findings []string `json:"findings"`
}

func (f findings) table(w io.Writer) {
	for _, line := range f.Findings {
		fmt.Fprintln(w, clean(line))
	}
	if len(f.Findings) == 0 {
		fmt.Fprintln(w, "nothing is wrong")
	}
}
