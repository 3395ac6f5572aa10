//go:build unix

package e2e

import (
	"context"
	"fmt"
	"testing"

	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/chromedp"
)

// typed is what the keyboard writes where the focus is.
func typed(text string) chromedp.Action[chromedp.Void] {
	return command(input.InsertText, input.InsertTextParams{Text: text})
}

// The field at the top finds nodes, gates, types, shards and objects, by keyboard alone.
func testFinding(t *testing.T, browser context.Context) {
	p := newPretence(t, "-nodes", "12", "-objects", "9000")
	b := openTab(t, browser, "who looks for something")
	b.do("opens the page", screen(1440, 900), chromedp.Navigate(p.url))
	b.until("rates have come", `document.querySelectorAll("#overview tr[data-type]").length === 8`)
	results := `[...document.querySelectorAll("#results li")].map((li) => [...li.children].map((c) => c.textContent).join(" "))`
	for _, c := range []struct{ text, first, hash string }{
		{"10.0.0.7", "node 10.0.0.7:47000 ready", "#/overview?sel=node:10.0.0.7%3A47000"},
		{"gate", "gate 10.0.9.1:48000 ", "#/graph?sel=gate:10.0.9.1%3A48000"},
		{"leaderb", "type Leaderboard ", "#/graph?sel=type:Leaderboard"},
		{"shard 4711", "shard 4711 held", "#/shards?sel=shard:4711"},
		{"chatroom-6-000", "object ChatRoom/chatroom-6-0000 10.0.0.7:47000", "#/objects?sel=object:ChatRoom%2Fchatroom-6-0000"},
		{"User/user-2-001", "object User/user-2-0010 10.0.0.3:47000", "#/objects?sel=object:User%2Fuser-2-0010"},
	} {
		b.do("presses /", press("/", 191))
		b.until("the field is ready", `document.activeElement.id === "query"`)
		eval[bool](b, `document.getElementById("query").select() || true`)
		b.do("writes", typed(c.text))
		b.until("it is found", fmt.Sprintf(`%s[0] === %q && document.getElementById("query").getAttribute("aria-expanded") === "true"`, results, c.first))
		if c.text == "leaderb" {
			b.picture("inspector-search")
		}
		b.do("goes down to it", press("ArrowDown", 40))
		b.until("it is marked", `document.getElementById("query").getAttribute("aria-activedescendant") === "result-0" && document.getElementById("result-0").getAttribute("aria-selected") === "true"`)
		b.do("opens it", press("Enter", 13), enterUp())
		b.until("it is open", fmt.Sprintf(`location.hash === %q && document.getElementById("results").hidden`, c.hash))
	}
	b.do("presses /, and Escape", press("/", 191), press("Escape", 27))
	b.until("the selection is still there", `location.hash.includes("sel=object:")`)
	b.wantNoProblems(false)
	testFilters(b, p)
	testOverviewClicks(b, p)
}

// The filter of the list of objects is in the address.
func testFilters(b *tab, p *pretence) {
	b.t.Helper()
	list := func(first string, fields string) string {
		return fmt.Sprintf(`document.querySelector("#objects tr[data-object]")?.dataset.object === %q && [...document.querySelectorAll("#objects form input")].map((i) => i.value).join("|") === %q`, first, fields)
	}
	b.do("goes to the objects of a link", chromedp.Navigate(p.url+"#/objects?type=Inbox&node=10.0.0.2:47000"))
	b.until("they are listed", list("Inbox/inbox-1-0000", "Inbox|10.0.0.2:47000|"))
	b.do("opens one", chromedp.Click(chromedp.CSS("#objects tr[data-object] a")))
	b.until("the filter stays", `location.hash === "#/objects?type=Inbox&node=10.0.0.2%3A47000&sel=object:Inbox%2Finbox-1-0000"`)
	b.do("closes it", chromedp.Click(chromedp.CSS("#close")))
	b.until("the filter stays", `location.hash === "#/objects?type=Inbox&node=10.0.0.2%3A47000" && document.getElementById("side").hidden`)
	b.do("filters further", chromedp.Focus(chromedp.CSS("#objects input[name=prefix]")), typed("inbox-1-001"), press("Enter", 13), enterUp())
	b.until("it is in the address", `location.hash === "#/objects?type=Inbox&node=10.0.0.2%3A47000&prefix=inbox-1-001" && `+list("Inbox/inbox-1-0010", "Inbox|10.0.0.2:47000|inbox-1-001"))
	eval[bool](b, `history.back() || true`)
	b.until("one can go back", list("Inbox/inbox-1-0000", "Inbox|10.0.0.2:47000|"))
	b.wantNoProblems(false)
}

// What is pressed while the overview is drawn anew is what was pressed.
func testOverviewClicks(b *tab, p *pretence) {
	b.t.Helper()
	b.do("goes to the overview", chromedp.Navigate(p.url+"#/overview"))
	b.until("it is there", `!document.getElementById("overview").hidden && document.querySelectorAll("#overview tr[data-node]").length === 12`)
	eval[bool](b, `(() => { window.seen = [...document.querySelectorAll("#overview *")]; return true; })()`)
	at := eval[spot](b, `(() => { const box = document.querySelector("tr[data-node='10.0.0.4:47000'] td:nth-child(7)").getBoundingClientRect(); return { X: box.left + 9, Y: box.top + 9 }; })()`)
	button := func(kind input.DispatchMouseEventType) chromedp.Action[chromedp.Void] {
		return command(input.DispatchMouseEvent, input.DispatchMouseEventParams{Type: kind, X: at.X, Y: at.Y, Button: input.MouseButtonLeft, ClickCount: 1})
	}
	b.do("presses the button of the mouse", pointAt(at.X, at.Y), button(input.DispatchMouseEventTypeMousePressed))
	eval[bool](b, `(() => { const { cluster } = document.getElementById("graph").view; for (let i = 0; i < 3; i++) cluster.dispatchEvent(new Event("rates")); return true; })()`)
	b.do("lets it go", button(input.DispatchMouseEventTypeMouseReleased))
	b.until("the node is open", `location.hash === "#/overview?sel=node:10.0.0.4%3A47000" && document.getElementById("side").innerText.includes("10.0.0.4:47000")`)
	b.until("rates go on", `(() => { const { cluster } = document.getElementById("graph").view; cluster.rates.nodes[0].calls = 123456; cluster.dispatchEvent(new Event("rates")); return document.querySelector("#overview td[data-rate=calls]") !== null && document.getElementById("overview").innerText.includes("123.5k"); })()`)
	if gone := eval[int](b, `window.seen.filter((e) => !e.isConnected).length`); gone > 0 {
		b.t.Errorf("%d elements of the overview were put in anew", gone)
	}
	b.wantNoProblems(false)
}
