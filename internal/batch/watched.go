package batch

import (
	"sync/atomic"

	"google.golang.org/grpc/mem"
)

// Watched is a message of a stream with Codec that tells how it is taken: a batch, or
// anything else that the codec marshals. It is read while SendMsg runs and may be used
// again behind it.
type Watched struct {
	Message any
	// Taken, if not nil, is called each time that the transport has taken another piece of a long
	// message, also after SendMsg has returned, and whenever a message is given up. It
	// must be quick.
	Taken func()
	// Kept, if not nil, is called with the bytes of a long message when the transport gets
	// it, and with less than 0 where Taken is: with so many bytes that it has taken, or
	// given up.
	Kept func(bytes int)
}

// piece is how much of a long message is taken between two calls of Taken, in bytes. A
// last one has less than two of them. gRPC keeps no account of buffers below 1 KiB.
const piece = 16 << 10

// cut lays a marshalled message out in pieces. A short one goes as it is: the stream's own
// quota, of 64 KiB, shows how it is taken.
func cut(whole mem.BufferSlice, w *Watched) mem.BufferSlice {
	if len(whole) != 1 || whole[0].Len() <= 4*piece {
		return whole
	}
	rest := whole[0].ReadOnlyData()
	p := &pieces{whole: whole[0], taken: w.Taken, kept: w.Kept}
	if p.kept != nil {
		p.kept(len(rest))
	}
	cuts := make(mem.BufferSlice, 0, len(rest)/piece)
	p.left.Store(int32(cap(cuts)))
	for len(rest) >= 2*piece {
		part := rest[:piece:piece]
		cuts, rest = append(cuts, mem.NewBuffer(&part, p)), rest[piece:]
	}
	return append(cuts, mem.NewBuffer(&rest, p))
}

// pieces is a mem.BufferPool that gets back the pieces of one message.
type pieces struct {
	whole mem.Buffer
	taken func()
	kept  func(int)
	left  atomic.Int32
}

// Get implements mem.BufferPool. Nobody asks a message for more of it.
func (p *pieces) Get(length int) *[]byte { return Buffers.Get(length) }

// Put implements mem.BufferPool: a piece was taken.
func (p *pieces) Put(b *[]byte) {
	if p.taken != nil {
		p.taken()
	}
	if p.kept != nil {
		p.kept(-len(*b))
	}
	if p.left.Add(-1) == 0 {
		p.whole.Free()
	}
}
