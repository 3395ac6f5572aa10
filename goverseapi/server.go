package goverseapi

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/xiaonanln/goverse/object"
	"github.com/xiaonanln/goverse/server"
	"github.com/xiaonanln/goverse/util/sqlite"
)

// NewServer makes a server from the command line, through flag.CommandLine, to which
// the program may have added flags of its own, the environment and the file that
// --config names; see ConfigLoader. It ends the process with a clear
// message when the command line is wrong.
func NewServer() *Server {
	l := NewConfigLoader(flag.CommandLine)
	cfg, err := l.Load(os.Args[1:])
	if err != nil {
		exitUsage(err)
	}
	l.setLog()
	l.follow(cfg)
	s, err := NewServerWithConfig(cfg)
	if err != nil {
		exitUsage(err)
	}
	return s
}

// NewServerWithConfig makes a server that is not running yet; nil is the default
// configuration. It becomes the process's default server. Unless its Node is given
// another store before Run, it keeps state in SQLite in cfg.DataDir.
func NewServerWithConfig(cfg *ServerConfig) (*Server, error) {
	var c ServerConfig
	if cfg != nil {
		c = *cfg
	}
	if c.Types == nil {
		c.Types = std.types
	}
	if c.OpenStore == nil {
		c.OpenStore = openSQLite
	}
	s, err := server.New(c)
	if err != nil {
		return nil, err
	}
	std.server.Store(s)
	return s, nil
}

// openSQLite is the store of a program that names none.
func openSQLite(ctx context.Context, dataDir string, warn func(string, error)) (object.PersistenceProvider, io.Closer, error) {
	if err := os.MkdirAll(dataDir, 0o700); err != nil {
		return nil, nil, fmt.Errorf("the data directory %s cannot be used; choose another with --data-dir: %w", dataDir, err)
	}
	db, err := sqlite.Open(ctx, sqlite.Config{Path: filepath.Join(dataDir, "goverse.db"), Warn: warn})
	if err != nil {
		return nil, nil, err
	}
	if err := db.InitSchema(ctx); err != nil {
		db.Close()
		return nil, nil, err
	}
	return sqlite.NewSQLitePersistenceProvider(db), db, nil
}

func exitUsage(err error) {
	fmt.Fprintf(os.Stderr, "%s: %v\nRun it with --help for the flags.\n", filepath.Base(os.Args[0]), err)
	os.Exit(2)
}
