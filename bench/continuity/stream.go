package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/xiaonanln/goverse/bench/continuity/witness"
)

// showStream has one stream of events live for long.
func showStream(ctx context.Context, o options, tell *teller) (err error) {
	common := orders{LogTo: o.logs, program: o.program}
	beat := 20 * time.Second // as gates have it
	if o.quick {
		beat = 200 * time.Millisecond
		common.Beat, common.Patience, common.Idle = beat, time.Second, 500*time.Millisecond
	}
	f, err := form(ctx, 1, 1, common)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.close()) }()
	if err := f.warm(ctx, []string{"board-0"}); err != nil {
		return err
	}
	s := &eventStream{gate: f.gates[0], witness: witness.New()}
	life, hangUp := context.WithCancel(ctx)
	defer hangUp()
	if err := s.open(life); err != nil {
		return err
	}
	var living sync.WaitGroup
	living.Go(func() { s.failure = s.hear() })
	w := &writers{fleet: f, boards: []string{"board-0"}, rate: 1 / (1.5 * beat.Seconds())} // with a beat between two
	writing, pens := context.WithTimeout(life, o.stream)
	defer pens()
	w.run(writing)
	counts, err := truth(ctx, f, w.boards)
	if err == nil {
		err = s.await(ctx, counts["board-0"])
	}
	hangUp()
	living.Wait()
	if err != nil {
		return errors.Join(err, s.failure)
	}
	tell.say("a stream of events lived for %.1f s: %d messages, %d heartbeats", time.Since(s.began).Seconds(), s.witness.Counts().Pushes, s.beats)
	if s.beats == 0 {
		return errors.New("there was no heartbeat")
	}
	return anomalies(s.witness.Anomalies()).failure()
}

// eventStream is a client's stream of Server-Sent Events.
type eventStream struct {
	gate   *member
	body   *http.Response
	began  time.Time
	events *bufio.Scanner

	mu      sync.Mutex // protects following fields
	witness *witness.Witness
	beats   int
	failure error // what it ended with; read once hear has returned
}

// open connects, and joins the board.
func (s *eventStream) open(ctx context.Context) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.gate.orders.HTTP+"/api/v1/events/stream?json=1&resumable=1", nil)
	if err != nil {
		return err
	}
	t := &http.Transport{DisableKeepAlives: true}
	if s.body, err = t.RoundTrip(req); err != nil {
		return err
	}
	s.began, s.events = time.Now(), bufio.NewScanner(s.body.Body)
	name, data, err := s.next()
	var welcome struct{ ClientID string }
	if err == nil {
		err = json.Unmarshal([]byte(data), &welcome)
	}
	if err != nil || name != "register" {
		return fmt.Errorf("the stream begins with %q %s: %w", name, data, err)
	}
	s.witness.Connected(false, false)
	join, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+s.gate.orders.HTTP+"/api/v1/objects/Board/board-0/Join", strings.NewReader("1"))
	if err != nil {
		return err
	}
	join.Header.Set("X-Client-ID", welcome.ClientID)
	answer, err := t.RoundTrip(join)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("Join is answered with %s", answer.Status)
	}
	return nil
}

// next is the next event.
func (s *eventStream) next() (name, data string, err error) {
	for s.events.Scan() {
		line := s.events.Text()
		if text, ok := strings.CutPrefix(line, "event: "); ok {
			name = text
		}
		if text, ok := strings.CutPrefix(line, "data: "); ok {
			data = text
		}
		if line == "" {
			return name, data, nil
		}
	}
	err = s.events.Err()
	if err == nil {
		err = errors.New("the stream has ended")
	}
	return "", "", err
}

// hear notes events until the stream ends.
func (s *eventStream) hear() error {
	defer s.body.Body.Close()
	for seq := uint64(1); ; {
		name, data, err := s.next()
		if err != nil {
			return err
		}
		s.mu.Lock()
		switch name {
		case "heartbeat":
			s.beats++
		case "message":
			var m struct{ Message string }
			var said saying
			if err = json.Unmarshal([]byte(data), &m); err == nil {
				said, err = parseSaying(m.Message)
			}
			s.witness.Push(witness.Push{Seq: seq, Count: said.count, Joined: said.joined}, time.Now())
			seq++
		default:
			err = fmt.Errorf("an event %q %s", name, data)
		}
		s.mu.Unlock()
		if err != nil {
			return err
		}
	}
}

// await waits until the stream has told of a count.
func (s *eventStream) await(ctx context.Context, count int64) error {
	for began := time.Now(); ; rest(ctx, 20*time.Millisecond) { // between two looks
		s.mu.Lock()
		seen := s.witness.Seen()
		s.mu.Unlock()
		if seen == count {
			return nil
		}
		if time.Since(began) > 10*time.Second || ctx.Err() != nil {
			return fmt.Errorf("the stream has told of %d, the board counts %d", seen, count)
		}
	}
}
