package bank

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/xiaonanln/goverse/goverseapi"
	"github.com/xiaonanln/goverse/goversetest"
	"github.com/xiaonanln/goverse/object"
	"github.com/xiaonanln/goverse/object/memstore"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	accounts = 8
	each     = 1000 // of money to begin with
	clients  = 6
	sum      = accounts * each
)

var cluster = goversetest.Cluster{Nodes: 3, Gates: 2, Types: []goversetest.Type{
	goversetest.Of((*Account)(nil), goverseapi.ReadOnlyMethods("Look")),
}}

func name(i int) string { return "account-" + strconv.Itoa(i) }

// order is one transfer and what its client knows of it.
type order struct {
	id, from, to, method string
	amount               int64
	done                 bool // it succeeded; else it failed, or was settled before it ran
}

// bank is the world with what its clients did.
type bank struct {
	*goversetest.World
	pace int // milliseconds between a client's orders, at most

	mu     sync.Mutex
	orders []order
}

func open(w *goversetest.World) *bank {
	b := &bank{World: w, pace: 800}
	for i := range accounts {
		w.Call("Account/"+name(i), "Deposit", Transfer("open", name(i), each))
	}
	return b
}

// work makes orders until stop, and brings each to its end under its one id, however
// often it has to ask.
func (b *bank) work(seed uint64, gate string, stop <-chan struct{}) {
	random := rand.New(rand.NewPCG(seed, 1))
	client := b.Connect(gate)
	for {
		select {
		case <-stop:
			return
		default:
		}
		o := order{id: goverseapi.GenerateCallID(), method: []string{"Pay", "Remit"}[random.IntN(2)], amount: 1 + random.Int64N(50)}
		from := random.IntN(accounts)
		o.from, o.to = name(from), name((from+1+random.IntN(accounts-1))%accounts)
		o.done = b.order(client, o)
		b.mu.Lock()
		b.orders = append(b.orders, o)
		b.mu.Unlock()
		time.Sleep(time.Duration(random.IntN(b.pace)) * time.Millisecond)
	}
}

