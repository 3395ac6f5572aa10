package inspector

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"go.uber.org/goleak"

	"github.com/xiaonanln/goverse/cluster/etcdmanager/memkv"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const twoNodes = `put meta {"cluster":"c1","boot":"b1","store":"s1","shards":2}
put formed {"nodes":2}
put leader {"node":"a:1","reg":"a1"}
put nodes/a:1 {"reg":"a1","state":"ready"}
put reg/a1 a:1
put nodes/b:1 {"reg":"b1","state":"ready"}
put reg/b1 b:1
put shards/0000 {"e":1,"c":"a:1","ci":"a1","t":"a:1","h":"","n":"00000001"}
put shards/0001 {"e":1,"c":"b:1","ci":"b1","t":"b:1","h":"","n":"00000001"}`

// start runs an inspector on a cluster of two nodes until the test ends.
func start(t *testing.T, store *memkv.Store, token string) (url string) {
	t.Helper()
	return startWith(t, store, Config{Token: token})
}

// startWith is start with more of the configuration.
func startWith(t *testing.T, store *memkv.Store, cfg Config) (url string) {
	t.Helper()
	url, _ = startInspector(t, store, cfg)
	return url
}

func startInspector(t *testing.T, store *memkv.Store, cfg Config) (url string, i *Inspector) {
	t.Helper()
	kv, token := store.Connect(), cfg.Token
	cfg.ListenAddress, cfg.KV = "127.0.0.1:0", kv
	i, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	address, ended := make(chan string, 1), make(chan error, 1)
	go func() { ended <- i.Run(ctx, func(a string) { address <- a }) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		kv.Close()
		store.Close()
		http.DefaultClient.CloseIdleConnections()
	})
	url = "http://" + <-address
	for seen := ""; !strings.Contains(seen, `"scene":{`); { // it has read etcd
		_, seen = fetch(t, "GET", url+"/api/v1/snapshot", "", "Authorization", "Bearer "+token)
	}
	return url, i
}

func fetch(t *testing.T, method, url, body string, headers ...string) (status int, answer string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		if headers[i] == "Host" {
			r.Host = headers[i+1]
		}
		r.Header.Set(headers[i], headers[i+1])
	}
	reply, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer reply.Body.Close()
	b, err := io.ReadAll(reply.Body)
	if err != nil {
		t.Fatal(err)
	}
	return reply.StatusCode, string(b)
}

func TestAnswers(t *testing.T) {
	store := memkv.NewStore()
	put(t, store, twoNodes)
	url := start(t, store, "")
	for _, c := range []struct {
		method, path, body string
		headers            []string
		status             int
		says               string
	}{
		{"GET", "/", "", nil, 200, "<title>Goverse inspector</title>"},
		{"GET", "/app.js", "", nil, 200, "import"},
		{"GET", "/nothing", "", nil, 404, ""},
		{"GET", "/healthz", "", nil, 200, "true"},
		{"GET", "/api/v1/snapshot", "", nil, 200, `"names":["a:1","b:1"]`},
		{"GET", "/api/v1/shards?at=1", "", nil, 200, `"names":["a:1","b:1"],"shards":[[1,0,0,"held"],[1,1,1,"held"]]`},
		{"GET", "/api/v1/shards", "", nil, 400, "unix milliseconds"},
		{"GET", "/api/v1/explain/shard/1", "", nil, 200, "b:1 holds it"},
		{"GET", "/api/v1/explain/shard/2", "", nil, 404, "0 to 1"},
		{"GET", "/api/v1/explain/shard/x", "", nil, 404, "0 to 1"},
		{"GET", "/api/v1/explain/object/Room/a/b", "", nil, 200, "object Room/a/b"},
		{"GET", "/api/v1/explain/object/Room/%00", "", nil, 404, "Room/"},
		{"GET", "/api/v1/explain/node/a:1", "", nil, 200, "It is well"},
		{"GET", "/api/v1/explain/node/z:9", "", nil, 200, "No node is registered as z:9, and no shard names it"},
		{"POST", "/api/v1/nodes/z:9/drain", "{}", nil, 404, "z:9"},
		{"POST", "/api/v1/nodes/a:1/drain", "{", nil, 400, "the body is not"},
		{"POST", "/api/v1/nodes/a:1/drain", `{"undue":true}`, nil, 400, "undue"},
		{"PUT", "/api/v1/nodes/a:1/drain", "{}", nil, 405, ""},
		{"GET", "/api/v1/snapshot", "", []string{"Origin", "http://evil.example"}, 403, "another origin"},
		{"GET", "/api/v1/feed", "", []string{"Sec-Fetch-Site", "cross-site"}, 403, "another origin"},
		{"POST", "/api/v1/nodes/a:1/drain", "{}", []string{"Origin", "http://evil.example"}, 403, "another origin"},
		{"GET", "/", "", []string{"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "document"}, 200, "inspector"},
		{"GET", "/", "", []string{"Host", "evil.example"}, 403, "Host header"},
		{"GET", "/", "", []string{"Host", "localhost:8080"}, 200, "inspector"},
	} {
		if status, answer := fetch(t, c.method, url+c.path, c.body, c.headers...); status != c.status || !strings.Contains(answer, c.says) {
			t.Errorf("%s %s %v: %d %s, want %d and %q", c.method, c.path, c.headers, status, answer, c.status, c.says)
		}
	}
}

// A token lets in who has it, by header, by cookie, and by the address once.
func TestToken(t *testing.T) {
	const token = "correct horse battery"
	store := memkv.NewStore()
	put(t, store, twoNodes)
	url := start(t, store, token)
	for _, c := range []struct {
		path, header, value string
		status              int
	}{
		{"/", "X", "y", 401},
		{"/api/v1/snapshot", "X", "y", 401},
		{"/api/v1/feed", "Authorization", "Bearer wrong horse battery", 401},
		{"/", "Authorization", "Bearer " + token, 200},
		{"/", "Cookie", cookie + "=correct horse battery", 200},
		{"/", "Cookie", cookie + "=wrong", 401},
		{"/?token=wrong", "X", "y", 401},
		{"/?token=correct+horse+battery", "X", "y", 200},
	} {
		if status, answer := fetch(t, "GET", url+c.path, "", c.header, c.value); status != c.status {
			t.Errorf("%s %s: %d %s, want %d", c.path, c.value, status, answer, c.status)
		}
	}
}

// Metrics are for those whom the page is shown, if there are any.
func TestMetrics(t *testing.T) {
	const token = "correct horse battery"
	store := memkv.NewStore()
	put(t, store, twoNodes)
	url := startWith(t, store, Config{Token: token, Metrics: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "counted") })})
	if status, answer := fetch(t, "GET", url+"/metrics", "", "Authorization", "Bearer "+token); status != 200 || answer != "counted" {
		t.Error(status, answer)
	}
	if status, answer := fetch(t, "GET", url+"/metrics", ""); status != 401 {
		t.Error(status, answer)
	}
	bare := memkv.NewStore()
	put(t, bare, twoNodes)
	if status, answer := fetch(t, "GET", start(t, bare, "")+"/metrics", ""); status != 404 {
		t.Error(status, answer)
	}
}

