//go:build unix

package e2e

import (
	"fmt"
	"strings"

	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/chromedp"
)

// withShift is a key that goes down while Shift is held.
func withShift(key string, code int64) chromedp.Action[chromedp.Void] {
	return command(input.DispatchKeyEvent, input.DispatchKeyEventParams{
		Type: input.DispatchKeyEventTypeRawKeyDown, Key: key, Code: key, WindowsVirtualKeyCode: code, NativeVirtualKeyCode: code, Modifiers: 8,
	})
}

// choose takes what is not the holder of a shard from the list of nodes.
func (b *tab) choose(shard int) (node string) {
	b.t.Helper()
	node = eval[string](b, fmt.Sprintf(`(() => {
		const list = document.getElementById("order-node"), { cluster } = document.getElementById("graph").view;
		list.value = [...list.options].map((o) => o.value).find((v) => v && v !== cluster.name(cluster.shards[%d][1]));
		list.dispatchEvent(new Event("change"));
		return list.value;
	})()`, shard))
	if !strings.Contains(node, ":") {
		b.t.Fatalf("%q is no node", node)
	}
	return node
}

// ordering has an operator move a shard and pin several, by mouse and by keyboard: what it
// will do is said in numbers first, then how far it is, and it can be undone. The shard
// that is selected, on the page of shards, is the second.
func ordering(b *tab, f *fleet) {
	b.t.Helper()
	says := func(id, text string) string {
		return fmt.Sprintf(`document.getElementById(%q)?.innerText.includes(%q)`, id, text)
	}
	yes := func(what string) { b.t.Helper(); b.do(what, chromedp.Click(chromedp.CSS("#yes"))) }
	b.until("it can be ordered about", says("side", "No order stands")+` && document.getElementById("move").disabled`)
	to := b.choose(1)
	b.do("moves it", chromedp.Click(chromedp.CSS("#move")))
	b.until("the question has numbers", says("ask", "1 shard goes there with all live objects: 1 from ")+" && "+says("ask", "would be even")+" && "+says("ask", "They stay there for 1 hour"))
	b.picture("inspector-move")
	b.do("thinks better of it", chromedp.Click(chromedp.CSS("#ask button")))
	b.until("nothing is asked", `!document.getElementById("ask").open`)
	b.do("moves it all the same", chromedp.Click(chromedp.CSS("#move")))
	yes("says yes")
	b.until("it is there", says("ordered", "It is at "+to)+" && "+says("side", "moved to "+to))
	if holder := eval[string](b, `(({ cluster }) => cluster.name(cluster.shards[1][1]))(document.getElementById("graph").view)`); holder != to {
		b.t.Errorf("shard 1 is at %s, not at %s", holder, to)
	}
	b.do("undoes it", chromedp.Click(chromedp.CSS("#undo")))
	b.until("that is asked, too", says("ask", "Nothing is ordered any more of 1 shard"))
	yes("says yes")
	b.until("it is undone", says("ordered", "It is undone")+" && "+says("side", "No order stands"))

	// Six of them, by keyboard alone.
	b.do("opens six", chromedp.Focus(chromedp.CSS("#shards canvas")), withShift("ArrowRight", 39), withShift("ArrowRight", 39), withShift("ArrowDown", 40), press("Enter", 13))
	b.until("they are selected", `/sel=shards:1-3,129-131$/.test(decodeURIComponent(location.hash)) && `+says("side", "6 shards"))
	to = b.choose(130)
	b.do("pins them", chromedp.Focus(chromedp.CSS("#pin")), press("Enter", 13), enterUp())
	b.until("the question has numbers", `/\d shards? goe?s? there with all live objects/.test(document.getElementById("ask").innerText) && `+says("ask", "whenever "+to+" lives"))
	b.do("says yes by keyboard", chromedp.Focus(chromedp.CSS("#yes")), press("Enter", 13), enterUp())
	b.until("all are there", says("ordered", "All 6 are at "+to)+" && "+says("side", "By order: pinned to "+to))
	b.picture("inspector-pinned")
	b.do("takes the table", chromedp.Click(chromedp.CSS("#shards > .tools > button")))
	b.until("it has the pins", `[...document.querySelectorAll("#shards tbody tr")].filter((r) => r.innerText.includes("pinned to `+to+`")).length === 6`)
	b.do("takes the map", chromedp.Click(chromedp.CSS("#shards > .tools > button")))
	b.do("takes them back", chromedp.Click(chromedp.CSS("#unpin")))
	b.until("it is asked", says("ask", "What was ordered of 6 shards counts no more"))
	yes("says yes")
	b.until("they are taken back", says("ordered", "Taken back of 6 shards")+" && "+says("side", "No order stands"))
	b.do("pins them again after all", chromedp.Click(chromedp.CSS("#undo")))
	b.until("it is asked", says("ask", "6 shards are pinned to "+to+" again"))
	yes("says yes")
	b.until("they are pinned again", says("side", "By order: pinned to "+to))
	b.do("takes them back", chromedp.Click(chromedp.CSS("#unpin")))
	yes("says yes")
	b.until("they are taken back", says("side", "No order stands"))
	for _, want := range []string{"an operator ordered: move shard 1 to ", "an operator ordered: pin 6 shards to " + to + ": [1 2 3 129 130 131]", "an operator ordered: unpin 6 shards"} {
		b.until("it is told that "+want, fmt.Sprintf(`document.getElementById("graph").view.cluster.changes.some((c) => c.kind === "action" && c.text.includes(%q))`, want))
	}
	b.wantNoProblems(false)
	f.settle()
}

// enterUp is the end of a press of Enter on a button: it is pressed with the character.
func enterUp() chromedp.Action[chromedp.Void] {
	return command(input.DispatchKeyEvent, input.DispatchKeyEventParams{Type: input.DispatchKeyEventTypeChar, Key: "Enter", Code: "Enter", Text: "\r", WindowsVirtualKeyCode: 13, NativeVirtualKeyCode: 13})
}
