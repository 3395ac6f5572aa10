package goverseapi

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/xiaonanln/goverse/internal/conf"
	"github.com/xiaonanln/goverse/node"
	"github.com/xiaonanln/goverse/object"
	"github.com/xiaonanln/goverse/util/logger"
	"github.com/xiaonanln/goverse/util/postgres"
)

// ConfigLoader reads the configuration of a node program: its command line, over the
// environment (GOVERSE_…), over its entry in the cluster's file (--config), over the
// defaults; see docs/reference/config.md. It is used once, by one goroutine.
type ConfigLoader struct {
	flags    *flag.FlagSet
	config   *ServerConfig
	file, id string
	level    string // of the log
	format   string
	http     string // --http-listen of a program without a gate
	database postgres.Config
	rules    bool // the program brings its own

	document *conf.Document // nil without --config
	settings []conf.Setting
}

// NewConfigLoader defines the flags of a node program in fs, beside those that the
// program has there, which win; nil is a set of its own that prints nothing.
func NewConfigLoader(fs *flag.FlagSet) *ConfigLoader {
	if fs == nil {
		fs = flag.NewFlagSet("node", flag.ContinueOnError)
		fs.SetOutput(io.Discard)
	}
	l := newConfigLoader(fs, &ServerConfig{})
	if fs.Lookup("http-listen") == nil {
		fs.StringVar(&l.http, "http-listen", "", "the same as --ops-listen, for a program without a gate")
	}
	return l
}

// newConfigLoader is for a program that has flags for its gate too, in fs already.
func newConfigLoader(fs *flag.FlagSet, cfg *ServerConfig) *ConfigLoader {
	l := &ConfigLoader{flags: fs, config: cfg}
	own := flag.NewFlagSet("", flag.ContinueOnError)
	addNodeFlags(own, cfg)
	own.StringVar(&l.file, "config", "", "`file` that describes the cluster: its YAML, docs/reference/config.md")
	own.StringVar(&l.id, "node-id", "", "which `entry` of the file's nodes this is (default: the only one)")
	own.StringVar(&l.level, "log-level", "info", "what is logged: debug, info, warn, error or off")
	own.StringVar(&l.format, "log-format", "text", "how lines are written to standard error: text or json")
	own.IntVar(&cfg.NumShards, "shards", cfg.NumShards, "how many `shards` a new cluster has, 1 to 8192 (default 8192)")
	own.DurationVar(&cfg.DefaultCallTimeout, "call-timeout", cmp.Or(cfg.DefaultCallTimeout, 30*time.Second), "how long a call may take whose caller does not say")
	own.DurationVar(&cfg.DefaultCreateTimeout, "create-timeout", cfg.DefaultCreateTimeout, "the same for creating an object (default: as for calls)")
	own.DurationVar(&cfg.DefaultDeleteTimeout, "delete-timeout", cfg.DefaultDeleteTimeout, "the same for deleting an object (default: as for calls)")
	own.DurationVar(&cfg.DrainTimeout, "drain-timeout", cmp.Or(cfg.DrainTimeout, 25*time.Second), "how long a stop waits for running calls")
	own.IntVar(&cfg.MaxActivations, "max-activations", cmp.Or(cfg.MaxActivations, node.DefaultMaxActivations), "`objects` that live in memory at once")
	own.IntVar(&cfg.MaxExecutions, "max-executions", cmp.Or(cfg.MaxExecutions, node.DefaultMaxExecutions), "`calls` that are under way at once")
	l.addDatabaseFlags(own)
	own.VisitAll(func(f *flag.Flag) {
		if fs.Lookup(f.Name) == nil {
			fs.Var(f.Value, f.Name, f.Usage)
		}
	})
	return l
}

func (l *ConfigLoader) addDatabaseFlags(fs *flag.FlagSet) {
	c, d := &l.database, postgres.DefaultConfig()
	fs.StringVar(&c.URL, "postgres", "", "keep state in PostgreSQL: the database's `URL`, better in GOVERSE_POSTGRES if it has a password (default: SQLite in --data-dir)")
	fs.StringVar(&c.Host, "postgres-host", d.Host, "the same in parts: a `name`, an address, or the directory of a Unix socket")
	fs.IntVar(&c.Port, "postgres-port", d.Port, "its `port`")
	fs.StringVar(&c.User, "postgres-user", d.User, "`who` signs in")
	fs.StringVar(&c.Password, "postgres-password", "", "with `what`; better in GOVERSE_POSTGRES_PASSWORD, PGPASSWORD or ~/.pgpass")
	fs.StringVar(&c.Database, "postgres-database", d.Database, "its `name`")
	fs.StringVar(&c.SSLMode, "postgres-sslmode", d.SSLMode, "disable, allow, prefer, require, verify-ca or verify-full")
	fs.IntVar(&c.MaxOpenConns, "postgres-max-open-conns", d.MaxOpenConns, "`connections` of this node at most")
	fs.IntVar(&c.MaxIdleConns, "postgres-max-idle-conns", 0, "how many of `them` are kept while nobody uses them (default: all)")
	fs.DurationVar(&c.ConnectTimeout, "postgres-connect-timeout", d.ConnectTimeout, "how long it may take to make one")
}

