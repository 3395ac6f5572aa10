package goverseclient

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/xiaonanln/goverse/gate/gateserver"
	"github.com/xiaonanln/goverse/internal/secure"
)

// desk issues certificates into a folder.
type desk struct {
	*secure.Authority
	dir string
}

func newDesk(t *testing.T) *desk {
	t.Helper()
	a, files, err := secure.NewAuthority("test", time.Now().Add(-time.Hour), time.Now().AddDate(1, 0, 0))
	if err != nil {
		t.Fatal(err)
	}
	d := &desk{a, t.TempDir()}
	d.write(t, "ca", files)
	return d
}

func (d *desk) file(name string) string { return filepath.Join(d.dir, name) }

func (d *desk) write(t *testing.T, name string, files secure.PEM) {
	t.Helper()
	if err := files.Write(d.file(name+".pem"), d.file(name+".key"), true); err != nil {
		t.Fatal(err)
	}
}

func (d *desk) issue(t *testing.T, name string, h secure.Holder) TLSConfig {
	t.Helper()
	h.NotBefore, h.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	files, err := d.Issue(h)
	if err != nil {
		t.Fatal(err)
	}
	d.write(t, name, files)
	return TLSConfig{CertFile: d.file(name + ".pem"), KeyFile: d.file(name + ".key"), CAFile: d.file("ca.pem")}
}

// A client reaches a gate over TLS with the certificates that the gate wants, and where
// it does not, the error says what to do.
func TestTLS(t *testing.T) {
	d, other := newDesk(t), newDesk(t)
	alice := d.issue(t, "alice", secure.Holder{Client: "alice"})
	door := d.issue(t, "gate", secure.Holder{Hosts: []string{"127.0.0.1"}})
	public := TLSConfig{CertFile: door.CertFile, KeyFile: door.KeyFile}
	misnamed := d.issue(t, "elsewhere", secure.Holder{Hosts: []string{"gate1"}})
	misnamed.CAFile = ""
	anonymous, foreign := TLSConfig{CAFile: d.file("ca.pem")}, TLSConfig{CAFile: other.file("ca.pem")}
	for _, c := range []struct {
		name   string
		gate   TLSConfig
		client *TLSConfig
		says   string
	}{
		{"who asks for no certificate", public, &anonymous, ""},
		{"who asks for one", door, &alice, ""},
		{"and gets none", door, &anonymous, "certificate, of which there is none"},
		{"of another authority", public, &foreign, "give both the same"},
		{"of the system's authorities", public, &TLSConfig{}, "the authority that this system trusts"},
		{"with another name", misnamed, &anonymous, "issue a certificate for the other end that names 127.0.0.1"},
		{"in plain text", public, nil, "with WithTLS"},
		{"without TLS", TLSConfig{}, &anonymous, "does not encrypt"},
	} {
		t.Run(c.name, func(t *testing.T) {
			gate := startGate(t, newCluster(), "127.0.0.1:0", func(cfg *gateserver.GateServerConfig) { cfg.ClientTLS = c.gate })
			var opts []Option
			if c.client != nil {
				opts = append(opts, WithTLS(*c.client))
			}
			client, err := NewClient([]string{gate.GRPCAddr()}, opts...)
			if err != nil {
				t.Fatal(err)
			}
			defer client.Close()
			switch err := client.Connect(soon(t)); {
			case c.says != "":
				if err == nil || !strings.Contains(err.Error(), c.says) {
					t.Error(err)
				}
				return
			case err != nil:
				t.Fatal(err)
			}
			if _, err := client.CallObject(soon(t), "Echo", "a", "Say", wrapperspb.String("hello")); err != nil {
				t.Error(err)
			}
		})
	}
}

// What is wrong with the files is told before anything is dialled; what is written over
// them counts for the next connection.
func TestTLSFiles(t *testing.T) {
	d, fresh := newDesk(t), newDesk(t)
	if _, err := NewClient([]string{"gate:1"}, WithTLS(TLSConfig{CAFile: d.file("none")})); err == nil || !strings.Contains(err.Error(), "WithTLS: there is no authority at "+d.file("none")) {
		t.Error(err)
	}
	door := fresh.issue(t, "gate", secure.Holder{Hosts: []string{"127.0.0.1"}})
	door.CAFile = ""
	gate := startGate(t, newCluster(), "127.0.0.1:0", func(cfg *gateserver.GateServerConfig) { cfg.ClientTLS = door })
	client, err := NewClient([]string{gate.GRPCAddr()}, WithTLS(TLSConfig{CAFile: d.file("ca.pem")}))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if err := client.Connect(soon(t)); err == nil {
		t.Fatal("a gate of an authority that the client does not know")
	}
	text, err := os.ReadFile(fresh.file("ca.pem"))
	if err == nil {
		err = os.WriteFile(d.file("ca.pem"), text, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	until(t, "the new authority to count", func() bool { return client.Connect(soon(t)) == nil })
}
