package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/internal/secure"
	"github.com/xiaonanln/goverse/object"
)

func (p *program) call() *cobra.Command {
	var gate string
	c := &cobra.Command{
		Use:   "call Type/id Method [JSON | -]",
		Short: "Call an object through a gate, with JSON",
		Long: `call calls a method of an object through a gate's HTTP port and prints the reply as JSON: indented,
or with -o json as it came, in a line.

The request is the method's message as JSON, {} if there is none; - reads it from standard input.

If the call fails, standard error has the code, the outcome and the text, as in
  OBJECT_NOT_FOUND (NotExecuted): ...
The outcome is NotExecuted, Executed, or Unknown: then look before you call again.`,
		Example: `  goverse call ChatRoom/general Join '{"userName":"guest"}'
  goverse call Counter/apples Add 5
  goverse call ChatRoom/general Send - < message.json
  goverse call ChatRoom/general Join --gate http://gate1.example:48000
  goverse call ChatRoom/general Join --gate gate1:48000 --gate-tls-ca certs/ca.pem`,
		Args: func(c *cobra.Command, args []string) error {
			if len(args) == 3 {
				return nil
			}
			return takes("the object, Type/id,", "the method")(c, args)
		},
		ValidArgsFunction: p.completes(objectTypes),
		RunE: does(func(c *cobra.Command, args []string) error {
			request, err := p.request(gate, args)
			if err != nil {
				return err
			}
			reply, err := p.exchange(c.Context(), request)
			if err != nil {
				return err
			}
			return p.showReply(reply)
		}),
	}
	p.gateFlags(c, &gate)
	return c
}

// maxReply bounds what is read of a reply: a gate's own bound is lower.
const maxReply = 64 << 20

// request is a call that is ready to be sent.
type request struct {
	gate string
	verb string // of HTTP
	url  string
	body []byte
	ops  bool // gate is a node's operations port
}

func (p *program) request(gate string, args []string) (request, error) {
	r, _, err := p.objectRequest(gate, args[0])
	if err != nil {
		return request{}, err
	}
	if err := object.ValidName(args[1]); err != nil {
		return request{}, usagef("method %q: %w", args[1], err)
	}
	r.verb, r.url = http.MethodPost, r.url+"/"+segment(args[1])
	r.body, err = p.body(args[2:])
	return r, err
}

// objectRequest is a request that still wants its verb, to the object that name names.
func (p *program) objectRequest(gate, name string) (request, object.Ref, error) {
	ref, err := parseRef(name)
	if err != nil {
		return request{}, ref, err
	}
	if slices.Contains([]string{"call", "create", "delete"}, ref.Type) {
		return request{}, ref, usagef("object %q: the path of a gate means something else by %s; such a type is called from programs only", name, ref.Type)
	}
	base, err := p.gateURL(gate)
	if err != nil {
		return request{}, ref, err
	}
	return request{gate: base, url: strings.Join([]string{base, "api/v1/objects", segment(ref.Type), segment(ref.ID)}, "/")}, ref, nil
}

// segment is one segment of a path. A gate takes . and .. as they are, but those on
// the way to it may not.
func segment(s string) string {
	if s == "." || s == ".." {
		return strings.ReplaceAll(s, ".", "%2E")
	}
	return url.PathEscape(s)
}

func (p *program) body(args []string) ([]byte, error) {
	if len(args) == 0 {
		return nil, nil
	}
	body := []byte(args[0])
	if args[0] == "-" {
		var err error
		if body, err = io.ReadAll(p.in); err != nil {
			return nil, fmt.Errorf("standard input: %w", err)
		}
	}
	if len(bytes.TrimSpace(body)) == 0 {
		return nil, nil
	}
	var any json.RawMessage
	if err := json.Unmarshal(body, &any); err != nil {
		return nil, usagef("the request is not JSON: %w; quote it for the shell, as '{\"userName\":\"guest\"}'", err)
	}
	if !utf8.Valid(body) {
		return nil, usagef("the request is not valid UTF-8")
	}
	return body, nil
}