// Load parses args, which do not have the program's name, and completes them from the
// other sources. nil takes what the flag set has parsed already. --help ends the process
// as flag does, or is flag.ErrHelp. The configuration can be changed before it is given
// to NewServerWithConfig, which judges it as a whole.
func (l *ConfigLoader) Load(args []string) (*ServerConfig, error) {
	return l.LoadIn(os.LookupEnv, args)
}

// LoadIn is Load with another environment than the process's.
func (l *ConfigLoader) LoadIn(environment func(string) (string, bool), args []string) (*ServerConfig, error) {
	if l.settings != nil {
		return nil, errors.New("a ConfigLoader loads once; make a new one")
	}
	if !l.flags.Parsed() {
		if err := l.flags.Parse(args); err != nil {
			return nil, err
		}
	}
	if l.flags.NArg() > 0 {
		return nil, fmt.Errorf("unexpected argument %q", l.flags.Arg(0))
	}
	values, err := l.readFile(environment)
	if err != nil {
		return nil, err
	}
	if l.settings, err = conf.Settle(l.flags, environment, values); err != nil {
		return nil, err
	}
	return l.config, l.complete()
}

// readFile is what the cluster's file says of this program's flags.
func (l *ConfigLoader) readFile(environment func(string) (string, bool)) ([]conf.Value, error) {
	file, id := conf.Given(environment, "config", l.file), conf.Given(environment, "node-id", l.id)
	if file == "" {
		if id != "" {
			return nil, errors.New("--node-id names an entry of a file; give the file with --config")
		}
		return nil, nil
	}
	var err error
	if l.document, err = conf.Read(file); err != nil {
		return nil, err
	}
	return l.document.Node(id)
}

// complete derives what no flag says by itself.
func (l *ConfigLoader) complete() error {
	var errs []error
	if l.http != "" && l.config.MetricsListenAddress != "" {
		errs = append(errs, errors.New("--http-listen (http_addr) and --ops-listen (ops_addr) both name the operations port of a program without a gate; give one"))
	}
	l.config.MetricsListenAddress = cmp.Or(l.config.MetricsListenAddress, l.http)
	if l.wantsDatabase() {
		if l.config.OpenStore != nil {
			errs = append(errs, errors.New("this program brings its own store; leave --postgres and the file's postgres section out"))
		}
		errs = append(errs, l.database.Validate())
		l.config.OpenStore = openPostgres(l.database)
	}
	if l.document != nil && len(l.document.Cluster.AutoLoad) > 0 {
		l.config.AutoLoadObjects = append(l.config.AutoLoadObjects, l.document.AutoLoads()...)
	}
	l.rules = l.config.ObjectAccessRules != nil || l.config.ObjectLifecycleRules != nil
	if l.document != nil && !l.rules {
		l.config.ObjectAccessRules, l.config.ObjectLifecycleRules = l.document.Rules()
	} else if l.document != nil {
		errs = append(errs, l.ownRules(l.document))
	}
	return errors.Join(append(errs, checkLog(l.level, l.format))...)
}

// ownRules refuses a file's rules where the program has its own: one of them would not hold.
func (l *ConfigLoader) ownRules(d *conf.Document) error {
	if l.rules && (d.Access != nil || d.Lifecycle != nil) {
		return errors.New("this program brings its own access rules; leave the file's out")
	}
	return nil
}

func checkLog(level, format string) error {
	_, err := logger.ParseLevel(level)
	return errors.Join(err, logger.CheckFormat(format))
}

// wantsDatabase: the file has the section, or anybody has said something of it.
func (l *ConfigLoader) wantsDatabase() bool {
	return l.document != nil && l.document.Postgres != nil || slices.ContainsFunc(l.settings, func(s conf.Setting) bool {
		return (s.Flag == "postgres" || strings.HasPrefix(s.Flag, "postgres-")) && s.From != conf.Default
	})
}

// Settings is what each flag is after Load, and where its value came from.
func (l *ConfigLoader) Settings() []conf.Setting { return l.settings }

// setLog makes the process log as it was told, if it was told anything.
func (l *ConfigLoader) setLog() {
	if conf.From(l.settings, "log-format") != conf.Default {
		_ = logger.UseFormat(l.format, os.Stderr) // complete has checked it
	}
	if level, err := logger.ParseLevel(l.level); err == nil && conf.From(l.settings, "log-level") != conf.Default {
		logger.SetLevel(level)
	}
}

// openPostgres is the store of a program whose configuration names a database.
func openPostgres(cfg postgres.Config) func(context.Context, string, func(string, error)) (object.PersistenceProvider, io.Closer, error) {
	return func(ctx context.Context, _ string, warn func(string, error)) (object.PersistenceProvider, io.Closer, error) {
		cfg.Warn = warn
		db, err := postgres.Open(ctx, cfg)
		if err != nil {
			return nil, nil, err
		}
		if err := db.InitSchema(ctx); err != nil {
			return nil, nil, errors.Join(err, db.Close())
		}
		return postgres.NewPostgresPersistenceProvider(db), db, nil
	}
}