func (b *bank) order(client *goversetest.Client, o order) (done bool) {
	for deadline := time.Now().Add(5 * time.Minute); ; {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		_, err := client.TryCallOnce(ctx, o.id, "Account/"+o.from, o.method, Transfer(o.id, o.to, o.amount))
		cancel()
		switch {
		case err == nil:
			return true
		case errors.Is(err, goverseapi.ErrFailed):
			return false
		case time.Now().After(deadline):
			b.T.Errorf("order %+v has no end: %v", o, err)
			return false
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// audit compares the accounts with the orders.
func (b *bank) audit() {
	b.T.Helper()
	total, applied := int64(0), map[string]map[string]int64{}
	for i := range accounts {
		s := b.Call("Account/"+name(i), "Look", &structpb.Struct{}).(*structpb.Struct)
		total += int64(s.Fields["balance"].GetNumberValue())
		for id, n := range s.Fields["applied"].GetStructValue().GetFields() {
			if applied[id] == nil {
				applied[id] = map[string]int64{}
			}
			applied[id][name(i)] = int64(n.GetNumberValue())
		}
	}
	if total != sum {
		b.T.Errorf("there is %d of %d", total, sum)
	}
	succeeded := 0
	for _, o := range b.orders {
		got, want := fmt.Sprint(applied[o.id]), "map[]"
		if o.done {
			succeeded++
			want = fmt.Sprint(map[string]int64{o.from: 1, o.to: 1})
		}
		if got != want {
			b.T.Errorf("order %+v was applied %s; want %s", o, got, want)
		}
	}
	b.T.Logf("%d orders, %d succeeded", len(b.orders), succeeded)
	if succeeded < len(b.orders)/2 {
		b.T.Errorf("only %d of %d orders succeeded", succeeded, len(b.orders))
	}
}

// total is all the money that has arrived.
func (b *bank) total() (total int64) {
	for i := range accounts {
		s := b.Call("Account/"+name(i), "Look", &structpb.Struct{}).(*structpb.Struct)
		total += int64(s.Fields["balance"].GetNumberValue())
	}
	return total
}

// settle waits until everything that was sent has arrived.
func (b *bank) settle() {
	b.T.Helper()
	b.Settle()
	for deadline := time.Now().Add(5 * time.Minute); ; time.Sleep(100 * time.Millisecond) {
		left := 0
		for shard := range 32 {
			list, err := b.Store().PendingEffects(b.T.Context(), shard, object.EffectKey{}, 100)
			if err != nil {
				b.T.Fatal(err)
			}
			left += len(list)
		}
		switch {
		case left == 0:
			return
		case time.Now().After(deadline):
			b.T.Fatalf("%d effects have not left", left)
		}
	}
}

// trouble is what may happen to the cluster; undone by Heal.
var trouble = map[string]func(b *bank, random *rand.Rand){
	"calm":    func(*bank, *rand.Rand) {},
	"kill":    func(b *bank, random *rand.Rand) { b.Kill(b.Nodes()[random.IntN(3)]) },
	"restart": func(b *bank, random *rand.Rand) { b.Restart(b.Nodes()[random.IntN(3)]) },
	"partition": func(b *bank, random *rand.Rand) {
		i := random.IntN(3)
		b.Partition(b.Nodes()[i], b.Nodes()[(i+1)%3])
	},
	"lost answers":  func(b *bank, random *rand.Rand) { b.LoseAnswers(b.Nodes()[random.IntN(3)], 5) },
	"cut from etcd": func(b *bank, random *rand.Rand) { b.CutFromEtcd(b.Nodes()[random.IntN(3)]) },
	"slow net":      func(b *bank, random *rand.Rand) { b.Delay(20 * time.Millisecond) },
	"pause":         func(b *bank, random *rand.Rand) { b.Pause(b.Nodes()[random.IntN(3)]) },
	"a store that loses answers": func(b *bank, random *rand.Rand) {
		b.Store().Fail(func(op memstore.Op) memstore.Fault {
			switch rand.IntN(10) {
			case 0:
				return memstore.Fault{Err: errors.New("lost"), Applied: true}
			case 1:
				return memstore.Fault{Err: errors.New("late"), Held: op.Kind == memstore.Commit}
			}
			return memstore.Fault{}
		})
	},
}

// Money neither comes nor goes, and each order is applied once or not at all, whatever
// becomes of nodes, roads and answers.
func TestBank(t *testing.T) {
	for name, harm := range trouble {
		t.Run(name, func(t *testing.T) {
			for seed := range runs(t) {
				goversetest.Sim(t, cluster, func(w *goversetest.World) {
					b, random, stop := open(w), rand.New(rand.NewPCG(seed, 2)), make(chan struct{})
					var working sync.WaitGroup
					for i := range clients {
						working.Go(func() { b.work(seed*100+uint64(i), w.Gates()[i%2], stop) })
					}
					for range 3 {
						w.Advance(time.Duration(200+random.IntN(400)) * time.Millisecond)
						harm(b, random)
						w.Advance(time.Duration(random.IntN(15000)) * time.Millisecond)
						b.Store().Fail(nil)
						w.Heal()
						b.Store().Land()
					}
					close(stop)
					working.Wait()
					b.settle()
					b.audit()
				})
			}
		})
	}
}

// The same with real connections and SQLite on disk, while nodes are stopped and started.
func TestBankOnDisk(t *testing.T) {
	goversetest.Net(t, cluster, func(w *goversetest.World) {
		b, stop := open(w), make(chan struct{})
		b.pace = 20
		var working sync.WaitGroup
		for i := range clients {
			working.Go(func() { b.work(uint64(i), w.Gates()[i%2], stop) })
		}
		w.Restart()
		close(stop)
		working.Wait()
		for deadline := time.Now().Add(30 * time.Second); b.total() != sum && time.Now().Before(deadline); {
			time.Sleep(10 * time.Millisecond) // what was sent is on its way
		}
		b.audit()
	})
}

// runs is how many worlds each trouble gets: one, or GOVERSE_BANK.
func runs(t *testing.T) uint64 {
	text := os.Getenv("GOVERSE_BANK")
	if text == "" {
		return 1
	}
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		t.Fatal(err)
	}
	return n
}
