package etcdmanager

import (
	"errors"
	"fmt"
)

// MaxTxnBytes bounds the keys and values of one transaction together; it stays
// below what a stock etcd accepts as one request (1.5 MiB).
const MaxTxnBytes = 1 << 20

// Validate says, joined, everything for which etcd would refuse the transaction
// whatever it holds. Every KV refuses alike, with an error that is ErrNotApplied.
func (t Txn) Validate() error {
	problems := []error{
		atMost("guards", len(t.If)), atMost("operations in Then", len(t.Then)), atMost("operations in Else", len(t.Else)),
	}
	size := 0
	for _, g := range t.If {
		size += len(g.Key) + len(g.End) + len(g.Value)
		problems = append(problems, g.validate())
	}
	for _, branch := range [][]Op{t.Then, t.Else} {
		for _, op := range branch {
			size += len(op.Key) + len(op.Value)
			problems = append(problems, op.validate())
		}
		problems = append(problems, writtenOnce(branch))
	}
	if size > MaxTxnBytes {
		problems = append(problems, fmt.Errorf("%d bytes of keys and values: at most %d", size, MaxTxnBytes))
	}
	if err := errors.Join(problems...); err != nil {
		return fmt.Errorf("invalid transaction: %w: %w", ErrNotApplied, err)
	}
	return nil
}

func atMost(what string, n int) error {
	if n > MaxTxnOps {
		return fmt.Errorf("%d %s: at most %d", n, what, MaxTxnOps)
	}
	return nil
}

func (g Guard) validate() error {
	switch {
	case g.Kind < GuardValueIs || g.Kind > GuardRangeEmpty:
		return fmt.Errorf("guard on %q: unknown kind %d", g.Key, g.Kind)
	case g.Key == "":
		return errors.New("guard: empty key")
	case g.Kind == GuardCreatedAt && g.Revision <= 0:
		// etcd would hold "created at 0" for a key that does not exist.
		return fmt.Errorf("guard on %q: created at revision %d: want at least 1", g.Key, g.Revision)
	case g.Kind == GuardRangeEmpty && g.End == "":
		// etcd would compare the one key only.
		return fmt.Errorf("guard on the range from %q: no end", g.Key)
	}
	return nil
}

func (o Op) validate() error {
	switch {
	case o.Kind < OpPut || o.Kind > OpGet:
		return fmt.Errorf("operation on %q: unknown kind %d", o.Key, o.Kind)
	case o.Key == "":
		return errors.New("operation: empty key")
	}
	return nil
}

// writtenOnce refuses what etcd calls a duplicate key: a put beside another put
// or a delete of the same key.
func writtenOnce(branch []Op) error {
	written := make(map[string]OpKind, len(branch))
	for _, op := range branch {
		before, twice := written[op.Key]
		switch {
		case op.Kind == OpGet:
			continue
		case twice && (op.Kind == OpPut || before == OpPut):
			return fmt.Errorf("%q is written twice", op.Key)
		}
		written[op.Key] = op.Kind
	}
	return nil
}
