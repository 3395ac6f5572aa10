package goverseclient

import (
	"errors"
	"fmt"

	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	gate_pb "github.com/xiaonanln/goverse/gate/proto"
	"github.com/xiaonanln/goverse/internal/fault"
)

// read takes what the gate sends until the stream ends.
func (s *stream) read() {
	for {
		b, err := s.conn.Recv()
		if err == nil {
			err = s.hear(b.Frames)
		}
		if err != nil {
			s.fail(err)
			return
		}
	}
}

func (s *stream) hear(frames []*gate_pb.GateFrame) error {
	if err := s.answer(frames); err != nil {
		return err
	}
	for _, f := range frames {
		switch k := f.Kind.(type) {
		case *gate_pb.GateFrame_Push:
			if err := s.push(k.Push); err != nil {
				return err
			}
		case *gate_pb.GateFrame_Reset_:
			if err := s.lost(k.Reset_); err != nil {
				return err
			}
		case *gate_pb.GateFrame_Published:
			if err := s.published(k.Published); err != nil {
				return err
			}
		case *gate_pb.GateFrame_Goodbye:
			why := errEnded
			if own := new(spb.Status); len(k.Goodbye.Status) > 0 && proto.Unmarshal(k.Goodbye.Status, own) == nil {
				why = plain(status.ErrorProto(own))
			}
			s.hearGoodbye(k.Goodbye, fault.KindOf(why))
			s.leave(why)
			s.finish(why)
		}
	}
	return nil
}

// answer hands on the answers among frames.
func (s *stream) answer(frames []*gate_pb.GateFrame) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range frames {
		switch f.Kind.(type) {
		case *gate_pb.GateFrame_Push, *gate_pb.GateFrame_Reset_, *gate_pb.GateFrame_Published, *gate_pb.GateFrame_Goodbye:
			continue
		case *gate_pb.GateFrame_Welcome, nil:
			return errors.New("the gate sends a frame of a kind that does not belong there")
		}
		w, known := s.waiting[f.Call]
		if !known {
			return fmt.Errorf("the gate answers call %d, which does not wait for an answer", f.Call)
		}
		if err := s.beginLocked(f.GetSubscribed(), w); err != nil {
			return err // and w is answered with all others that wait
		}
		delete(s.waiting, f.Call)
		s.free++
		if w != nil {
			w.reply, w.done = f, true
			w.answered <- struct{}{} // it has room for one, and this is the first
		}
	}
	if len(s.queue)+len(s.feeds.unwanted) > 0 {
		s.rouse()
	}
	return nil
}

// push delivers a message while there is a session, and somebody who follows it.
func (s *stream) push(p *gate_pb.Push) error {
	if !s.followed() {
		return nil
	}
	defer s.pushing.Unlock()
	if s.token == "" {
		s.deliver(p.GetMessage())
		return nil
	}
	if p.GetSeq() != s.last+1 {
		return fmt.Errorf("the gate pushes message %d after message %d", p.GetSeq(), s.last)
	}
	s.deliver(p.GetMessage())
	s.note(p.Seq)
	return nil
}

// lost tells of a gap. One before the session is told of when the client connects.
func (s *stream) lost(r *gate_pb.Reset) error {
	if r.GetTo() == 0 || s.token == "" || !s.followed() {
		return nil
	}
	defer s.pushing.Unlock()
	if r.From != s.last+1 || r.To < r.From {
		return fmt.Errorf("the gate tells that messages %d to %d are lost, after message %d", r.From, r.To, s.last)
	}
	s.reset(Reset{From: r.From, To: r.To, Reason: r.Reason})
	s.note(r.To)
	return nil
}

// followed waits until somebody follows the session. While it is not over, pushing is then
// held.
func (s *stream) followed() bool {
	select {
	case <-s.following:
	case <-s.over:
		return false
	}
	s.pushing.Lock()
	select {
	case <-s.over:
		s.pushing.Unlock()
		return false
	default:
		return true
	}
}

// hearGoodbye notes where a gate that leaves sends its client.
func (s *stream) hearGoodbye(g *gate_pb.Goodbye, why fault.Kind) {
	s.pushing.Lock()
	defer s.pushing.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leaving, s.gates = why == fault.NotReady, g.GetGates()
}
