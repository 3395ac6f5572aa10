package fault

import (
	"io"
	"testing"

	"google.golang.org/protobuf/types/known/wrapperspb"
)

func TestThrown(t *testing.T) {
	for _, c := range [][2]any{
		{wrapperspb.String("secret"), "a google.protobuf.StringValue"}, {(*wrapperspb.StringValue)(nil), "a google.protobuf.StringValue"},
		{"words", "words"}, {io.EOF, io.EOF}, {7, 7},
	} {
		if got := Thrown(c[0]); got != c[1] {
			t.Errorf("%v: %v", c[0], got)
		}
	}
}
