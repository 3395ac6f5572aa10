package fault

import "google.golang.org/protobuf/proto"

// Thrown is what may be told of the value that code panicked with: of a message its name, as
// what is in it is for nobody who reads of the panic. Words are the program's own.
func Thrown(value any) any {
	if m, ok := value.(proto.Message); ok {
		return "a " + string(m.ProtoReflect().Descriptor().FullName())
	}
	return value
}
