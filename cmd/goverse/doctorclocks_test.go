package main

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"github.com/xiaonanln/goverse/cluster/census"
	"github.com/xiaonanln/goverse/internal/peer"
)

// The transcripts of clocks: what nodes answer, and what doctor says of it.
//
//	node ADDRESS AHEAD TOOK [GATE AHEAD AGO]...   a node whose clock is ahead of this
//	                                              machine's as it answers, after TOOK in all,
//	                                              and has heard gates some time ago; an
//	                                              AHEAD that is "untold" is not told
//	gate ADDRESS                                  a gate that is there
func TestClockTranscripts(t *testing.T) {
	datadriven.RunTest(t, "testdata/clocks", func(t *testing.T, d *datadriven.TestData) string {
		answers, gates := answersOf(t, d.Input)
		x, out := &examination{Well: true}, new(bytes.Buffer)
		x.clocks(answers, gates)
		x.table(out)
		if !x.Well {
			out.WriteString("something is wrong\n")
		}
		return out.String()
	})
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
