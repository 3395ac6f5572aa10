package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/xiaonanln/goverse/cluster/etcdmanager/embedded"
	"github.com/xiaonanln/goverse/gate/gateserver"
	"github.com/xiaonanln/goverse/server"
)

// issued runs a command of goverse cert and returns what it made.
func issued(t *testing.T, args ...string) certFiles {
	t.Helper()
	out := here(t, nil, append([]string{"cert"}, append(args, "-o", "json")...)...)
	var made certFiles
	if err := json.Unmarshal([]byte(out.stdout), &made); err != nil || out.code != 0 {
		t.Fatal(out, err)
	}
	return made
}

func TestCert(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "certs")
	if out := here(t, nil, "cert", "issue", "--dir", dir, "--host", "n1"); out.code != 1 || !strings.Contains(out.err, "goverse cert ca --dir "+dir+" makes an authority") {
		t.Error(out)
	}
	ca := issued(t, "ca", "--dir", dir)
	node := issued(t, "issue", "--dir", dir, "--host", "n1,10.0.0.1")
	for _, file := range []string{ca.Cert, ca.Key, node.Cert, node.Key} {
		if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", file, info, err)
		}
	}
	if want := "--tls-cert " + node.Cert + " --tls-key " + node.Key + " --tls-ca " + ca.Cert; node.Flags != want || !strings.HasSuffix(node.Cert, "n1.pem") {
		t.Errorf("%+v", node)
	}
	if alice := issued(t, "issue", "--dir", dir, "--client", "alice"); !strings.HasSuffix(alice.Cert, "alice.pem") {
		t.Errorf("%+v", alice)
	}
	issued(t, "issue", "--dir", dir, "--host", "n1", "--force")
	for _, c := range []struct {
		args, says string
		code       int
	}{
		{"ca", "--force", 1}, {"issue --host n1", "--force", 1}, {"issue", "--host for a node", 2}, {"issue --host n1:47000", "without a port", 1},
		{"issue --host n1 --name ../x", "--name", 2}, {"issue --host n1 --name ca", "other than ca", 2},
	} {
		out := here(t, nil, append(append([]string{"cert"}, strings.Fields(c.args)...), "--dir", dir)...)
		if out.code != c.code || !strings.Contains(out.err, c.says) {
			t.Errorf("%s: %v", c.args, out)
		}
	}
}

// The commands of docs/tls.md are ones that there are.
func TestTheCommandsOfThePage(t *testing.T) {
	page, err := os.ReadFile("../../docs/tls.md")
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(t.TempDir())
	lines := regexp.MustCompile(`(?m)^goverse (cert .*)$`).FindAllStringSubmatch(string(page), -1)
	if len(lines) != 3 {
		t.Fatalf("%d commands", len(lines))
	}
	for _, line := range lines {
		if out := here(t, nil, strings.Fields(line[1])...); out.code != 0 {
			t.Error(line[0], out)
		}
	}
	for _, m := range regexp.MustCompile(`certs/(?:node1|gate1|ca)\.(?:pem|key)`).FindAllString(string(page), -1) {
		if _, err := os.Stat(m); err != nil {
			t.Error(err)
		}
	}
}

// Two nodes and a gate start over certificates of goverse cert and form a cluster, and
// the gate's clients are shown its certificate.
func TestAnEncryptedCluster(t *testing.T) {
	dir := t.TempDir()
	ca := issued(t, "ca", "--dir", dir)
	member := issued(t, "issue", "--dir", dir, "--host", "localhost,127.0.0.1")
	files := server.TLSConfig{CertFile: member.Cert, KeyFile: member.Key, CAFile: ca.Cert}
	etcd, err := embedded.Start(t.Context(), embedded.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { etcd.Close() }) // after the nodes
	for range 2 {
		runNode(t, server.ServerConfig{EtcdAddress: etcd.Endpoint(), TLS: files, RequireTLS: true})
	}
	gate, err := gateserver.NewGateServer(&gateserver.GateServerConfig{
		ListenAddress: "127.0.0.1:0", HTTPListenAddress: "127.0.0.1:0", OpsListenAddress: "127.0.0.1:0", EtcdAddress: etcd.Endpoint(), TLS: files, RequireTLS: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := gate.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := gate.Stop(); err != nil {
			t.Error(err)
		}
	}()
	text, err := os.ReadFile(ca.Cert)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(text)
	client := http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, DisableKeepAlives: true}}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+gate.HTTPAddr()+"/api/v1/objects/Nothing/x/Do", strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	answer, err := client.Do(req) // no node has the type
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	if answer.StatusCode != http.StatusNotFound || answer.TLS == nil {
		t.Errorf("%v", answer.Status)
	}
	if _, err := gateserver.NewGateServer(&gateserver.GateServerConfig{EtcdAddress: etcd.Endpoint(), RequireTLS: true}); err == nil || !strings.Contains(err.Error(), "--client-tls-cert") {
		t.Error(err)
	}
	if _, err := server.New(server.ServerConfig{ListenAddress: "0.0.0.0:0", AdvertiseAddress: "n1:1", RequireTLS: true}); err == nil || !strings.Contains(err.Error(), "--tls-cert") {
		t.Error(err)
	}
}

// runNode runs a node until the test ends.
func runNode(t *testing.T, cfg server.ServerConfig) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	cfg.Listener, cfg.NumShards, cfg.MinQuorum, cfg.NodeStabilityDuration, cfg.DataDir = l, 64, 2, 100*time.Millisecond, t.TempDir()
	s, err := server.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}
