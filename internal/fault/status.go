package fault

import goverse_pb "github.com/xiaonanln/goverse/proto"

// StatusOf is what an error says of a call that has an id.
func StatusOf(err error) goverse_pb.ReliableCallStatus {
	e := Of(err)
	switch {
	case e == nil:
		return goverse_pb.ReliableCallStatus_SUCCESS
	case e.Kind == Failed && OutcomeOf(e) == Executed:
		return goverse_pb.ReliableCallStatus_FAILED
	case e.Kind == CallSettled:
		return goverse_pb.ReliableCallStatus_SKIPPED
	case (e.Kind == Deadline || e.Kind == Canceled) && OutcomeOf(e) == OutcomeUnknown:
		return goverse_pb.ReliableCallStatus_PENDING
	}
	return goverse_pb.ReliableCallStatus_UNKNOWN
}
