package meter

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"google.golang.org/protobuf/types/known/wrapperspb"
)

// LeastSize is the smallest message that can be told from all others.
const LeastSize = 8

// Question is a message of size bytes, beside the two or more that protobuf adds. It is
// like that of no other call of this load.
func Question(size, caller, n int) *wrapperspb.BytesValue {
	b := make([]byte, size)
	binary.LittleEndian.PutUint64(b, uint64(caller)<<40|uint64(n))
	for i := LeastSize; i < size; i++ {
		b[i] = byte(i)
	}
	return wrapperspb.Bytes(b)
}

// Check says what is wrong with an answer that should be an echo of the question.
func Check(question *wrapperspb.BytesValue, answer any) error {
	echo, ok := answer.(*wrapperspb.BytesValue)
	if !ok {
		return fmt.Errorf("the answer is a %T", answer)
	}
	if !bytes.Equal(question.GetValue(), echo.GetValue()) {
		return fmt.Errorf("the answer to %x is %x", question.GetValue(), echo.GetValue())
	}
	return nil
}
