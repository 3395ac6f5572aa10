package inspector

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/xiaonanln/goverse/cluster/etcdmanager/memkv"
	"github.com/xiaonanln/goverse/internal/event"
	"github.com/xiaonanln/goverse/internal/secure"
)

// certificate makes an authority and a certificate of it for this machine.
func certificate(t *testing.T) TLSConfig {
	t.Helper()
	dir, now := t.TempDir(), time.Now()
	c := TLSConfig{CertFile: filepath.Join(dir, "i.pem"), KeyFile: filepath.Join(dir, "i.key"), CAFile: filepath.Join(dir, "ca.pem")}
	a, files, err := secure.NewAuthority("test", now.Add(-time.Hour), now.AddDate(0, 0, 1))
	if err == nil {
		err = files.Write(c.CAFile, filepath.Join(dir, "ca.key"), false)
	}
	if err != nil {
		t.Fatal(err)
	}
	files, err = a.Issue(secure.Holder{Hosts: []string{"127.0.0.1"}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour)})
	if err == nil {
		err = files.Write(c.CertFile, c.KeyFile, false)
	}
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// Who gives an order is named by his certificate, where one was demanded of him and checked.
func TestTheOperatorsName(t *testing.T) {
	alice := &x509.Certificate{Subject: pkix.Name{CommonName: "alice"}}
	for want, state := range map[string]*tls.ConnectionState{
		"alice@10.0.0.7, through the inspector":    {PeerCertificates: []*x509.Certificate{alice}, VerifiedChains: [][]*x509.Certificate{{alice}}},
		"somebody@10.0.0.7, through the inspector": {PeerCertificates: []*x509.Certificate{alice}},
	} {
		if got := operator(&http.Request{RemoteAddr: "10.0.0.7:51234", TLS: state}); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// The page and its feed over TLS: the cookie that keeps a token is for encrypted
// connections alone, and who speaks in plain text sees nothing.
func TestThePageOverTLS(t *testing.T) {
	store := memkv.NewStore()
	defer store.Close()
	kv := store.Connect()
	defer kv.Close()
	files := certificate(t)
	const token = "sixteen characters"
	i, err := New(Config{ListenAddress: "127.0.0.1:0", KV: kv, Token: token, TLS: TLSConfig{CertFile: files.CertFile, KeyFile: files.KeyFile}, RequireTLS: true})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	address, ended := make(chan string, 1), make(chan error, 1)
	go func() { ended <- i.Run(ctx, func(a string) { address <- a }) }()
	defer func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	at := <-address
	text, err := os.ReadFile(files.CAFile)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(text)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, DisableKeepAlives: true}}
	get := func(url string) *http.Response {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		answer, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
		return answer
	}
	if page := get("https://" + at + "/?token=" + strings.ReplaceAll(token, " ", "+")); page.StatusCode != http.StatusOK || len(page.Cookies()) != 1 || !page.Cookies()[0].Secure {
		t.Error(page.Status, page.Cookies())
	}
	if page := get("http://" + at + "/"); page.StatusCode != http.StatusBadRequest {
		t.Error(page.Status)
	}
	feed, _, err := websocket.Dial(t.Context(), "wss://"+at+"/api/v1/feed", &websocket.DialOptions{HTTPClient: client, HTTPHeader: http.Header{"Authorization": {"Bearer " + token}}})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := feed.Read(t.Context()); err != nil {
		t.Error(err)
	}
	_ = feed.CloseNow()
}

// What is wrong with the certificates is told before the port is opened, and plain text
// beyond the machine is told of, or refused.
func TestTheInspectorsKeys(t *testing.T) {
	store := memkv.NewStore()
	defer store.Close()
	kv := store.Connect()
	defer kv.Close()
	files := certificate(t)
	for _, c := range []struct {
		cfg  Config
		says string
	}{
		{Config{TLS: TLSConfig{CertFile: files.CertFile}}, "--tls-key"},
		{Config{TLS: TLSConfig{CAFile: files.CAFile}}, "--tls-cert"},
		{Config{ListenAddress: "0.0.0.0:0", Token: "sixteen characters", RequireTLS: true}, "RequireTLS (--require-tls): the inspector's port (0.0.0.0:0) is in plain text beyond this machine"},
	} {
		c.cfg.KV = kv
		if _, err := New(c.cfg); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%v does not say %s", err, c.says)
		}
	}
	i, err := New(Config{KV: kv, ListenAddress: "127.0.0.1:0", TLS: TLSConfig{CertFile: files.CertFile, KeyFile: files.CAFile}})
	if err != nil {
		t.Fatal(err)
	}
	if err := i.Run(t.Context(), nil); err == nil || !strings.Contains(err.Error(), "TLS of the inspector's port") {
		t.Error(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	var told []string
	i, err = New(Config{KV: kv, ListenAddress: "0.0.0.0:0", Token: "sixteen characters", Listener: event.Listener{Notice: func(n event.Notice) { told = append(told, n.Text) }}})
	if err != nil {
		t.Fatal(err)
	}
	if err := i.Run(ctx, func(string) { stop() }); err != nil || len(told) != 1 || !strings.Contains(told[0], "in plain text beyond this machine") {
		t.Error(err, told)
	}
	stop()
}
