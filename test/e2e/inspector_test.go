//go:build unix

package e2e

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/chromedp"
)

var inspectorBinary = sync.OnceValues(func() (string, error) { return buildAt("cmd/inspector", "inspector", false) })

// An operator looks at a live cluster: a node that comes, one that is killed and one that
// is drained are seen, with the reason, on every page; and draining works from there.
func TestInspector(t *testing.T) {
	f := newFleet(t)
	gates := f.begin(3, 1)
	p := f.launch(inspectorBinary, nil, f.etcd, "--listen", "127.0.0.1:0")
	t.Cleanup(p.kill)
	if !p.says("open     http://", 30*time.Second) {
		t.Fatal(p.output())
	}
	_, rest, _ := strings.Cut(p.output(), "open     ")
	url, _, _ := strings.Cut(rest, "\n")

	b := openTab(t, startBrowser(t), "the operator")
	size := func(width, height int64) chromedp.Action[chromedp.Void] {
		return command(emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{Width: width, Height: height, DeviceScaleFactor: 1})
	}
	b.do("opens the page", size(1440, 900), chromedp.Navigate(url))
	rows := func(n int) string {
		return fmt.Sprintf(`document.querySelectorAll("#overview tr[data-node]").length === %d`, n)
	}
	well := `document.getElementById("health").textContent === "All is well"`
	b.until("three nodes are there and all is well", rows(3)+" && "+well)

	// Calls are seen where they run, by type, and at the gate that they come through.
	calls := newLoad(t, gates, 40, 12)
	number := func(cell string) string {
		return `[...document.querySelectorAll("#overview ` + cell + `")].some((td) => parseFloat(td.textContent) > 0)`
	}
	b.until("calls are seen", number("td[data-rate=calls]")+" && "+number("td[data-rate=commits]")+" && "+number("td[data-rate=objects]"))
	b.until("their types are seen", number("tr[data-type=DurableLog] td:nth-child(4)"))
	b.until("the gate's calls are seen", number("tr[data-gate] td:nth-child(3)"))
	b.picture("inspector-overview")

	// Objects: a page of them, one of them, its state, its calls, and its end.
	b.do("goes to the objects", chromedp.Navigate(url+"#/objects"))
	b.until("they are listed", `document.querySelectorAll("#objects tr[data-object]").length === 12`)
	calls.end()
	b.picture("inspector-objects")
	b.do("looks for some of a type", chromedp.Navigate(url+"#/objects?type=DurableLog"))
	b.until("they are listed alone", `document.querySelectorAll("#objects tr[data-object]").length === 6`)
	b.do("opens one", chromedp.Click(chromedp.CSS(`#objects tr[data-object] a`)))
	b.until("it is explained", `["live on", "Durable", "Append", "client"].every((s) => document.getElementById("look")?.innerText.includes(s))`)
	b.until("its state is shown", `document.getElementById("state")?.innerText.includes("@type")`)
	b.picture("inspector-object")
	b.do("deactivates it", chromedp.Click(chromedp.CSS("#deactivate")))
	b.until("what that does is said", `document.getElementById("ask").innerText.includes("Its state is stored first")`)
	b.do("says yes", chromedp.Click(chromedp.CSS("#yes")))
	b.until("it has ended", `document.getElementById("side").innerText.includes("It has ended")`)

	// The graph asks for the same: from near a node shows the objects that live on it.
	of := eval[string](b, `document.querySelector("#objects tr[data-object] td:nth-child(2)").innerText`)
	b.do("goes to its node in the graph", chromedp.Navigate(url+"#/graph?sel=node:"+of))
	b.until("the graph is drawn", graphHas("node:"+of))
	b.do("goes nearer", chromedp.Focus(chromedp.CSS("#graph .stage")), press("Enter", 13))
	b.until("a live object is there", `document.getElementById("graph").stage.keys().some((key) => key.startsWith("object:") && document.getElementById("graph").stage.words(key).includes(" on `+of+`"))`)
	b.do("goes back", chromedp.Navigate(url+"#/overview"))

	seen := func(what, expression string, since time.Time) {
		t.Helper()
		b.until(what, expression)
		t.Logf("%s was seen after %v", what, time.Since(since).Round(time.Millisecond))
	}
	began := time.Now()
	fourth := f.node("")
	seen("a node that joined", rows(4), began)
	f.settle()

	// The map has a cell for each shard; the keyboard goes through it and opens one.
	b.do("goes to the shards", chromedp.Navigate(url+"#/shards"))
	b.until("the map is drawn", `document.querySelector("#shards canvas").width >= 256`)
	b.do("opens a shard by keyboard", chromedp.Focus(chromedp.CSS("#shards canvas")), press("ArrowRight", 39), press("ArrowRight", 39), press("Enter", 13))
	b.until("the shard is explained", `/sel=shard:\d+/.test(location.hash) && document.getElementById("side").innerText.includes("holds it, and calls run there")`)
	b.picture("inspector-shards")
	ordering(b, f)

	// Draining from the node's own page: what it will do is said in numbers first.
	b.do("goes to the node", chromedp.Navigate(url+"#/overview?sel=node:"+fourth))
	b.until("the node can be drained", `document.getElementById("drain")?.textContent.startsWith("Drain")`)
	b.do("drains it", chromedp.Click(chromedp.CSS("#drain")))
	b.until("the question has numbers", `/Its \d+ shards move to 3 other nodes/.test(document.getElementById("ask").innerText)`)
	began = time.Now()
	b.do("says yes", chromedp.Click(chromedp.CSS("#yes")))
	seen("the order", `document.querySelector("tr[data-node='`+fourth+`']")?.innerText.includes("draining (by an operator)")`, began)
	b.until("nothing is left there", `document.querySelector("tr[data-node='`+fourth+`'] td.n").textContent === "0"`)
	b.until("it can be taken back", `document.getElementById("drain")?.textContent === "Take the draining back"`)
	b.do("takes it back", chromedp.Click(chromedp.CSS("#drain")))
	b.until("it asks", `document.getElementById("ask").open`)
	b.do("says yes", chromedp.Click(chromedp.CSS("#yes")))
	b.until("the node is ready", `document.querySelector("tr[data-node='`+fourth+`']")?.innerText.includes("ready")`)
	f.settle()

	// A node dies: that is said when its lease ends, and nothing is held by it for long.
	began = time.Now()
	f.kill(fourth)
	seen("the death of a node, with its lease of 5 s,", rows(3), began)
	b.until("all is well again", well)
	b.do("goes to the timeline", chromedp.Navigate(url+"#/timeline"))
	b.until("everything is on the timeline", fmt.Sprintf(`[%q, %q, %q, %q].every((s) => document.getElementById("timeline").innerText.includes(s))`,
		fourth+" joined", "an operator ordered: drain "+fourth, fourth+" is draining", fourth+" is gone"))
	b.until("the reasons are there", `["to even the load out", "is draining", "its lease ended", "over from"].every((s) => document.getElementById("timeline").innerText.includes(s))`)
	b.picture("inspector-timeline")

	b.do("takes the telephone, at night", size(390, 844), prefersDark())
	for _, view := range []string{"overview", "objects", "shards", "timeline"} {
		b.do("goes to "+view, chromedp.Navigate(url+"#/"+view))
		b.until("it is there", `!document.getElementById("`+view+`").hidden`)
		if wide := eval[int](b, `document.documentElement.scrollWidth`); wide > 390 {
			t.Errorf("%s is %d pixels wide on a telephone of 390", view, wide)
		}
		b.picture("inspector-phone-" + view)
	}
	b.wantNoProblems(false)

	p.kill()
	b.until("the page says that nobody tells it anything", `document.body.classList.contains("stale") && document.getElementById("health").textContent.includes("does not answer")`)
	const others = `performance.getEntriesByType("resource").map((e) => e.name).filter((n) => !n.startsWith(location.origin) && !n.startsWith("data:"))`
	if out := eval[[]string](b, others); len(out) > 0 {
		t.Errorf("the page asked others than the inspector: %v", out)
	}
}

// press is a key that goes down.
func press(key string, code int64) chromedp.Action[chromedp.Void] {
	return command(input.DispatchKeyEvent, input.DispatchKeyEventParams{
		Type: input.DispatchKeyEventTypeRawKeyDown, Key: key, Code: key, WindowsVirtualKeyCode: code, NativeVirtualKeyCode: code,
	})
}
