//go:build unix

package bank

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/xiaonanln/goverse/client/goverseclient"
	"github.com/xiaonanln/goverse/goverseapi"
	goverse_pb "github.com/xiaonanln/goverse/proto"
)

var (
	lasts = flag.Duration("bank.for", 10*time.Second, "how long TestProcesses has trouble; from 1m on nodes die at every boundary on either store")
	luck  = flag.Uint64("bank.seed", 0, "what the chances of TestProcesses are made of; 0 = a new one")
)

// workers are many: each waits while what it asks for is nowhere.
const workers = 60

// lease is how long the cluster waits for a node that says nothing.
const lease = 5 * time.Second

// Three processes move money while they die at every boundary between two steps, are
// killed and paused for longer than their lease, and while PostgreSQL crashes and cuts
// them off. Then the sum is what it was, each order was applied once or not at all as its
// client was told, the program's own table says the same, each save that the store had
// acknowledged is there, and each version is one save.
//
// A short run has half of the boundaries on each store, and its seed says which.
func TestProcesses(t *testing.T) {
	if testing.Short() {
		t.Skip("builds and runs real processes: not with -short")
	}
	t.Parallel()
	dir := t.TempDir()
	for program, folder := range map[string]string{"node": "./node", "gate": "../../cmd/gate"} {
		if out, err := exec.Command("go", "build", "-o", filepath.Join(dir, program), folder).CombinedOutput(); err != nil {
			t.Fatalf("go build %s: %v\n%s", folder, err, out)
		}
	}
	seed := *luck
	if seed == 0 {
		seed = rand.Uint64()
	}
	for i, name := range []string{"SQLite", "PostgreSQL"} {
		open := []func(*testing.T) *vault{sqliteVault, postgresVault}[i]
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			t.Logf("seed: -bank.seed=%d", seed)
			o := openOffice(t, openBranch(t, dir, open(t), seed, share(seed+uint64(i))))
			began := time.Now()
			o.begin(seed)
			o.trouble()
			o.end()
			t.Logf("%d orders in %v; nodes died at boundaries %v, and were killed %d times; then all was settled after %v",
				len(o.orders), time.Since(began).Round(time.Second), o.met, o.killed, o.settle().Round(time.Millisecond))
			o.askAgain()
			o.audit()
		})
	}
}

// share is the boundaries of a store.
func share(n uint64) (list []Boundary) {
	for i, at := range Boundaries {
		if *lasts >= time.Minute || uint64(i)%2 == n%2 {
			list = append(list, at)
		}
	}
	return list
}

// office is a branch with its clients.
type office struct {
	*branch
	accounts int
	clients  []*goverseclient.Client
	stop     chan struct{}
	working  sync.WaitGroup

	mu     sync.Mutex // protects following field
	orders []*booked
}

// booked is an order with what its client was told.
type booked struct {
	order
	object string // that was asked, "Account/..." or "Clerk/..."
	book   bool   // also into the program's own table
	asked  int
	reply  proto.Message
	failed string
}

func (o *booked) call(ctx context.Context, c *goverseclient.Client) (proto.Message, goverse_pb.ReliableCallStatus, error) {
	request := Order(o.id, o.from, o.to, o.amount)
	request.Fields["book"] = structpb.NewBoolValue(o.book)
	typ, id, _ := strings.Cut(o.object, "/")
	return c.ReliableCallObject(ctx, o.id, typ, id, o.method, request)
}

// openOffice gives each account its money. There are more accounts for a long run: an
// account's state has all that was done to it.
func openOffice(t *testing.T, b *branch) *office {
	t.Helper()
	o := &office{branch: b, accounts: min(256, 16+16*int(*lasts/(30*time.Second))), stop: make(chan struct{})}
	for range 2 {
		c, err := goverseclient.NewClient(b.gates)
		if err != nil {
			t.Fatal(err)
		}
		o.clients = append(o.clients, c)
		t.Cleanup(func() { c.Close() })
		for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) { // gates are starting
			err := c.Connect(t.Context())
			if err == nil {
				break
			}
			if time.Now().After(deadline) {
				t.Fatal(err)
			}
		}
	}
	var opening sync.WaitGroup
	for i := range o.accounts {
		opening.Go(func() {
			gift := &booked{order: order{id: goverseapi.GenerateCallID(), method: "Deposit", from: name(i), to: name(i), amount: each}, object: "Account/" + name(i)}
			o.bring(o.clients[i%2], gift)
			if !gift.done {
				t.Errorf("%s was not opened: %s", name(i), gift.failed)
			}
		})
	}
	opening.Wait()
	if t.Failed() {
		t.FailNow()
	}
	return o
}

func (o *office) begin(seed uint64) {
	for i := range workers {
		o.working.Go(func() { o.work(rand.New(rand.NewPCG(seed, uint64(100+i))), o.clients[i%2]) })
	}
}

