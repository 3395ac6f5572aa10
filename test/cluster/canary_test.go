package cluster

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/golang-jwt/jwt/v5"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/xiaonanln/goverse/client/goverseclient"
	"github.com/xiaonanln/goverse/gate/auth"
	"github.com/xiaonanln/goverse/gate/gateserver"
	"github.com/xiaonanln/goverse/goverseapi"
	"github.com/xiaonanln/goverse/server"
	"github.com/xiaonanln/goverse/util/logger"
	"github.com/xiaonanln/goverse/util/sqlite"
)

// canary is in all that nobody but its owner may read: if it is found elsewhere, that
// leaks. It has digits alone, so that it can be a number too.
const canary = "4929117603828615"

// canaryAsText is every form in which it would be found.
var canaryAsText = func() []string {
	forms := []string{canary, hex.EncodeToString([]byte(canary))}
	for shift := range 3 { // base64 of it, wherever it stands in what is encoded
		code := base64.RawStdEncoding.EncodeToString([]byte(strings.Repeat(" ", shift) + canary + "  "))
		forms = append(forms, code[4:20])
	}
	return forms
}()

// told is all that a cluster says to others than the owner of the canary.
type told struct {
	mu   sync.Mutex
	text bytes.Buffer
}

// Write implements io.Writer, for logs.
func (o *told) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(b)
}

// finds is what stands around each of some secrets, once a line.
func (o *told) finds(secrets ...string) (all []string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for line := range strings.Lines(o.text.String()) {
		for _, s := range secrets {
			if at := strings.Index(line, s); at >= 0 {
				all = append(all, line[max(0, at-300):min(len(line), at+100)])
				break
			}
		}
	}
	return all
}

func (o *told) says(words string) bool { return len(o.finds(words)) > 0 }

// watched is the cluster, and what it tells.
type watched struct {
	*mail
	told
	spans spans
	ops   []string // the operations ports
	token string   // that proves who the owner is
	vault string   // an id
}

func openWatched(t *testing.T) *watched {
	w := &watched{spans: make(spans, 10_000)}
	lines := logger.New(slog.New(slog.NewJSONHandler(w, &slog.HandlerOptions{Level: slog.LevelDebug})))
	logger.UseText(w)
	logger.SetLevel(logger.LevelDebug)
	t.Cleanup(func() { logger.Use(nil) })
	p := sdktrace.NewTracerProvider(sdktrace.WithSampler(sdktrace.AlwaysSample()), sdktrace.WithSpanProcessor(w.spans))
	rules := []goverseapi.AccessRule{{Type: "Vault", Method: "Closed", Access: goverseapi.AccessReject}}
	var handler *auth.JWT
	handler, w.token = newTokens(t)
	w.mail = openMailAs(t, func(i int, c *server.ServerConfig) {
		c.Logger, c.TracerProvider, c.LogOperations, c.CopyMessages = lines, p, true, true
		c.MetricsListenAddress, c.ObjectAccessRules = freeAddress(t), rules
		w.ops = append(w.ops, c.MetricsListenAddress)
		if err := c.Types.Register((*Vault)(nil), goverseapi.ReadOnlyMethods("Look"), goverseapi.InternalMethods("Copy")); err != nil {
			t.Fatal(err)
		}
	}, func(c *gateserver.GateServerConfig) {
		c.Logger, c.TracerProvider, c.EventHandler, c.OpsListenAddress = lines, p, handler, "127.0.0.1:0"
	})
	w.ops = append(w.ops, w.gate.OpsAddr())
	next := w.clerkNamed(1, "vault")
	nextVault.Store(&next)
	w.vault = w.clerkNamed(0, "vault")
	return w
}

// freeAddress is one on which nobody listens.
func freeAddress(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// newTokens is a handler of JWTs, and a token that it takes and that has the canary.
func newTokens(t *testing.T) (*auth.JWT, string) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "keys.json")
	keys := fmt.Sprintf(`{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"k","x":%q}]}`, base64.RawURLEncoding.EncodeToString(public))
	if err := os.WriteFile(file, []byte(keys), 0o600); err != nil {
		t.Fatal(err)
	}
	handler, err := auth.NewJWT(auth.JWTConfig{Issuer: "i", Audience: "a", KeysFile: file, AllowAnonymous: true})
	if err != nil {
		t.Fatal(err)
	}
	token := jwt.NewWithClaims(jwt.SigningMethodEdDSA, jwt.MapClaims{"iss": "i", "aud": "a", "sub": "ann", "exp": time.Now().Add(time.Hour).Unix(), "card": canary})
	token.Header["kid"] = "k"
	text, err := token.SignedString(private)
	if err != nil {
		t.Fatal(err)
	}
	return handler, text
}

