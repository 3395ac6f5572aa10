package gatecmd

import (
	"context"
	"strings"
	"testing"

	"github.com/xiaonanln/goverse/cmd/gate/gateconfig"
)

func TestASignalIsACleanEnd(t *testing.T) {
	ctx, signal := context.WithCancel(context.Background())
	signal()
	var out strings.Builder
	if code := Run(ctx, "gate", []string{"--etcd", "127.0.0.1:1", "--listen", "127.0.0.1:0", "--http-listen", "off"}, &out, &out); code != 0 || out.Len() > 0 {
		t.Errorf("%d: %s", code, &out)
	}
}

func TestExitCodesAndWords(t *testing.T) {
	t.Setenv(gateconfig.EtcdVariable, "")
	for _, c := range []struct {
		args   []string
		code   int
		stdout string
		stderr string
	}{
		{[]string{"--help"}, 0, "--etcd localhost:2379", ""},
		{nil, 2, "", "--etcd host:port"},
		{[]string{"--lisen", "x"}, 2, "", "-lisen"},
		{[]string{"--etcd", "e:1", "--listen", ":7", "--http-listen", ":7"}, 2, "", "the same port"},
		{[]string{"--etcd", "127.0.0.1:1", "--listen", "127.0.0.1:0", "--http-listen", "off"}, 1, "", "127.0.0.1:1"},
	} {
		var stdout, stderr strings.Builder
		code := Run(context.Background(), "gate", c.args, &stdout, &stderr)
		if code != c.code || !strings.Contains(stdout.String(), c.stdout) || !strings.Contains(stderr.String(), c.stderr) {
			t.Errorf("%q: %d\n%s\n%s", c.args, code, &stdout, &stderr)
		}
	}
}
