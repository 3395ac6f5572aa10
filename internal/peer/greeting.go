package peer

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"

	"github.com/xiaonanln/goverse/internal/secure"
)

// greeting is the first that is said on a connection between members, as drawn in
// docs/format/wire.md:
//
//	caller  magic nonce from to
//	        welcome nonce proof        or why not, and the end
//	caller  proof
//	        welcome                    or why not, and the end
//
// Each proof is a keyed hash, by the secret, of all that was said, of whose it is, and
// of the encrypted connection that it was said on. Both nonces are fresh, so what was
// heard on one connection proves nothing on another; and nobody proves anything to a
// caller that looks for somebody else.
type greeting struct {
	lane     bool   // the connection is for a lane, and not for gRPC
	from, to string // advertised addresses
	nonce    [nonceBytes]byte
}

const (
	magic       = "GOVERSE1" // as long as the begin of HTTP/2's own that tells it apart
	laneMagic   = "GOVLANE1" // instead: what follows is a lane
	strangers   = "PRI * HT"
	nonceBytes  = 32
	proofBytes  = sha256.Size
	maxGreeting = 512 // of an address
)

// The answers to a greeting.
type answer byte

const (
	welcome      answer = iota
	notForYou           // the address is another process's, or the caller's certificate is not for its address
	notMember           // the proof is wrong
	answersCount = iota
)

var answerTexts = [answersCount]string{
	notForYou: "it says that it is another member than the one at this address, or that this process's certificate does not name its advertised address: check --advertise of both, and who else uses the address",
	notMember: "it does not accept this process as a member of its cluster: check that both have the same etcd and --etcd-prefix",
}

var (
	// errSpokeNot: the other end was gone before it said anything, as those that only
	// look whether the port is open. gRPC knows it as io.EOF.
	errSpokeNot = io.EOF
	// errStranger: it speaks HTTP/2 at once, as any gRPC client does.
	errStranger = errors.New("no greeting")
	errForeign  = errors.New("it does not speak the protocol of the nodes and gates; where this port is encrypted the others' have to be, too")
	errProof    = errors.New("it does not know the cluster's secret: it belongs to another cluster, or to none")
)

// bytes is the greeting as it is sent.
func (g *greeting) bytes() []byte {
	begin := magic
	if g.lane {
		begin = laneMagic
	}
	b := append([]byte(begin), g.nonce[:]...)
	for _, address := range []string{g.from, g.to} {
		b = append(b, byte(len(address)>>8), byte(len(address)))
		b = append(b, address...)
	}
	return b
}

// call greets the member at g.to and returns once it has proved to be one and taken this
// process for one.
func (g greeting) call(conn net.Conn, secret secure.Secret, binding []byte) error {
	if len(g.from) > maxGreeting || len(g.to) > maxGreeting {
		return fmt.Errorf("an address of more than %d bytes", maxGreeting)
	}
	rand.Read(g.nonce[:])
	if _, err := conn.Write(g.bytes()); err != nil {
		return err
	}
	if err := heedAnswer(conn, g.to); err != nil {
		return err
	}
	var theirs [nonceBytes + proofBytes]byte
	if _, err := io.ReadFull(conn, theirs[:]); err != nil {
		return fmt.Errorf("%s ended the connection amid its greeting: %w", g.to, err)
	}
	nonce := theirs[:nonceBytes]
	if !hmac.Equal(theirs[nonceBytes:], g.proof("answers", secret, nonce, binding)) {
		return fmt.Errorf("the process at %s is no member of this cluster: %w", g.to, errProof)
	}
	if _, err := conn.Write(g.proof("calls", secret, nonce, binding)); err != nil {
		return err
	}
	return heedAnswer(conn, g.to)
}

func heedAnswer(conn net.Conn, who string) error {
	var b [1]byte
	if _, err := io.ReadFull(conn, b[:]); err != nil {
		return fmt.Errorf("%s ended the connection instead of a greeting: is it a node of this version, and are both encrypted or neither? %w", who, err)
	}
	switch a := answer(b[0]); {
	case a == welcome:
		return nil
	case a < answersCount:
		return fmt.Errorf("%s refused: %s", who, answerTexts[a])
	}
	return fmt.Errorf("%s does not answer as a node does: is something else there?", who)
}

// heedGreeting reads a caller's greeting. errStranger: it said begin, as gRPC clients do.
func heedGreeting(conn net.Conn) (g greeting, begin []byte, err error) {
	begin = make([]byte, len(magic))
	switch _, err := io.ReadFull(conn, begin); {
	case errors.Is(err, io.EOF):
		return g, nil, errSpokeNot
	case err != nil:
		return g, nil, fmt.Errorf("it did not greet: %w", err)
	}
	switch string(begin) {
	case magic:
	case laneMagic:
		g.lane = true
	case strangers:
		return g, begin, errStranger
	default:
		return g, nil, errForeign
	}
	if _, err := io.ReadFull(conn, g.nonce[:]); err != nil {
		return g, nil, fmt.Errorf("it left amid its greeting: %w", err)
	}
	for _, address := range []*string{&g.from, &g.to} {
		if *address, err = heedAddress(conn); err != nil {
			return g, nil, err
		}
	}
	return g, nil, nil
}

func heedAddress(conn net.Conn) (string, error) {
	var size [2]byte
	if _, err := io.ReadFull(conn, size[:]); err != nil {
		return "", fmt.Errorf("it left amid its greeting: %w", err)
	}
	n := int(size[0])<<8 | int(size[1])
	if n == 0 || n > maxGreeting {
		return "", fmt.Errorf("an address of %d bytes: want 1 to %d", n, maxGreeting)
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(conn, b); err != nil {
		return "", fmt.Errorf("it left amid its greeting: %w", err)
	}
	for _, c := range b {
		if c <= ' ' || c > '~' {
			return "", errors.New("an address with characters that none has")
		}
	}
	return string(b), nil
}

// answer proves to the caller that this process is a member, and has it prove the same.
func (g greeting) answer(conn net.Conn, secret secure.Secret, binding []byte) error {
	var nonce [nonceBytes]byte
	rand.Read(nonce[:])
	mine := append([]byte{byte(welcome)}, nonce[:]...)
	if _, err := conn.Write(append(mine, g.proof("answers", secret, nonce[:], binding)...)); err != nil {
		return err
	}
	var theirs [proofBytes]byte
	if _, err := io.ReadFull(conn, theirs[:]); err != nil {
		return fmt.Errorf("%s gave no proof that it is a member; if it has another secret than this process it left: %w", g.from, err)
	}
	if !hmac.Equal(theirs[:], g.proof("calls", secret, nonce[:], binding)) {
		_ = refuse(conn, notMember) // it is sent away in any case
		return fmt.Errorf("it says that it is %s: %w", g.from, errProof)
	}
	return refuse(conn, welcome)
}

// refuse tells a caller how it was taken.
func refuse(conn net.Conn, a answer) error {
	_, err := conn.Write([]byte{byte(a)})
	return err
}

// proof is what only a member can say, as the one that role names.
func (g *greeting) proof(role string, secret secure.Secret, theirs, binding []byte) []byte {
	h := secret.Hash()
	h.Write([]byte("goverse member " + role + "\x00"))
	h.Write(g.bytes())
	h.Write(theirs)
	h.Write(binding)
	return h.Sum(nil)
}
