package main

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"github.com/xiaonanln/goverse/cluster/census"
	"github.com/xiaonanln/goverse/cluster/consensusmanager"
	"github.com/xiaonanln/goverse/internal/peer"
	"github.com/xiaonanln/goverse/internal/secure"
	"github.com/xiaonanln/goverse/util/postgres"
)

// What doctor says of what it was told, which no transcript of etcd's keys has.
//
// clocks, which nodes answer and gates report:
//
//	node ADDRESS AHEAD TOOK [GATE AHEAD AGO]...   a node whose clock is ahead of this
//	                                              machine's as it answers, after TOOK in all,
//	                                              and has heard gates some time ago; an
//	                                              AHEAD that is "untold" is not told
//	gate ADDRESS                                  a gate that is there
//
// certificate, which a node at n1 shows on 2027-01-15: words of begins= and ends=, in hours
// from then, misnamed and unsigned.
//
// store, the database of cluster c1 with the store s1: words of schema=, of which 2 is
// wanted, id= and cluster=.
func TestFindings(t *testing.T) {
	datadriven.RunTest(t, "testdata/findings", func(t *testing.T, d *datadriven.TestData) string {
		x, out := &examination{Well: true}, new(bytes.Buffer)
		switch d.Cmd {
		case "clocks":
			x.clocks(answersOf(t, d.Input))
		case "certificate":
			x.certificate(certificate{"the node n1:47000", "node", "ca.pem", "n1", shownOf(d)}, today)
		case "store":
			is := &postgres.Identity{Database: "db:5432/goverse", Schema: 2, SchemaWanted: 2, StoreID: "s1"}
			d.MaybeScanArgs(t, "schema", &is.Schema)
			d.MaybeScanArgs(t, "id", &is.StoreID)
			d.MaybeScanArgs(t, "cluster", &is.Cluster)
			x.identity(is, &consensusmanager.Meta{Cluster: "c1", Store: "s1"})
		default:
			d.Fatalf(t, "unknown command %s", d.Cmd)
		}
		x.table(out)
		if !x.Well {
			out.WriteString("something is wrong\n")
		}
		return out.String()
	})
}

var today = time.Date(2027, 1, 15, 12, 0, 0, 0, time.UTC)

func shownOf(d *datadriven.TestData) *secure.Shown {
	s := &secure.Shown{NotBefore: today.Add(-time.Hour), NotAfter: today.AddDate(1, 0, 0)}
	in := func(key string, to *time.Time) {
		for _, a := range d.CmdArgs {
			if a.Key == key {
				hours, _ := time.ParseDuration(a.Vals[0] + "h")
				*to = today.Add(hours)
			}
		}
	}
	in("begins", &s.NotBefore)
	in("ends", &s.NotAfter)
	if d.HasArg("misnamed") {
		s.Misnamed = errors.New("it is for n2")
	}
	if d.HasArg("unsigned") {
		s.Unsigned = errors.New("unknown authority")
	}
	return s
}

func answersOf(t *testing.T, script string) (answers []census.Answer, gates []string) {
	t.Helper()
	duration := func(text string) time.Duration {
		d, err := time.ParseDuration(text)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	asked := time.Unix(1_800_000_000, 0)
	at := func(ahead string, since time.Duration) time.Time {
		if ahead == "untold" {
			return time.Time{}
		}
		return asked.Add(duration(ahead) + since)
	}
	for line := range strings.Lines(script) {
		words := strings.Fields(line)
		if words[0] == "gate" {
			gates = append(gates, words[1])
			continue
		}
		if len(words) == 3 && words[2] == "silent" {
			answers = append(answers, census.Answer{Address: words[1], Err: errors.New("late")})
			continue
		}
		took := duration(words[3])
		a := census.Answer{Address: words[1], Asked: asked, Took: took, Survey: &peer.Survey{Now: at(words[2], took/2)}}
		for rest := words[4:]; len(rest) > 0; rest = rest[3:] {
			ago := duration(rest[2])
			a.Survey.Gates = append(a.Survey.Gates, peer.GateSurvey{Address: rest[0], Ago: ago, Now: at(rest[1], took/2-ago)})
		}
		answers = append(answers, a)
	}
	return answers, gates
}
