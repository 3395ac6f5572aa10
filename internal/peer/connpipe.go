package peer

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/mem"
)

// connPipe is a lane that has a connection to itself, at either end. Each batch follows its
// length; a length of 0 is a beat, by which a peer that sends nothing else is known to live,
// and noMore is the end. docs/format/wire.md draws it.
type connPipe struct {
	conn net.Conn
	in   *bufio.Reader // the receiver's

	writing sync.Mutex  // whoever writes has it
	out     []byte      // short batches behind their length; whoever writes has it
	sent    atomic.Bool // something since the last beat

	waits  atomic.Int64 // since when the receiver waits for the peer, in Unix nanoseconds; 0: it does not
	beat   *time.Timer
	mu     sync.Mutex // protects following fields, and the arming of beat
	over   bool
	silent bool // the peer, so this end hung up
}

// How soon a peer that has gone silent is given up: not before its lease has ended, and soon
// enough behind it that few calls go where nobody hears them. Who cannot be heard in one
// direction only is hung up on by the other end, so this holds for both.
const (
	beatEvery  = time.Second
	silentFor  = 6 * time.Second
	noMore     = ^uint32(0)
	lengthSize = 4
	atOnce     = 32 << 10 // bytes that are read, and of a long batch written, at once
	copied     = 16 << 10 // bytes that are copied so as to be written with their length
)

var errMute = errors.New("it has gone silent")

// newConnPipe takes conn over: hangUp closes it.
func newConnPipe(conn net.Conn) *connPipe {
	p := &connPipe{conn: conn, out: make([]byte, lengthSize, copied)}
	p.in = bufio.NewReaderSize(watched{p}, atOnce)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.beat = time.AfterFunc(beatEvery, p.pulse)
	return p
}

// watched reads from the connection and notes for how long.
type watched struct{ p *connPipe }

func (w watched) Read(b []byte) (int, error) {
	w.p.waits.Store(time.Now().UnixNano())
	n, err := w.p.conn.Read(b)
	w.p.waits.Store(0)
	return n, err
}

// pulse tells the peer that this end lives, and hangs up on one that does not say so.
func (p *connPipe) pulse() {
	if since := p.waits.Load(); since != 0 && time.Since(time.Unix(0, since)) > silentFor {
		p.end(true)
		return
	}
	if !p.sent.Swap(false) && p.writing.TryLock() { // who writes now will be heard anyway
		var zero [lengthSize]byte
		_, err := p.conn.Write(zero[:])
		p.writing.Unlock()
		if err != nil {
			p.hangUp()
			return
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.over {
		p.beat.Reset(beatEvery)
	}
}

func (p *connPipe) send(batch *[]byte, taken func()) error {
	defer buffers.Put(batch)
	p.writing.Lock()
	defer p.writing.Unlock()
	p.sent.Store(true)
	rest := *batch
	binary.LittleEndian.PutUint32(p.out[:lengthSize], uint32(len(rest)))
	first := rest[:min(len(rest), copied-lengthSize)]
	rest = rest[len(first):]
	if _, err := p.conn.Write(append(p.out[:lengthSize], first...)); err != nil {
		return err
	}
	for len(rest) > 0 {
		piece := rest[:min(len(rest), atOnce)]
		rest = rest[len(piece):]
		if _, err := p.conn.Write(piece); err != nil {
			return err
		}
		if taken != nil {
			taken()
		}
	}
	return nil
}

func (p *connPipe) closeSend() error {
	p.writing.Lock()
	defer p.writing.Unlock()
	p.sent.Store(true)
	binary.LittleEndian.PutUint32(p.out[:lengthSize], noMore)
	_, err := p.conn.Write(p.out[:lengthSize])
	return err
}

func (p *connPipe) receive() (mem.Buffer, error) {
	for {
		var head [lengthSize]byte
		if _, err := io.ReadFull(p.in, head[:]); err != nil {
			return nil, p.broke(err)
		}
		switch n := binary.LittleEndian.Uint32(head[:]); {
		case n == 0:
			continue
		case n == noMore:
			return nil, io.EOF
		case n > maxBatch:
			return nil, breach{fmt.Errorf("a batch of %d bytes, at most %d are allowed", n, maxBatch)}
		default:
			b := buffers.Get(int(n))
			if _, err := io.ReadFull(p.in, *b); err != nil {
				buffers.Put(b)
				return nil, p.broke(err)
			}
			return mem.NewBuffer(b, buffers), nil
		}
	}
}

// broke says why nothing more was read. The end of a connection without a word is no end of
// a lane.
func (p *connPipe) broke(err error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.silent:
		return errMute
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return errBrokeOff
	}
	return err
}

var errBrokeOff = errors.New("the connection broke off")

func (p *connPipe) hangUp() { p.end(false) }

func (p *connPipe) end(silent bool) {
	p.mu.Lock()
	if !p.over {
		p.over, p.silent = true, silent
		p.beat.Stop()
	}
	p.mu.Unlock()
	_ = p.conn.Close() // who reads and writes hears of it
}