func TestConfig(t *testing.T) {
	store := memkv.NewStore()
	defer store.Close()
	kv := store.Connect()
	defer kv.Close()
	for says, c := range map[string]Config{
		"":                            {KV: kv},
		"give host:port":              {KV: kv, ListenAddress: "8080"},
		"listen on loopback, or set":  {KV: kv, ListenAddress: ":8080"},
		"at least 16":                 {KV: kv, Token: "short"},
		"needs the cluster's etcd":    {},
		"to whoever reaches that por": {KV: kv, ListenAddress: "0.0.0.0:1"},
	} {
		if _, err := New(c); (err != nil) != (says != "") || err != nil && !strings.Contains(err.Error(), says) {
			t.Errorf("%q: %v", says, err)
		}
	}
}

// What happens is seen by those who look, over both kinds of connection, and an order is
// carried out and told.
func TestLive(t *testing.T) {
	store := memkv.NewStore()
	put(t, store, twoNodes)
	url := start(t, store, "")
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()

	conn, _, err := websocket.Dial(ctx, strings.Replace(url, "http", "ws", 1)+"/api/v1/feed", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.CloseNow()
	conn.SetReadLimit(1 << 20)
	bySocket := func() (string, error) {
		_, b, err := conn.Read(ctx)
		return string(b), err
	}
	r, _ := http.NewRequestWithContext(ctx, "GET", url+"/api/v1/feed/events", nil)
	reply, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer reply.Body.Close()
	lines := bufio.NewReader(reply.Body)
	byEvents := func() (string, error) { return lines.ReadString('\n') }

	until := func(all ...string) { // in one frame
		t.Helper()
		for name, next := range map[string]func() (string, error){"socket": bySocket, "events": byEvents} {
			for frame := ""; slices.ContainsFunc(all, func(want string) bool { return !strings.Contains(frame, want) }); {
				if frame, err = next(); err != nil {
					t.Fatalf("%s: %q did not come: %v", name, all, err)
				}
			}
		}
	}
	until(`"op":"snapshot"`)
	put(t, store, "put nodes/c:1 {\"reg\":\"c1\",\"state\":\"ready\"}\nput reg/c1 c:1")
	until("c:1 joined")
	status, answer := fetch(t, "POST", url+"/api/v1/nodes/c:1/drain", `{"undo":false}`)
	var told struct {
		Changed      bool
		Held, Target int
	}
	if err := json.Unmarshal([]byte(answer), &told); status != 200 || err != nil || !told.Changed || told.Held != 0 {
		t.Fatal(status, answer, err)
	}
	until("an operator ordered: drain c:1", "c:1 is draining")
	if status, answer := fetch(t, "POST", url+"/api/v1/nodes/c:1/drain", `{"undo":true}`); status != 200 {
		t.Fatal(status, answer)
	}
	until("took the order to drain back")
	put(t, store, "del nodes/b:1\ndel reg/b1\ndel nodes/c:1\ndel reg/c1")
	until("b:1 is gone")
	if status, answer := fetch(t, "POST", url+"/api/v1/nodes/a:1/drain", `{}`); status != 409 || !strings.Contains(answer, "last ready node") {
		t.Error(status, answer)
	}
	until("was not carried out")
}

// An etcd that does not answer is said so, and its return ends it.
func TestStale(t *testing.T) {
	f := NewFeed("life")
	f.Show(&Scene{Shards: make([]Shard, 1)})
	f.Stale("etcd does not answer")
	f.Stale("etcd does not answer")
	if frames, next, _ := f.After(Place{"life", 1}); len(frames) != 1 || next.Number != 2 || !strings.Contains(string(frames[0]), `"stale":"etcd does not answer"`) {
		t.Error(fmt.Sprintf("%s", frames), next)
	}
	f.Show(&Scene{Shards: make([]Shard, 1)})
	if s := string(f.Snapshot()); strings.Contains(s, "stale") {
		t.Error(s)
	}
}
