package gateserver

import (
	"context"
	"encoding/json"
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/object"
)

// Counter is a type of the test's nodes.
type Counter struct{ object.BaseObject }

func (c *Counter) Add(_ context.Context, n *wrapperspb.Int64Value) (*wrapperspb.Int64Value, error) {
	return n, nil
}

func (c *Counter) Read(context.Context, *wrapperspb.BoolValue) (*wrapperspb.Int64Value, error) {
	return nil, nil
}

// withCounter is a cluster that has the type.
func withCounter(t *testing.T) *cluster {
	t.Helper()
	c := newCluster(echo)
	if err := c.types.Register((*Counter)(nil), object.ReadOnlyMethods("Read")); err != nil {
		t.Fatal(err)
	}
	return c
}

func TestOpenAPI(t *testing.T) {
	s := start(t, withCounter(t))
	r := request(t, s, http.MethodGet, openapiPath, "")
	var d struct {
		OpenAPI string
		Paths   map[string]map[string]any
	}
	if err := json.Unmarshal([]byte(r.body), &d); err != nil || r.status != http.StatusOK || d.OpenAPI != "3.1.0" {
		t.Fatalf("%d %v %q", r.status, err, r.body)
	}
	if p := d.Paths["/api/v1/objects/Counter/{id}/Add"]; p["post"] == nil || p["get"] != nil {
		t.Errorf("%v", p)
	}
	if p := d.Paths["/api/v1/objects/Counter/{id}/Read"]; p["post"] == nil || p["get"] == nil {
		t.Errorf("%v", p)
	}
	if r := request(t, s, http.MethodPost, openapiPath, ""); r.status != http.StatusMethodNotAllowed || r.header.Get("Allow") != "GET, HEAD" || r.failure(t).Code != "METHOD_NOT_ALLOWED" {
		t.Errorf("%+v", r)
	}
	if r := request(t, s, http.MethodGet, openapiPath, "", "Origin", "http://elsewhere.example", "Sec-Fetch-Site", "cross-site"); r.status != http.StatusForbidden {
		t.Errorf("to another origin's page: %d", r.status)
	}
}

// mute is a Router whose nodes say what the test has them say.
type mute struct {
	Router
	catalogs func(ctx context.Context) ([]object.Catalog, int, error)
}

func (m mute) Catalogs(ctx context.Context) ([]object.Catalog, int, error) { return m.catalogs(ctx) }

// The nodes are asked by one at a time, and not again for what was said just now.
func TestDescriberAsksOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked atomic.Int32
		d := newDescriber(mute{catalogs: func(ctx context.Context) ([]object.Catalog, int, error) {
			asked.Add(1)
			time.Sleep(time.Second)
			return nil, 0, nil
		}})
		first := make(chan error, 100)
		for range cap(first) {
			go func() { _, err := d.types(t.Context()); first <- err }()
		}
		for range cap(first) {
			if err := <-first; err != nil {
				t.Error(err)
			}
		}
		if n := asked.Load(); n != 1 {
			t.Errorf("%d askers for one answer", n)
		}
		time.Sleep(describedFor)
		if _, err := d.types(t.Context()); err != nil || asked.Load() != 2 {
			t.Errorf("later: %v, asked %d times", err, asked.Load())
		}
	})
}

func TestDescriberOfNodesThatDoNotSay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDescriber(mute{catalogs: func(ctx context.Context) ([]object.Catalog, int, error) {
			<-ctx.Done()
			return nil, 0, fault.Waited(ctx, "no answer")
		}})
		done := make(chan error, 1)
		go func() { _, err := d.types(t.Context()); done <- err }()
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := d.types(ctx); fault.KindOf(err) != fault.Deadline || fault.OutcomeOf(err) != fault.NotExecuted {
			t.Errorf("while another asks: %v", err)
		}
		if err := <-done; fault.KindOf(err) != fault.Deadline {
			t.Error(err)
		}
		d.router = mute{catalogs: func(context.Context) ([]object.Catalog, int, error) {
			return []object.Catalog{{Digest: "x", Files: []byte{0xff}}}, 0, nil
		}}
		if _, err := d.types(t.Context()); fault.KindOf(err) != fault.NotReady {
			t.Errorf("nonsense: %v", err)
		}
		if d.last.Load() != nil {
			t.Error("it is kept")
		}
	})
}