// An owner asks by each door for one method with one request, given in JSON, and is told
// what comes of it.
type owner struct {
	door string
	ask  func(ctx context.Context, method, request string) (answer string, err error)
}

func (w *watched) owners(s *socket) []owner {
	return []owner{
		{"HTTP", func(ctx context.Context, method, request string) (string, error) {
			return w.post(ctx, w.path(w.vault, method), request, "Authorization", "Bearer "+w.token)
		}},
		{"HTTP with X-Goverse-Auth", func(ctx context.Context, method, request string) (string, error) {
			return w.post(ctx, w.path(w.vault, method), request, "X-Goverse-Auth", fmt.Sprintf(`{"Authorization":"Bearer %s"}`, w.token))
		}},
		{"HTTP envelope", func(ctx context.Context, method, request string) (string, error) {
			return w.post(ctx, w.envelope(method), fmt.Sprintf(`{"request":%q}`, base64.StdEncoding.EncodeToString(anyOf(w.t, request))), "Authorization", "Bearer "+w.token)
		}},
		{"Connect", func(ctx context.Context, method, request string) (string, error) {
			body := fmt.Sprintf(`{"type":"Vault","id":%q,"method":%q,"request":{"@type":"type.googleapis.com/google.protobuf.Struct","value":%s}}`, w.vault, method, request)
			return w.post(ctx, "/gate.GateService/CallObject", body, "Authorization", "Bearer "+w.token)
		}},
		{"gRPC stream", w.byGRPC()},
		{"gRPC", w.byGRPC(goverseclient.WithUnaryCalls())},
		{"WebSocket", w.overSocket(s)},
	}
}

func (w *watched) path(id, method string) string {
	return "/api/v1/objects/Vault/" + url.PathEscape(id) + "/" + method
}

func (w *watched) envelope(method string) string {
	return strings.Replace(w.path(w.vault, method), "/objects/", "/objects/call/", 1)
}

// anyOf is what a request in JSON is as an Any.
func anyOf(t *testing.T, request string) []byte {
	m, a := new(structpb.Struct), new(anypb.Any)
	if err := m.UnmarshalJSON([]byte(request)); err != nil {
		t.Fatal(err)
	}
	if err := a.MarshalFrom(m); err != nil {
		t.Fatal(err)
	}
	b, err := proto.Marshal(a)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func (w *watched) post(ctx context.Context, path, body string, headers ...string) (string, error) {
	return w.fetch(ctx, http.MethodPost, "http://"+w.gate.HTTPAddr()+path, body, headers...)
}

// fetch is an answer's body, as an error where the answer is one.
func (w *watched) fetch(ctx context.Context, method, url, body string, headers ...string) (string, error) {
	r, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		return "", err
	}
	r.Header.Set("Content-Type", "application/json")
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	answer, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(r)
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err == nil && answer.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", answer.Status, text)
	}
	return string(text), err
}

// bearer proves who somebody is in gRPC's metadata.
type bearer string

func (b bearer) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer " + string(b)}, nil
}

func (bearer) RequireTransportSecurity() bool { return false }

func (w *watched) byGRPC(options ...goverseclient.Option) func(context.Context, string, string) (string, error) {
	return func(ctx context.Context, method, request string) (string, error) {
		options := append(options, goverseclient.WithGRPCDialOptions(grpc.WithPerRPCCredentials(bearer(w.token))))
		c, err := goverseclient.NewClient([]string{w.gate.GRPCAddr()}, options...)
		if err != nil {
			return "", err
		}
		defer c.Close()
		if err := c.Connect(ctx); err != nil {
			return "", err
		}
		m := new(structpb.Struct)
		if err := m.UnmarshalJSON([]byte(request)); err != nil {
			return "", err
		}
		reply, err := c.CallObject(ctx, "Vault", w.vault, method, m)
		return fmt.Sprint(reply), err
	}
}

