package embedded

import (
	"context"
	"testing"
	"time"
	"github.com/xiaonanln/goverse/cluster/etcdmanager"
)

func TestX(t *testing.T) {
	dir := t.TempDir()
	for range 3 {
	t0 := time.Now()
	s, err := Start(context.Background(), Config{Dir: dir})
	if err != nil { t.Fatal(err) }
	t1 := time.Now()
	c, err := etcdmanager.Dial(etcdmanager.Config{Endpoints: []string{s.Endpoint()}})
	if err != nil { t.Fatal(err) }
	t2 := time.Now()
	r, err := c.Commit(context.Background(), etcdmanager.Txn{Then: []etcdmanager.Op{etcdmanager.Put("a", nil, 0)}})
	if err != nil { t.Fatal(err) }
	t3 := time.Now()
	t.Log(s.Endpoint(), s.Fresh(), r, t1.Sub(t0), t2.Sub(t1), t3.Sub(t2))
	ctx, cancel := context.WithCancel(context.Background())
	ch := c.Watch(ctx, "", 1)
	<-ch
	t4 := time.Now()
	s.Close()
	t.Log("close", time.Since(t4))
	cancel()
	c.Close()
	}
}
