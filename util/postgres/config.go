// Package postgres keeps objects in a PostgreSQL database: the store of a cluster.
// It is the only package that imports a PostgreSQL driver. The tables are drawn in
// docs/format/sql.md.
//
// What is acknowledged has been committed with synchronous_commit=on by a server with
// fsync=on; a server or a connection that does otherwise is refused. Each commit is
// one statement that holds the fences of its shards FOR SHARE, so that no deposed
// node can change what its successor has loaded.
package postgres

import (
	"cmp"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
)

// Config says which database to use, and how. DefaultConfig is a start; what is empty
// or 0 is as there, but for the password, which may also come from PGPASSWORD or from
// ~/.pgpass.
type Config struct {
	Host     string // a name, an address, or the directory of a Unix socket
	Port     int    // 1 to 65535
	User     string
	Password string
	Database string
	// SSLMode is disable, allow, prefer, require, verify-ca or verify-full. Only the
	// last proves which server answers. PGSSLROOTCERT names the file of its authority.
	SSLMode string

	// URL, if set, stands for all of the above: postgres://user:password@host/database
	// or "host=... user=...", with any of the settings that libpq knows.
	URL string

	// MaxOpenConns bounds the connections, 2 to 1000; 16 if 0. All nodes together must
	// stay below the server's max_connections.
	MaxOpenConns int
	// MaxIdleConns is how many of them are kept while nobody uses them; all if 0.
	MaxIdleConns int
	// ConnectTimeout bounds how long one connection may take to be made; 5 s if 0.
	ConnectTimeout time.Duration
	// Warn, if set, is told what does not stop the store but should be known. It must
	// be quick, must not use the DB, and may be called concurrently.
	Warn func(text string, err error)
}

// DefaultConfig is a server on this host, with goverse as user, password and database.
func DefaultConfig() *Config {
	return &Config{
		Host: "localhost", Port: 5432, User: "goverse", Password: "goverse", Database: "goverse", SSLMode: "disable",
		MaxOpenConns: 16, MaxIdleConns: 16, ConnectTimeout: 5 * time.Second,
	}
}

func (c Config) withDefaults() Config {
	d := DefaultConfig()
	c.Host = cmp.Or(c.Host, d.Host)
	c.Port = cmp.Or(c.Port, d.Port)
	c.User = cmp.Or(c.User, d.User)
	c.Database = cmp.Or(c.Database, d.Database)
	c.SSLMode = cmp.Or(c.SSLMode, d.SSLMode)
	c.MaxOpenConns = cmp.Or(c.MaxOpenConns, d.MaxOpenConns)
	c.MaxIdleConns = cmp.Or(c.MaxIdleConns, c.MaxOpenConns)
	c.ConnectTimeout = cmp.Or(c.ConnectTimeout, d.ConnectTimeout)
	if c.Warn == nil {
		c.Warn = func(string, error) {}
	}
	return c
}

var sslModes = []string{"disable", "allow", "prefer", "require", "verify-ca", "verify-full"}

// Validate says everything that is wrong with c. It does not connect.
func (c Config) Validate() error {
	c = c.withDefaults()
	var errs []error
	wrong := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	for name, s := range map[string]string{"host": c.Host, "user": c.User, "password": c.Password, "database": c.Database, "URL": c.URL} {
		if strings.ContainsRune(s, 0) {
			wrong("the %s has a NUL character", name)
		}
	}
	if c.Port < 1 || c.Port > 65535 {
		wrong("port %d: want 1 to 65535", c.Port)
	}
	if !slices.Contains(sslModes, c.SSLMode) {
		wrong("SSLMode %q: want one of %s", c.SSLMode, strings.Join(sslModes, ", "))
	}
	if c.MaxOpenConns < 2 || c.MaxOpenConns > 1000 {
		wrong("%d MaxOpenConns: want 2 to 1000", c.MaxOpenConns)
	}
	if c.MaxIdleConns < 1 || c.MaxIdleConns > c.MaxOpenConns {
		wrong("%d MaxIdleConns: want 1 to MaxOpenConns, which is %d", c.MaxIdleConns, c.MaxOpenConns)
	}
	if c.ConnectTimeout < 0 || c.ConnectTimeout > time.Hour {
		wrong("a ConnectTimeout of %v: want 0 to 1h", c.ConnectTimeout)
	}
	if len(errs) == 0 {
		if _, err := pgxpool.ParseConfig(c.connString()); err != nil {
			wrong("%w", err) // it hides the password
		}
	}
	if len(errs) > 0 {
		return fmt.Errorf("postgres config: %w", errors.Join(errs...))
	}
	return nil
}

// connString is c as libpq writes it.
func (c Config) connString() string {
	if c.URL != "" {
		return c.URL
	}
	q := url.Values{"host": {c.Host}, "port": {strconv.Itoa(c.Port)}, "sslmode": {c.SSLMode}}
	u := url.URL{Scheme: "postgres", User: url.User(c.User), Path: "/" + c.Database, RawQuery: q.Encode()}
	if c.Password != "" {
		u.User = url.UserPassword(c.User, c.Password)
	}
	return u.String()
}

// pool is c for the driver's pool. It does not connect.
func (c Config) pool() (*pgxpool.Config, error) {
	p, err := pgxpool.ParseConfig(c.connString())
	if err != nil {
		return nil, err
	}
	p.MaxConns = int32(c.MaxOpenConns)
	p.ConnConfig.ConnectTimeout = c.ConnectTimeout
	p.PingTimeout = c.ConnectTimeout
	if p.ConnConfig.RuntimeParams["application_name"] == "" {
		p.ConnConfig.RuntimeParams["application_name"] = "goverse"
	}
	return p, nil
}
