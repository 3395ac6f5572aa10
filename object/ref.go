package object

// Ref names an object: its type and its id. Objects of different types may have
// the same id; they then live in the same shard.
type Ref struct {
	Type string
	ID   string
}

// String is the form that people read: Type/id.
func (r Ref) String() string { return r.Type + "/" + r.ID }
