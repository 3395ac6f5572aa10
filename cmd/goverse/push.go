package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"

	"github.com/spf13/cobra"
)

func (p *program) push() *cobra.Command {
	var port string
	var all bool
	c := &cobra.Command{
		Use:   "push CLIENT_ID MESSAGE-JSON | push --all MESSAGE-JSON",
		Short: "Push a message to a connected client, or to all",
		Long: `push sends a message to a client that is connected to any gate, or with --all to everybody, as an
object does. The message is JSON, with its type in "@type"; - reads it from standard input.

It goes through the operations port of a node whose program has that type (--ops-listen there), which
only takes orders from its own machine: run it there. Who ordered it is in that node's log, and on the
inspector's timeline.

That it was pushed does not say that somebody got it: a client that has left gets nothing, and that is no error.

If it fails, standard error has the code, the outcome and the text, as goverse call has.

With -o json: {"client", "all": bool, "done": "pushed"}.`,
		Example: `  goverse push gate1:49000/k3v9 '{"@type":"type.googleapis.com/chat.ChatMessage","message":"hello"}'
  goverse push --all --ops localhost:47100 - < message.json`,
		Args: func(c *cobra.Command, args []string) error {
			if all {
				return takes("the message")(c, args)
			}
			return takes("the client's id, or --all,", "the message")(c, args)
		},
		RunE: does(func(c *cobra.Command, args []string) error {
			to := pushTo{All: all, Done: "pushed"}
			if !all {
				to.Client = args[0]
			}
			r, err := p.pushRequest(port, to, args[len(args)-1:])
			if err != nil {
				return err
			}
			if _, err := p.exchange(c.Context(), r); err != nil {
				return err
			}
			return p.show(to)
		}),
	}
	c.Flags().StringVar(&port, "ops", "http://localhost:48100", "a node's operations port on this machine, `URL` or host:port")
	c.Flags().BoolVar(&all, "all", false, "to every client of every gate")
	return c
}

// pushRequest is an order to push, ready to be sent.
func (p *program) pushRequest(port string, to pushTo, message []string) (r request, err error) {
	r.ops = true
	if r.gate, err = p.portURL("--ops", port); err != nil {
		return r, err
	}
	body, err := p.body(message)
	if err != nil {
		return r, err
	}
	if body == nil {
		return r, usagef(`the message is empty: want JSON with its type, as {"@type":"type.googleapis.com/chat.ChatMessage"}`)
	}
	r.verb, r.url = http.MethodPost, r.gate+"/api/v1/push"
	r.body, err = json.Marshal(struct {
		Client   string          `json:"client,omitempty"`
		All      bool            `json:"all,omitempty"`
		Message  json.RawMessage `json:"message"`
		Operator string          `json:"operator,omitempty"`
	}{to.Client, to.All, body, p.operator})
	return r, err
}

// pushTo is the answer of push.
type pushTo struct {
	Client string `json:"client"`
	All    bool   `json:"all"`
	Done   string `json:"done"`
}

func (t pushTo) table(w io.Writer) {
	to := "all clients"
	if !t.All {
		to = clean(t.Client)
	}
	fmt.Fprintf(w, "%s to %s\n", t.Done, to)
}
