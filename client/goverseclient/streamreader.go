package goverseclient

import (
	"errors"
	"fmt"

	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	gate_pb "github.com/xiaonanln/goverse/gate/proto"
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
			s.push(k.Push.GetMessage())
		case *gate_pb.GateFrame_Goodbye:
			why := errEnded
			if own := new(spb.Status); len(k.Goodbye.Status) > 0 && proto.Unmarshal(k.Goodbye.Status, own) == nil {
				why = plain(status.ErrorProto(own))
			}
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
		case *gate_pb.GateFrame_Push, *gate_pb.GateFrame_Goodbye:
			continue
		case *gate_pb.GateFrame_Welcome, nil:
			return errors.New("the gate sends a frame of a kind that does not belong there")
		}
		w, known := s.waiting[f.Call]
		if !known {
			return fmt.Errorf("the gate answers call %d, which does not wait for an answer", f.Call)
		}
		delete(s.waiting, f.Call)
		s.free++
		if w != nil {
			w.reply, w.done = f, true
			w.answered <- struct{}{} // it has room for one, and this is the first
		}
	}
	if len(s.queue) > 0 {
		s.rouse()
	}
	return nil
}

// push delivers a message while there is a session, and somebody who follows it.
func (s *stream) push(m *anypb.Any) {
	select {
	case <-s.following:
	case <-s.over:
		return
	}
	s.pushing.Lock()
	defer s.pushing.Unlock()
	select {
	case <-s.over:
	default:
		s.deliver(m)
	}
}
