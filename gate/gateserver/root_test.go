package gateserver

import (
	"net"
	"strings"
	"testing"

	"github.com/xiaonanln/goverse/internal/secure"
)

// at is a listener that says where it listens.
type at struct {
	net.Listener
	address string
}

func (a at) Addr() net.Addr {
	tcp, _ := net.ResolveTCPAddr("tcp", a.address)
	return tcp
}

// What a gate tells of its HTTP port is where others' clients can go.
func TestHTTPRoot(t *testing.T) {
	for _, c := range []struct {
		configured, address, http string
		encrypted                 bool
		want                      string
	}{
		{"", "gate1:49000", "[::]:48000", false, "http://gate1:48000"},
		{"", "gate1:49000", "0.0.0.0:48000", true, "https://gate1:48000"},
		{"", "[fd00::1]:49000", "[::]:48000", false, "http://[fd00::1]:48000"},
		{"", "localhost:49000", "127.0.0.1:48000", false, "http://localhost:48000"},
		{"", "gate1:49000", "127.0.0.1:48000", false, ""}, // behind something else on its machine
		{"", "gate1:49000", "", false, ""},
		{"https://chat.example/", "gate1:49000", "127.0.0.1:48000", false, "https://chat.example"},
	} {
		s := &GateServer{address: c.address, cfg: GateServerConfig{AdvertiseHTTP: c.configured}}
		if c.http != "" {
			s.listen.http = at{address: c.http}
		}
		if c.encrypted {
			s.keys.doors = new(secure.Files)
		}
		if got := s.httpRoot(); got != c.want {
			t.Errorf("%+v: %q", c, got)
		}
	}
	for root, fine := range map[string]bool{"": true, "http://a": true, "https://a:1/b/": true, "a:1": false, "ftp://a": false, "https://": false, "http://u@a": false, "http://a?b": false} {
		if err := (&GateServerConfig{AdvertiseHTTP: root}).checkRoot(); err == nil != fine || err != nil && !strings.Contains(err.Error(), "--advertise-http") {
			t.Errorf("%q: %v", root, err)
		}
	}
}