// socket is a client over a WebSocket, in a session that may be resumed.
type socket struct {
	conn  *websocket.Conn
	seq   int
	token string // of the session
}

// openSocket says hello with a token that is of no session.
func (w *watched) openSocket(ctx context.Context) *socket {
	conn, _, err := websocket.Dial(ctx, "ws://"+w.gate.HTTPAddr()+"/api/v1/ws?hello=1", nil)
	if err != nil {
		w.t.Fatal(err)
	}
	s := &socket{conn: conn}
	w.ends = append(w.ends, func() { conn.CloseNow() })
	hello := fmt.Sprintf(`{"op":"hello","token":%q,"last":3,"headers":{"Authorization":"Bearer %s"}}`, canary, w.token)
	f, _, err := s.talk(ctx, hello, "register")
	if err != nil || f.Token == "" {
		w.t.Fatalf("no session: %+v, %v", f, err)
	}
	s.token = f.Token
	return s
}

// socketFrame is what the gate says.
type socketFrame struct{ Op, Error, Token string }

// talk says something, and waits for a frame of a kind.
func (s *socket) talk(ctx context.Context, say, until string) (f socketFrame, text string, err error) {
	if err = s.conn.Write(ctx, websocket.MessageText, []byte(say)); err != nil {
		return f, "", err
	}
	for f.Op != until {
		_, data, err := s.conn.Read(ctx)
		if err != nil {
			return f, "", err
		}
		f = socketFrame{}
		if err := json.Unmarshal(data, &f); err != nil {
			return f, "", err
		}
		text = string(data)
	}
	if f.Error != "" {
		err = errors.New(text)
	}
	return f, text, err
}

func (w *watched) overSocket(s *socket) func(context.Context, string, string) (string, error) {
	return func(ctx context.Context, method, request string) (string, error) {
		s.seq++
		_, text, err := s.talk(ctx, fmt.Sprintf(`{"op":"call","seq":%d,"type":"Vault","id":%q,"method":%q,"request":%s}`, s.seq, w.vault, method, request), "reply")
		return text, err
	}
}

// What clients say, are told, have pushed and keep, and what they prove themselves by, is in
// no line of a log at its finest, in no metric, in no span, in nothing that operations ports
// show of the inside, and in no error that somebody else gets.
func TestWhatIsSaidInPrivateIsToldNowhere(t *testing.T) {
	w := openWatched(t)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	s := w.openSocket(ctx)
	for _, o := range w.owners(s) {
		w.askEverything(ctx, o)
	}
	w.askNonsense(ctx, s)
	w.askAsStrangers(ctx)
	w.readSpoilt(ctx)
	w.await("the line of what came last", func() bool { return w.says("session_token") && w.says("credentials") })
	for _, address := range w.ops {
		w.readInside(ctx, address)
	}
	w.close()
	close(w.spans)
	for span := range w.spans {
		fmt.Fprintf(w, "span %s %v %v %v %v %v\n", span.Name(), span.Attributes(), span.Status(), span.Events(), span.Links(), span.SpanContext().TraceState())
	}
	for _, found := range w.finds(append(canaryAsText, w.token, strings.Split(w.token, ".")[2], s.token)...) {
		t.Errorf("it is told in …%s…", found)
	}
	for _, each := range []string{"CallObject", "it is stuck", `"panic"`, "cannot be read", "goverse_call_duration_seconds", "span serve Vault.Keep", `"executions"`} {
		if !w.says(each) {
			t.Errorf("nothing was told of %q, and so nothing of this test is worth anything", each)
		}
	}
}

// askEverything has one door carry what succeeds and what fails.
func (w *watched) askEverything(ctx context.Context, o owner) {
	const request = `{"secret":"` + canary + `"}`
	for i, method := range []string{"Keep", "Look", "Fail", "Panic", "Spoil", "Bloat", "Wait", "Copy", "Closed", "Nothing"} {
		fails := i >= 2
		answer, err := o.ask(ctx, method, request)
		if (err != nil) != fails {
			w.t.Errorf("%s, %s: %.300s, %.300v", o.door, method, answer, err)
		}
		if !fails && !strings.Contains(answer, canary) && o.door != "HTTP envelope" {
			w.t.Errorf("%s, %s: the owner got %s", o.door, method, answer)
		}
	}
}

