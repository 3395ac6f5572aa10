//go:build unix

package e2e

import (
	"fmt"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
)

// fillIn sets what a field of the page holds, as a person's typing would.
func (b *tab) fillIn(id, value string) {
	b.t.Helper()
	eval[bool](b, fmt.Sprintf(`(() => { const e = document.getElementById(%q); e.value = %q; e.dispatchEvent(new Event("input", {bubbles: true})); e.dispatchEvent(new Event("change", {bubbles: true})); return true })()`, id, value))
}

// answers waits until the page shows how a call ended, and what it answered.
func (b *tab) answers(state, body string) {
	b.t.Helper()
	b.until(fmt.Sprintf("it shows %s %s", state, body), fmt.Sprintf(
		`document.getElementById("state").textContent.startsWith(%q) && document.getElementById("answer").textContent.replace(/\s+/g, "").includes(%q)`, state, body))
}

// A person calls an object from the page that every gate has, and takes the curl line along.
func TestTryPage(t *testing.T) {
	t.Parallel()
	s := newSite(t, counterBinary)
	s.start(t)
	b := openTab(t, startBrowser(t), "ann")
	b.do("opens the page", chromedp.Navigate(s.url("/api/v1/try")), chromedp.WaitEnabled(chromedp.CSS("#send")))
	b.until("it says what there is", `document.getElementById("about").textContent === "1 type"`)
	if got := eval[string](b, `Array.from(document.getElementById("method").options, (o) => o.value).join()`); got != "Add,Read,(create),(delete)" {
		t.Errorf("methods %s", got)
	}
	if got := eval[string](b, `document.getElementById("request").value.replace(/\s+/g, "")`); got != `{"amount":"0"}` {
		t.Errorf("the editor begins with %s", got)
	}

	b.fillIn("id", "it's/one")
	b.fillIn("request", `{"amount": 5}`)
	b.do("calls", chromedp.Click(chromedp.CSS("#send")))
	b.answers("200 · OK · outcome Executed", `{"value":"5"}`)
	line := eval[string](b, `document.getElementById("curl").textContent`)
	if got := curl(t, line); got != `{"value":"10"}` {
		t.Errorf("%s\nanswers %s", line, got)
	}

	b.fillIn("method", "Read")
	b.do("asks for GET", chromedp.Click(chromedp.CSS("#get")), chromedp.Focus(chromedp.CSS("#request")))
	eval[bool](b, `document.dispatchEvent(new KeyboardEvent("keydown", {key: "Enter", ctrlKey: true, cancelable: true}))`)
	b.answers("200 · OK", `{"value":"10"}`)
	line = eval[string](b, `document.getElementById("curl").textContent`)
	if got := curl(t, line); got != `{"value":"10"}` || strings.Contains(line, "-d") {
		t.Errorf("%s\nanswers %s", line, got)
	}
	b.wantNoProblems(false)

	b.fillIn("method", "Add")
	b.fillIn("request", `{"amount"`)
	b.until("it says that this is no JSON", `document.getElementById("problem").textContent.startsWith("The request is no JSON")`)
	b.fillIn("request", `{"sum": 5}`)
	b.do("calls", chromedp.Click(chromedp.CSS("#send")))
	b.answers("400 · INVALID_BODY · outcome NotExecuted", `"path":"Counter/it's/one.Add"`)
	b.do("takes an example", chromedp.Click(chromedp.CSS("#example")))
	b.until("it is there", `document.getElementById("request").value.includes("amount")`)

	// The page's address is this very call.
	b.picture("try-light")
	b.do("reloads in the dark", prefersDark(), chromedp.Reload(), chromedp.WaitEnabled(chromedp.CSS("#send")))
	b.until("it is as it was", `document.getElementById("id").value === "it's/one" && document.getElementById("method").value === "Add"`)
	b.picture("try-dark")
	if got := eval[string](b, `Array.from(document.querySelectorAll("input, select, textarea, button")).filter((e) => !e.labels?.length && !e.textContent.trim()).map((e) => e.id).join()`); got != "" {
		t.Errorf("without a label: %s", got)
	}
}
