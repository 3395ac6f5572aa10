package postgres

import (
	"context"
	"math/rand/v2"
	"time"
)

// script runs statements without arguments, in one round trip.
func (s session) script(ctx context.Context, sql string) error {
	return s.Conn.Conn().PgConn().Exec(ctx, sql).Close()
}

// inTransaction says whether the server has a transaction open: 'T', or 'E' if a
// statement of it has failed.
func (s session) inTransaction() bool { return s.Conn.Conn().PgConn().TxStatus() != 'I' }

// rollback ends a transaction that was not committed, whatever became of its context.
// A server that does not answer loses the connection, and with it the transaction.
func (s session) rollback() {
	if s.Conn.Conn().IsClosed() || !s.inTransaction() {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if s.script(ctx, `ROLLBACK`) != nil {
		s.cut()
	}
}

// again waits a moment before an unlucky statement is repeated, a little longer each
// time, and says whether it is to be repeated at all.
func again(ctx context.Context, attempt int) bool {
	if attempt >= 8 {
		return false
	}
	pause := time.NewTimer(time.Millisecond<<attempt + rand.N(time.Millisecond))
	defer pause.Stop()
	select {
	case <-pause.C:
		return true
	case <-ctx.Done():
		return false
	}
}
