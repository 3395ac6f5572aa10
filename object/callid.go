package object

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"time"
)

// NewCallID mints an id for a call: a UUID of version 7, which carries the time.
func NewCallID() string { return NewCallIDAt(time.Now()) }

// NewCallIDAt is NewCallID for whoever knows the time better than this machine.
func NewCallIDAt(now time.Time) string {
	var id [16]byte
	rand.Read(id[:]) // never fails
	ms := uint64(now.UnixMilli())
	binary.BigEndian.PutUint16(id[:], uint16(ms>>32))
	binary.BigEndian.PutUint32(id[2:], uint32(ms))
	id[6], id[8] = id[6]&0x0f|0x70, id[8]&0x3f|0x80
	text := hex.EncodeToString(id[:])
	return text[:8] + "-" + text[8:12] + "-" + text[12:16] + "-" + text[16:20] + "-" + text[20:]
}

// CallIDTime is when a UUID of version 7 was minted, by its minter's clock; not ok for
// any other id.
func CallIDTime(id string) (minted time.Time, ok bool) {
	if len(id) != 36 || id[8] != '-' || id[13] != '-' || id[18] != '-' || id[23] != '-' || id[14] != '7' {
		return time.Time{}, false
	}
	raw, err := hex.DecodeString(id[:8] + id[9:13] + id[14:18] + id[19:23] + id[24:])
	if err != nil || raw[8]>>6 != 2 {
		return time.Time{}, false
	}
	ms := uint64(binary.BigEndian.Uint16(raw))<<32 | uint64(binary.BigEndian.Uint32(raw[2:]))
	return time.UnixMilli(int64(ms)), true
}

// ValidCallID checks a call's id: as an object's.
func ValidCallID(id string) error {
	if id == "" {
		return errors.New("the call id is empty")
	}
	return valid("call id", id)
}

// ChildCallID is the id of the nth call of a method of an object that is made from
// within the call parent. It is the same each time parent runs.
func ChildCallID(parent string, nth uint64, to Ref, method string) string {
	h := sha256.New()
	var n [8]byte
	for _, part := range []string{parent, to.Type, to.ID, method} {
		binary.BigEndian.PutUint64(n[:], uint64(len(part)))
		h.Write(n[:])
		h.Write([]byte(part))
	}
	binary.BigEndian.PutUint64(n[:], nth)
	h.Write(n[:])
	return "child-" + base64.RawURLEncoding.EncodeToString(h.Sum(nil)[:18])
}
