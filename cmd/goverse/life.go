package main

import (
	"fmt"
	"io"
	"net/http"

	"github.com/spf13/cobra"
)

// createObject and deleteObject begin and end an object's life, through a gate.

func (p *program) createObject() *cobra.Command {
	return p.life(http.MethodPut, "created", cobra.Command{
		Use:   "create Type/id",
		Short: "Create an object through a gate",
		Long: `create creates an object through a gate's HTTP port: its record is stored, if its type is stored.

It is needed for types that must be created before they are called; all others begin with their
first call. One that is there already stays as it is, and the exit code is 1.

If it fails, standard error has the code, the outcome and the text, as goverse call has.

With -o json: {"type", "id", "done": "created"}.`,
		Example: "  goverse create Account/alice",
	})
}

func (p *program) deleteObject() *cobra.Command {
	return p.life(http.MethodDelete, "deleted", cobra.Command{
		Use:   "delete Type/id",
		Short: "Delete an object through a gate, with what is stored of it",
		Long: `delete deletes an object through a gate's HTTP port: it ends in memory, and what is stored of it is
removed for ever. What was never there is deleted as well: that is no failure.

If it fails, standard error has the code, the outcome and the text, as goverse call has.

With -o json: {"type", "id", "done": "deleted"}.`,
		Example: "  goverse delete Account/alice",
	})
}

func (p *program) life(verb, done string, c cobra.Command) *cobra.Command {
	var gate string
	c.Args = takes("the object, Type/id,")
	c.ValidArgsFunction = p.completes(objectTypes)
	c.RunE = does(func(c *cobra.Command, args []string) error {
		r, ref, err := p.objectRequest(gate, args[0])
		if err != nil {
			return err
		}
		r.verb = verb
		if _, err := p.exchange(c.Context(), r); err != nil {
			return err
		}
		return p.show(lived{ref.Type, ref.ID, done})
	})
	p.gateFlags(&c, &gate)
	return &c
}

// lived is the answer of create and delete.
type lived struct {
	Type string `json:"type"`
	ID   string `json:"id"`
	Done string `json:"done"`
}

func (l lived) table(w io.Writer) { fmt.Fprintf(w, "%s %s/%s\n", l.Done, l.Type, clean(l.ID)) }