// grace is how much later than the gate the command line gives up, so that the gate's
// own words about a call that takes too long arrive.
const grace = time.Second

// exchange makes the call.
func (p *program) exchange(ctx context.Context, r request) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, p.flags.timeout+grace)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, r.verb, r.url, bytes.NewReader(r.body))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", r.gate, err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("X-Goverse-Timeout", p.flags.timeout.String())
	way, keys, err := p.gateWay(req.URL)
	if err != nil {
		return nil, err
	}
	client := http.Client{Transport: way, CheckRedirect: asItCame}
	resp, err := client.Do(req)
	if err != nil {
		return nil, p.unanswered(ctx, r, keys, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxReply+1))
	switch {
	case err != nil:
		return nil, p.unanswered(ctx, r, keys, err)
	case len(body) > maxReply:
		return nil, fmt.Errorf("%s: the reply has more than %d bytes (%v)", r.gate, maxReply, fault.Executed)
	}
	if err := understood(r, resp.StatusCode, body); err != nil {
		return nil, p.plainly(ctx, r, err)
	}
	return body, nil
}

// asItCame follows no redirect: a gate sends none.
func asItCame(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// understood is the error that a gate answered with, or that it is no gate.
func understood(r request, status int, body []byte) error {
	if (status == http.StatusOK || status == http.StatusCreated) && json.Valid(body) {
		return nil
	}
	var f struct {
		Error   string `json:"error"`
		Code    string `json:"code"`
		Outcome string `json:"outcome"`
	}
	if json.Unmarshal(body, &f) != nil || f.Code == "" {
		if r.ops {
			return notAGate{fmt.Errorf("%s answers with HTTP %d and no words of a node's (%v): is it a node's operations port (--ops-listen)?", r.gate, status, fault.OutcomeUnknown)}
		}
		return notAGate{fmt.Errorf("%s answers with HTTP %d and no words of a gate's (%v): is it a gate's HTTP port?", r.gate, status, fault.OutcomeUnknown)}
	}
	return fmt.Errorf("%s (%s): %s", f.Code, cmp.Or(f.Outcome, fault.OutcomeUnknown.String()), f.Error)
}

// notAGate is the error of an answer that no gate gives.
type notAGate struct{ error }

// unanswered says what is known of a call that got no reply.
func (p *program) unanswered(ctx context.Context, r request, keys *secure.Files, err error) error {
	var refused *net.OpError
	var wrapped *url.Error
	if errors.As(err, &wrapped) {
		err = wrapped.Err // which does not repeat the URL
	}
	switch {
	case unshaken(err):
		return fmt.Errorf("%s (%v): %w", r.gate, fault.NotExecuted, keys.Explain(err))
	case errors.As(err, &refused) && refused.Op == "dial" && r.ops:
		return fmt.Errorf("no node's operations port answers at %s (%v): start a node with --ops-listen, or name its port with --ops or GOVERSE_OPS: %w", r.gate, fault.NotExecuted, err)
	case errors.As(err, &refused) && refused.Op == "dial":
		return fmt.Errorf("no gate answers at %s (%v): start one, or name it with --gate or GOVERSE_GATE: %w", r.gate, fault.NotExecuted, err)
	case ctx.Err() != nil:
		return fmt.Errorf("%s did not answer within %v (%v); --timeout makes it longer", r.gate, p.flags.timeout, fault.OutcomeUnknown)
	}
	return fmt.Errorf("%s: the connection was lost (%v): %w", r.gate, fault.OutcomeUnknown, err)
}

// showReply prints a reply: for people indented.
func (p *program) showReply(reply []byte) error {
	var b bytes.Buffer
	if p.flags.output == "json" || json.Indent(&b, reply, "", "  ") != nil {
		b.Reset()
		b.Write(reply)
	}
	_, err := p.out.Write(append(bytes.TrimSpace(b.Bytes()), '\n'))
	return err
}
