package fault

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write docs/reference/errors.md anew")

const referenceHead = `<!-- Written by internal/fault; go test ./internal/fault -update writes it anew. -->
# Errors

What goes wrong has one of these kinds, whichever door it comes back by. A JSON error has the code, the outcome, and the kind begins its text
(` + "`{\"error\":\"… not found: …\",\"code\":\"OBJECT_NOT_FOUND\",\"outcome\":\"NotExecuted\"}`" + `). The outcome says whether the call ran, unless an error itself says
otherwise: NotExecuted, Executed or Unknown. CALL_FAILED is CREATE_FAILED and DELETE_FAILED where that was asked for. An error with a
gRPC status of a method's own passes through as it is. *Rerouted* are calls that are repeated by themselves, within their deadline,
once the cluster's picture has changed.

| kind | gRPC | HTTP | code | outcome | rerouted |
|---|---|---|---|---|---|
`

func reference() string {
	var b strings.Builder
	b.WriteString(referenceHead)
	for _, r := range Table() {
		rerouted := ""
		if r.Reroutes {
			rerouted = "yes"
		}
		fmt.Fprintf(&b, "| %s | %s | %d | `%s` | %s | %s |\n", r.Name, r.GRPC, r.HTTP, r.Code, r.Outcome, rerouted)
	}
	return b.String()
}

// docs/reference/errors.md is what the table says.
func TestReference(t *testing.T) {
	const path = "../../docs/reference/errors.md"
	if *update {
		if err := os.WriteFile(path, []byte(reference()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if text, err := os.ReadFile(path); err != nil || string(text) != reference() {
		t.Errorf("%s is not what the table says; go test ./internal/fault -update writes it (%v)", path, err)
	}
}