// askNonsense says what cannot be read, by the doors where JSON is what a client says.
func (w *watched) askNonsense(ctx context.Context, s *socket) {
	for _, bad := range []struct{ method, request string }{
		{"Copy", canary}, {"Wait", `"` + canary + `"`}, {"Wait", canary}, {"Keep", canary}, {"Keep", `["` + canary + `"]`}, {"Keep", `{"` + canary},
	} {
		if answer, err := w.post(ctx, w.path(w.vault, bad.method), bad.request, "Authorization", "Bearer "+w.token); err == nil {
			w.t.Errorf("%s(%s): %s", bad.method, bad.request, answer)
		}
		if answer, err := w.overSocket(s)(ctx, bad.method, bad.request); err == nil && json.Valid([]byte(bad.request)) {
			w.t.Errorf("%s(%s): %s", bad.method, bad.request, answer)
		}
	}
	if answer, err := w.post(ctx, w.envelope("Keep"), `{"request":"`+canary+`!"}`); err == nil {
		w.t.Errorf("no base64: %s", answer)
	}
	if answer, err := w.fetch(ctx, http.MethodGet, "http://"+w.gate.HTTPAddr()+w.path(w.vault, "Look")+"?secret="+canary, ""); err != nil || !strings.Contains(answer, canary) {
		w.t.Errorf("GET: %s, %v", answer, err)
	}
	if answer, err := w.fetch(ctx, http.MethodGet, "http://"+w.gate.HTTPAddr()+w.path(w.vault, "Keep")+"?secret="+canary, ""); err == nil {
		w.t.Errorf("GET of what changes: %s", answer)
	}
}

// askAsStrangers proves nothing, in words that are somebody's secret.
func (w *watched) askAsStrangers(ctx context.Context) {
	forged := w.token[:len(w.token)-8] + "AAAAAAAA"
	for _, header := range [][2]string{
		{"Authorization", "Bearer " + canary}, {"Authorization", canary}, {"Authorization", "Basic " + canary}, {"Authorization", "Bearer " + forged},
		{"Authorization", "Bearer a." + canary + ".c"}, {"X-Goverse-Auth", canary}, {"X-Goverse-Auth", `{"` + canary}, {"X-Goverse-Auth", `{"Authorization":["Bearer ` + canary + `"]}`},
	} {
		if answer, err := w.post(ctx, w.path(w.vault, "Look"), `{}`, header[0], header[1]); err == nil {
			w.t.Errorf("%s: %s was let in: %s", header[0], header[1], answer)
		}
	}
}

// readSpoilt calls an object whose stored state cannot be read. Who calls it is not who
// stored it.
func (w *watched) readSpoilt(ctx context.Context) {
	for i, state := range []string{
		`{"@type":"type.googleapis.com/google.protobuf.StringValue","value":` + canary + `}`,
		`{"@type":"type.googleapis.com/google.protobuf.Duration","value":"` + canary + `"}`,
		`{"@type":"type.googleapis.com/google.protobuf.StringValue","@version":"` + canary + `","value":"x"}`,
		`{"@type":` + canary + `}`, canary, `"` + canary + `"`,
	} {
		id := w.clerkNamed(0, fmt.Sprint("spoilt", i))
		if err := sqlite.NewSQLitePersistenceProvider(w.db).SaveObject(ctx, "Vault", id, []byte(state)); err != nil {
			w.t.Fatalf("the store refuses %s: %v", state, err)
		}
		answer, err := w.post(ctx, w.path(id, "Look"), `{}`)
		if err == nil {
			w.t.Errorf("%s was read: %s", state, answer)
		}
		fmt.Fprintf(w, "somebody else is told %v\n", err)
	}
}

// readInside takes down what an operations port tells, but for a state of which somebody
// asks for that alone.
func (w *watched) readInside(ctx context.Context, address string) {
	for _, path := range []string{"/metrics", "/ready", "/debug/goverse", "/debug/pprof/goroutine?debug=2", "/api/v1/objects/Vault", "/api/v1/objects/Vault?after=" + canary[:1]} {
		text, err := w.fetch(ctx, http.MethodGet, "http://"+address+path, "")
		if err != nil {
			w.t.Errorf("%s: %v", path, err)
		}
		fmt.Fprintln(w, text)
	}
}
