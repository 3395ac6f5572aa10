package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"sync"

	"github.com/coder/websocket"

	"github.com/xiaonanln/goverse/bench/continuity/witness"
)

// socketDoor is the WebSocket of the gate at an address.
type socketDoor struct{ address string }

func (d socketDoor) open(ctx context.Context, g greeting) (line, error) {
	t := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, address string) (net.Conn, error) {
		return dial(ctx, address, g.deaf)
	}}
	url := "ws://" + d.address + "/api/v1/ws"
	if !g.plain {
		url += "?hello=1"
	}
	conn, _, err := websocket.Dial(ctx, url, &websocket.DialOptions{HTTPClient: &http.Client{Transport: t}})
	if err != nil {
		return nil, err
	}
	conn.SetReadLimit(1 << 20)
	l := &socketLine{conn: conn}
	l.life, l.end = context.WithCancel(context.Background())
	if g.plain {
		return l, nil
	}
	hello := fmt.Sprintf(`{"op":"hello","token":%q,"last":%d}`, g.token, g.last)
	if err := l.write(ctx, hello); err != nil {
		l.hangUp()
		return nil, err
	}
	return l, nil
}

// socketLine is a WebSocket.
type socketLine struct {
	conn *websocket.Conn
	life context.Context
	end  context.CancelFunc
	mu   sync.Mutex // one frame at a time
}

func (l *socketLine) write(ctx context.Context, frame string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.conn.Write(ctx, websocket.MessageText, []byte(frame))
}

func (l *socketLine) say(a ask) {
	var frame string
	switch {
	case a.kind == "ack":
		frame = fmt.Sprintf(`{"op":"ack","last":%d}`, a.number)
	case a.kind == "subscribe":
		frame = fmt.Sprintf(`{"op":"subscribe","seq":%d,"type":%q,"id":%q}`, a.number, boardType, a.board)
	default:
		frame = fmt.Sprintf(`{"op":"call","seq":%d,"type":%q,"id":%q,"method":%q,"request":%d}`,
			a.number, boardType, a.board, a.method, a.reader)
	}
	_ = l.write(l.life, frame) // the reader hears of a connection that is gone
}

func (l *socketLine) hangUp() {
	l.end()
	_ = l.conn.CloseNow() // it may be closed already
}

func (l *socketLine) leave() {
	_ = l.conn.Close(websocket.StatusNormalClosure, "") // the gate may be gone
	l.end()
}

// socketFrame is any frame from the gate.
type socketFrame struct {
	Op, ClientID, Token, Reason, Error string
	Resumed                            bool
	Seq, From, To, Subscription        uint64
	Message, Snapshot, Change          *string
	Payload                            string
	Version                            uint64 `json:",string"`
	Reset                              bool
	Response                           json.RawMessage
}

func (l *socketLine) hear() ([]word, error) {
	_, data, err := l.conn.Read(l.life)
	if err != nil {
		return nil, err
	}
	var f socketFrame
	if err := json.Unmarshal(data, &f); err != nil {
		return nil, fmt.Errorf("the gate says %.200q: %w", data, err)
	}
	w, err := f.word()
	if err != nil {
		return nil, fmt.Errorf("the gate says %.200q: %w", data, err)
	}
	return []word{w}, nil
}

func (f *socketFrame) word() (w word, err error) {
	switch f.Op {
	case "register":
		return word{kind: welcomed, client: f.ClientID, token: f.Token, resumed: f.Resumed}, nil
	case "heartbeat":
		return word{kind: silence}, nil
	case "goodbye":
		return word{kind: goodbye, why: f.Error}, nil
	case "unsubscribed":
		return word{kind: endedSub, why: f.Error}, nil
	case "reset":
		return word{kind: lost, reset: witness.Reset{From: f.From, To: f.To, Reason: f.Reason}}, nil
	case "reply":
		return f.answer()
	case "message":
		w = word{kind: pushed, seq: f.Seq}
		return w, w.hears(f.Message)
	case "published":
		w = word{kind: published, version: f.Version, snapshot: f.Snapshot != nil, again: f.Reset}
		if w.snapshot {
			return w, w.hears(f.Snapshot)
		}
		return w, w.hears(f.Change)
	}
	return w, fmt.Errorf("op %q is not known", f.Op)
}

func (w *word) hears(text *string) (err error) {
	if text == nil {
		return errors.New("it has no message")
	}
	w.said, err = parseSaying(*text)
	return err
}

// answer reads the reply to a call, which is a number, or to a subscribe.
func (f *socketFrame) answer() (word, error) {
	w := word{kind: answered, call: f.Seq, why: f.Error}
	if w.why != "" || len(f.Response) == 0 || f.Response[0] != '"' {
		return w, nil
	}
	var text string
	err := json.Unmarshal(f.Response, &text)
	if err == nil {
		w.count, err = strconv.ParseInt(text, 10, 64)
	}
	return w, err
}
