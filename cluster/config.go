package cluster

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/xiaonanln/goverse/cluster/consensusmanager"
	"github.com/xiaonanln/goverse/cluster/etcdmanager"
	"github.com/xiaonanln/goverse/internal/callctx"
	"github.com/xiaonanln/goverse/internal/event"
	"github.com/xiaonanln/goverse/internal/peer"
)

// Defaults of Config, beside those of consensusmanager.Config.
const (
	DefaultCallTimeout = 30 * time.Second
	DefaultDrainBudget = 25 * time.Second
)

// Config says who this process is, which cluster it belongs to and how it reaches
// the others. Zero values mean the defaults. Fields that consensusmanager.Config
// also has are explained there.
type Config struct {
	Address string // advertised host:port
	Gate    bool   // hosts no objects; Run then takes no Host
	HTTP    string // where a gate's clients reach it over HTTP; the others hear of it

	KVs    []etcdmanager.KV // the first for watch and transactions, each for renewals
	Prefix string
	Dialer peer.Dialer

	NumShards    int
	StoreID      string
	StoreCluster string
	BindStore    func(ctx context.Context, cluster string) (string, error)
	Types        []string
	Version      string

	MinQuorum      int
	QuorumLoss     consensusmanager.QuorumLoss
	StabilityDelay time.Duration
	ReloadInterval time.Duration
	FreshCluster   bool

	LeaseTTL      time.Duration
	JoinTimeout   time.Duration
	PreviousLease etcdmanager.LeaseID
	RecordLease   func(etcdmanager.LeaseID) error

	// CallTimeout is the deadline of a call whose context has none: 30 s by default.
	CallTimeout time.Duration
	// DrainBudget bounds how long leaving may take while calls still run: 25 s by
	// default. Whatever runs then keeps its shard until the lease ends.
	DrainBudget time.Duration

	// DegradedMode: the host serves durable objects on while etcd is silent for longer
	// than the lease may last.
	DegradedMode bool

	Listener event.Listener
	Tracer   callctx.Tracer // nil: calls are not traced
}

func (c Config) withDefaults() Config {
	if c.CallTimeout == 0 {
		c.CallTimeout = DefaultCallTimeout
	}
	if c.DrainBudget == 0 {
		c.DrainBudget = DefaultDrainBudget
	}
	return c
}

// Validate says, joined, all that is wrong with c.
func (c Config) Validate() error {
	problems := []error{c.membership().Validate()}
	if c.Dialer == nil {
		problems = append(problems, errors.New("no way to other processes is given: set Dialer"))
	}
	if c.CallTimeout < 0 || c.DrainBudget < 0 {
		problems = append(problems, fmt.Errorf("a call timeout of %v or a drain budget of %v is not possible", c.CallTimeout, c.DrainBudget))
	}
	return errors.Join(problems...)
}

func (c Config) membership() consensusmanager.Config {
	return consensusmanager.Config{
		KVs: c.KVs, Prefix: c.Prefix, Address: c.Address, Gate: c.Gate, HTTP: c.HTTP, Types: c.Types, Version: c.Version,
		NumShards: c.NumShards, StoreID: c.StoreID, StoreCluster: c.StoreCluster, BindStore: c.BindStore,
		MinQuorum: c.MinQuorum, QuorumLoss: c.QuorumLoss, StabilityDelay: c.StabilityDelay, ReloadInterval: c.ReloadInterval, FreshCluster: c.FreshCluster,
		LeaseTTL: c.LeaseTTL, JoinTimeout: c.JoinTimeout, PreviousLease: c.PreviousLease, RecordLease: c.RecordLease,
		Listener: c.Listener,
	}
}
