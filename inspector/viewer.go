package inspector

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/coder/websocket"
)

// patience is how long a viewer may leave a frame unread.
const patience = 10 * time.Second

// heartbeat is sent in silence, so that a viewer knows that it is still told.
const heartbeat = 5 * time.Second

func (i *Inspector) socket(w http.ResponseWriter, r *http.Request) {
	conn, err := websocket.Accept(w, r, &websocket.AcceptOptions{InsecureSkipVerify: true, CompressionMode: websocket.CompressionContextTakeover})
	if err != nil {
		return // Accept has answered; the origin was checked before
	}
	defer conn.CloseNow()
	ctx := conn.CloseRead(r.Context()) // a viewer says nothing
	err = i.serve(ctx, ParsePlace(r.URL.Query().Get("after")), func(frame []byte) error {
		ctx, cancel := context.WithTimeout(ctx, patience)
		defer cancel()
		return conn.Write(ctx, websocket.MessageText, frame)
	})
	if err == nil {
		_ = conn.Close(websocket.StatusGoingAway, "the inspector is stopping") // or the viewer has left
	}
}

func (i *Inspector) events(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("X-Accel-Buffering", "no")
	control := http.NewResponseController(w)
	after := r.Header.Get("Last-Event-ID")
	if after == "" {
		after = r.URL.Query().Get("after")
	}
	// It ends with the request; the page knows its place from the frames.
	_ = i.serve(r.Context(), ParsePlace(after), func(frame []byte) error {
		if err := control.SetWriteDeadline(time.Now().Add(patience)); err != nil {
			return err
		}
		if _, err := fmt.Fprintf(w, "data: %s\n\n", frame); err != nil {
			return err
		}
		return control.Flush()
	})
}

// serve sends frames from a place on until ctx ends or one cannot be sent.
func (i *Inspector) serve(ctx context.Context, p Place, send func([]byte) error) error {
	defer i.look()()
	var rated uint64
	for {
		frames, next, changed := i.feed.After(p)
		p = next
		rates, n := i.feed.Rates(rated)
		if rated = n; rates != nil {
			frames = append(frames, rates)
		}
		for _, frame := range frames {
			if err := send(frame); err != nil {
				return err
			}
		}
		silence, cancel := context.WithTimeout(ctx, heartbeat)
		select {
		case <-changed:
			cancel()
		case <-silence.Done():
			cancel()
			if ctx.Err() != nil {
				return nil
			}
			if err := send(encode(map[string]any{"op": "heartbeat", "at": time.Now().UnixMilli()})); err != nil {
				return err
			}
		}
	}
}