// work makes orders until it is stopped, and brings each to its end.
func (o *office) work(random *rand.Rand, c *goverseclient.Client) {
	for {
		select {
		case <-o.stop:
			return
		case <-time.After(time.Duration(random.IntN(300)) * time.Millisecond): // people do not order all at once
		}
		from := random.IntN(o.accounts)
		b := &booked{book: random.IntN(2) == 0, order: order{
			id: goverseapi.GenerateCallID(), method: []string{"Pay", "Remit", "Carry"}[random.IntN(3)], amount: 1 + random.Int64N(300),
			from: name(from), to: name((from + 1 + random.IntN(o.accounts-1)) % o.accounts),
		}}
		if b.object = "Account/" + b.from; b.method == "Carry" {
			b.object = "Clerk/clerk-" + strconv.Itoa(random.IntN(o.accounts))
		}
		o.bring(c, b)
		o.mu.Lock()
		o.orders = append(o.orders, b)
		o.mu.Unlock()
	}
}

// bring asks under the order's one id until there is an answer.
func (o *office) bring(c *goverseclient.Client, b *booked) {
	for deadline := time.Now().Add(2 * time.Minute); ; {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		reply, status, err := b.call(ctx, c)
		cancel()
		b.asked++
		switch {
		case status == goverse_pb.ReliableCallStatus_SUCCESS && err == nil:
			b.done, b.reply = true, reply
			return
		case status == goverse_pb.ReliableCallStatus_FAILED:
			b.failed = err.Error()
			return
		case time.Now().After(deadline):
			o.t.Errorf("order %+v has no end: %v, %v", b.order, status, err)
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// trouble goes on for its time, and until every boundary was met. In each round all goes
// well for a while, and then most of the nodes die at once, or are paused.
func (o *office) trouble() {
	began := time.Now()
	for round := 0; time.Since(began) < *lasts || len(o.missing()) > 0; round++ {
		if time.Since(began) > 2*(*lasts)+time.Minute {
			o.t.Errorf("no node died %q", o.missing())
			return
		}
		nodes := o.flow()
		if harm := o.vault.harm; len(harm) > 0 {
			if err := harm[round%len(harm)](); err != nil {
				o.t.Error(err)
			}
			nodes = o.flow()
		}
		if nodes == nil {
			return
		}
		var done sync.WaitGroup
		switch round % 4 {
		case 0: // one is paused, the others die
			paused := nodes[0]
			done.Go(func() { pause(paused) })
			nodes = nodes[1:]
		case 1: // one dies just anywhere
			nodes[0].signal(syscall.SIGKILL)
			nodes = nodes[1:]
		case 3: // one lives
			nodes = nodes[1:]
		}
		for _, l := range nodes {
			l.signal(syscall.SIGUSR1)
		}
		for deadline := time.Now().Add(2 * time.Second); slices.ContainsFunc(nodes, func(l *life) bool { return l.alive() }) && time.Now().Before(deadline); {
			time.Sleep(10 * time.Millisecond) // some get there only when others are back
		}
		done.Wait()
	}
}

// pause stops a node until somebody else has its shards.
func pause(l *life) {
	l.signal(syscall.SIGSTOP)
	time.Sleep(lease + time.Second) // the fault itself
	l.signal(syscall.SIGCONT)
}

// flow waits until all nodes serve and orders are carried out.
func (o *office) flow() []*life {
	o.t.Helper()
	count := func() int {
		o.mu.Lock()
		defer o.mu.Unlock()
		return len(o.orders)
	}
	before := -1
	for began := time.Now(); time.Since(began) < time.Minute; time.Sleep(20 * time.Millisecond) {
		switch nodes := o.whole(); {
		case nodes == nil:
			before = -1
		case before < 0:
			before = count()
		case count() >= before+60:
			return nodes
		}
	}
	o.t.Errorf("nothing is done any more")
	return nil
}

// end has no more trouble, and waits for the clients.
func (o *office) end() {
	close(o.stop)
	o.working.Wait()
}

// settle waits until everything that was sent has arrived, and returns how long it took.
func (o *office) settle() time.Duration {
	o.t.Helper()
	for began := time.Now(); ; time.Sleep(50 * time.Millisecond) {
		left := o.vault.number(o.t, `SELECT count(*) FROM goverse_outbox`)
		switch {
		case left == 0:
			return time.Since(began)
		case time.Since(began) > time.Minute:
			o.t.Fatalf("%d one-way calls have not left", left)
		}
	}
}

// askAgain makes calls again that have an answer: they have the same.
func (o *office) askAgain() {
	o.t.Helper()
	for _, b := range o.orders[max(0, len(o.orders)-200):] {
		again := &booked{order: order{id: b.id, method: b.method, from: b.from, to: b.to, amount: b.amount}, object: b.object, book: b.book}
		o.bring(o.clients[0], again)
		if again.done != b.done || again.failed != b.failed || !proto.Equal(again.reply, b.reply) {
			o.t.Errorf("order %+v was answered %v %q, and then %v %q", b.order, b.reply, b.failed, again.reply, again.failed)
		}
	}
}

func (o *office) readAcks() []byte {
	text, err := os.ReadFile(o.acks)
	if err != nil {
		o.t.Fatal(err)
	}
	return text
}

// String names what was ordered.
func (b *booked) String() string {
	return fmt.Sprintf("%s of %d from %s to %s by %s (%s), asked %d times", b.method, b.amount, b.from, b.to, b.object, b.id, b.asked)
}
