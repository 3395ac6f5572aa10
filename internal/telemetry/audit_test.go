package telemetry

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/xiaonanln/goverse/internal/event"
)

// What is audited is a line with the same keys always, whoever chose what stands in it.
func TestAuditLines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, written := record(slog.LevelInfo, LogOptions{})
		l.AccessDenied(event.AccessDenied{
			Where: event.AtNode, Why: event.ByRule, Client: "g:1/x", User: "ann", From: "10.0.0.9", Type: "Vault", ID: "a b", Method: "Open", Rule: 3,
		})
		l.AccessDenied(event.AccessDenied{Where: event.AtWebSocket, Why: event.ByHandler, Err: errors.New("the token\nhas expired")})
		l.AccessDenied(event.AccessDenied{Why: event.ByRule, User: "x\nWARN: forged", Type: strings.Repeat("y", 10_000)})
		l.SensitiveOperation(event.SensitiveOperation{Where: event.AtGate, What: event.ClientDeletes, User: "ann", Type: "Vault", ID: "7"})
		want := "WARN: access denied where=node reason=access_rule client=g:1/x user=ann from=10.0.0.9 objType=Vault id=\"a b\" method=Open rule=3\n" +
			"WARN: access denied where=websocket reason=credentials err=\"\\\"the token\\\\nhas expired\\\"\"\n" +
			"WARN: access denied where=node reason=access_rule user=\"\\\"x\\\\nWARN: forged\\\"\" objType=" + strings.Repeat("y", auditText) + "…\n" +
			"INFO: sensitive operation where=gate operation=client_deletes user=ann objType=Vault id=7"
		if got := written(); got != want {
			t.Errorf("got\n%s\nwant\n%s", got, want)
		}
	})
}

// A hostile client gets 20 lines in a second, and one that counts the others.
func TestAuditIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, written := record(slog.LevelInfo, LogOptions{})
		for range 3 {
			for range 10_000 {
				l.AccessDenied(event.AccessDenied{Why: event.ByHandler, User: "mallory"})
			}
			time.Sleep(every)
			synctest.Wait()
		}
		lines := strings.Split(written(), "\n")
		if len(lines) != 3*(auditLines+1) {
			t.Errorf("%d lines", len(lines))
		}
		if want := fmt.Sprintf("WARN: access denied, and not told one by one count=%d reason=credentials", 10_000-auditLines); lines[auditLines] != want {
			t.Errorf("got %s, want %s", lines[auditLines], want)
		}
	})
}

// Each kind has its counter from the beginning, under a name of its own.
func TestAuditIsCounted(t *testing.T) {
	c := NewMetrics(nil)
	l := c.Listener()
	for range 3 {
		l.AccessDenied(event.AccessDenied{Why: event.ByRule})
	}
	l.SensitiveOperation(event.SensitiveOperation{What: event.ClientDeletes})
	lines := map[string]bool{}
	for line := range strings.Lines(c.String()) {
		if lines[line] {
			t.Errorf("twice: %s", line)
		}
		lines[line] = true
	}
	for d := range event.Denial(event.NumDenials) {
		n := 0
		if d == event.ByRule {
			n = 3
		}
		if line := fmt.Sprintf("goverse_access_denied_total{reason=%q} %d\n", d, n); !lines[line] || d.String() == "" {
			t.Errorf("missing: %s", line)
		}
	}
	for s := range event.Sensitive(event.NumSensitive) {
		n := 0
		if s == event.ClientDeletes {
			n = 1
		}
		if line := fmt.Sprintf("goverse_sensitive_operations_total{operation=%q} %d\n", s, n); !lines[line] || s.String() == "" {
			t.Errorf("missing: %s", line)
		}
	}
	for d := range event.Door(event.NumDoors) {
		if d.String() == "" {
			t.Errorf("door %d has no name", d)
		}
	}
}
