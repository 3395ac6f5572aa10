package sharding

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"unicode/utf8"
)

// Encode is the record as it is written to etcd, with a nonce that no other write
// has, so that no two writes ever leave equal bytes behind.
func (s *Shard) Encode(nonce string) []byte {
	b := make([]byte, 0, 64+len(s.Current)+len(s.Registration)+len(s.Target)+len(s.Handover)+len(s.extra))
	b = append(b, `{"e":`...)
	b = strconv.AppendUint(b, s.Epoch, 10)
	b = appendMember(b, `,"c":`, s.Current)
	b = appendMember(b, `,"ci":`, s.Registration)
	b = appendMember(b, `,"t":`, s.Target)
	b = appendMember(b, `,"h":`, s.Handover)
	b = appendMember(b, `,"n":`, nonce)
	b = append(b, s.extra...)
	return append(b, '}')
}

func appendMember(b []byte, name, value string) []byte {
	b = append(b, name...)
	if plain(value) {
		b = append(b, '"')
		b = append(b, value...)
		return append(b, '"')
	}
	quoted, err := json.Marshal(value)
	if err != nil {
		panic(err) // a string always marshals
	}
	return append(b, quoted...)
}

// plain says whether value stands in JSON as it is.
func plain[S string | []byte](value S) bool {
	for i := range len(value) {
		if c := value[i]; c < ' ' || c > '~' || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' {
			return false
		}
	}
	return true
}

// Decoder reads records and lets those it reads share their names. The zero value
// is ready. It is for one goroutine.
type Decoder struct {
	names map[string]string
}

// Decode reads the record of a shard. It keeps raw, which must not change. Members
// that it does not know are kept and written back.
func (d *Decoder) Decode(id ID, raw []byte) (*Shard, error) {
	s := &Shard{ID: id, raw: raw}
	if d.canonical(s, raw) {
		return s, s.valid()
	}
	*s = Shard{ID: id, raw: raw}
	if err := d.general(s, raw); err != nil {
		return nil, fmt.Errorf("shard %d: %w", id, err)
	}
	return s, s.valid()
}

func (s *Shard) valid() error {
	switch {
	case (s.Current == "") != (s.Registration == ""):
		return fmt.Errorf("shard %d: a holder is an address with a registration, not %q with %q", s.ID, s.Current, s.Registration)
	case s.Current != "" && s.Epoch == 0:
		return fmt.Errorf("shard %d: a holder without an epoch", s.ID)
	case s.Epoch > MaxEpoch:
		return fmt.Errorf("shard %d: epoch %d is out of range", s.ID, s.Epoch)
	}
	return nil
}

// canonical reads what Encode writes when nothing needs an escape, which is nearly
// every record; it takes a tenth of the time that general does.
func (d *Decoder) canonical(s *Shard, b []byte) bool {
	b, ok := bytes.CutPrefix(b, []byte(`{"e":`))
	if !ok {
		return false
	}
	digits := bytes.IndexByte(b, ',')
	if digits < 1 || digits > 19 || b[0] == '0' && digits > 1 {
		return false
	}
	for _, c := range b[:digits] {
		if c < '0' || c > '9' {
			return false
		}
		s.Epoch = s.Epoch*10 + uint64(c-'0')
	}
	b = b[digits:]
	var nonce string
	for _, m := range [...]struct {
		name  string
		value *string
	}{{`,"c":"`, &s.Current}, {`,"ci":"`, &s.Registration}, {`,"t":"`, &s.Target}, {`,"h":"`, &s.Handover}, {`,"n":"`, &nonce}} {
		if len(b) < len(m.name) || string(b[:len(m.name)]) != m.name {
			return false
		}
		b = b[len(m.name):]
		end := bytes.IndexByte(b, '"')
		if end < 0 || !plain(b[:end]) {
			return false
		}
		if m.value != &nonce {
			*m.value = d.share(b[:end])
		}
		b = b[end+1:]
	}
	return len(b) == 1 && b[0] == '}'
}

// general reads any JSON object.
func (d *Decoder) general(s *Shard, raw []byte) error {
	if !utf8.Valid(raw) {
		return errors.New("not valid UTF-8")
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return errors.New("not a JSON object")
	}
	seen := map[string]bool{}
	for dec.More() {
		t, err := dec.Token()
		if err != nil {
			return err
		}
		name := t.(string) // within an object a token before a value is its name
		if seen[name] {
			return fmt.Errorf("%q stands there twice", name)
		}
		seen[name] = true
		if err := d.member(s, name, dec); err != nil {
			return fmt.Errorf("%q: %w", name, err)
		}
	}
	if _, err := dec.Token(); err != nil {
		return err
	}
	if _, err := dec.Token(); err != io.EOF {
		return errors.New("more than one JSON value")
	}
	return nil
}

func (d *Decoder) member(s *Shard, name string, dec *json.Decoder) error {
	var nonce string
	switch name {
	case "e":
		return dec.Decode(&s.Epoch)
	case "c":
		return d.text(&s.Current, dec)
	case "ci":
		return d.text(&s.Registration, dec)
	case "t":
		return d.text(&s.Target, dec)
	case "h":
		return d.text(&s.Handover, dec)
	case "n":
		return d.text(&nonce, dec)
	}
	var value json.RawMessage
	if err := dec.Decode(&value); err != nil {
		return err
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, value); err != nil {
		return err
	}
	s.extra = string(appendMember([]byte(s.extra), ",", name)) + ":" + compact.String()
	return nil
}

func (d *Decoder) text(to *string, dec *json.Decoder) error {
	if err := dec.Decode(to); err != nil {
		return err
	}
	*to = d.share([]byte(*to))
	return nil
}

func (d *Decoder) share(b []byte) string {
	if len(b) == 0 {
		return ""
	}
	if s, ok := d.names[string(b)]; ok {
		return s
	}
	if d.names == nil {
		d.names = map[string]string{}
	}
	s := string(b)
	d.names[s] = s
	return s
}

// Lost is the record after its key vanished (raw nil) or became unreadable: the last
// good fields, and the bytes that stand there now.
func (s *Shard) Lost(raw []byte) *Shard {
	next := *s
	next.raw, next.Damaged = raw, true
	return &next
}
