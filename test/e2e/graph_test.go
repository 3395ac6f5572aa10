//go:build unix

package e2e

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/chromedp"
)

var simulatedBinary = sync.OnceValues(func() (string, error) { return buildAt("bench/inspector", "inspector-simulated", false) })

// pretence is an inspector's page on a simulated cluster.
type pretence struct {
	t   *testing.T
	url string
}

func newPretence(t *testing.T, args ...string) *pretence {
	t.Helper()
	path, err := simulatedBinary()
	if err != nil {
		t.Fatal(err)
	}
	p := (&site{binary: path, dir: t.TempDir()}).launch(t, append([]string{"-listen", "127.0.0.1:0"}, args...)...)
	if !p.says("open     http://", 30*time.Second) {
		t.Fatal(p.output())
	}
	_, rest, _ := strings.Cut(p.output(), "open     ")
	url, _, _ := strings.Cut(rest, "\n")
	return &pretence{t, url}
}

// happens has something happen to the cluster.
func (p *pretence) happens(what string) {
	p.t.Helper()
	answer, err := http.Post(p.url+"simulated/"+what, "", nil)
	if err != nil {
		p.t.Fatal(err)
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		p.t.Fatalf("%s: %s", what, answer.Status)
	}
}

func screen(width, height int64) chromedp.Action[chromedp.Void] {
	return command(emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{Width: width, Height: height, DeviceScaleFactor: 1})
}

// spot is where a mark of the graph is in the window.
type spot struct{ X, Y, Size float64 }

func (b *tab) spot(key string) spot {
	b.t.Helper()
	return eval[spot](b, fmt.Sprintf(`(() => {
		const { stage } = document.getElementById("graph"), box = stage.box.getBoundingClientRect(), at = stage.at(%q);
		return { X: box.left + at.x, Y: box.top + at.y, Size: at.size };
	})()`, key))
}

// pointAt moves the mouse, and click presses it too.
func pointAt(x, y float64) chromedp.Action[chromedp.Void] {
	return command(input.DispatchMouseEvent, input.DispatchMouseEventParams{Type: input.DispatchMouseEventTypeMouseMoved, X: x, Y: y})
}

func (b *tab) click(what string, x, y float64) {
	b.t.Helper()
	button := func(kind input.DispatchMouseEventType) chromedp.Action[chromedp.Void] {
		return command(input.DispatchMouseEvent, input.DispatchMouseEventParams{Type: kind, X: x, Y: y, Button: input.MouseButtonLeft, ClickCount: 1})
	}
	b.do(what, pointAt(x, y), button(input.DispatchMouseEventTypeMousePressed), button(input.DispatchMouseEventTypeMouseReleased))
}

// graphHas is an expression: whether the graph has marks with these keys.
func graphHas(keys ...string) string {
	return fmt.Sprintf(`["%s"].every((key) => document.getElementById("graph").stage?.keys().includes(key))`, strings.Join(keys, `", "`))
}

// The inspector's pages on clusters that are pretended, in one browser.
func TestPages(t *testing.T) {
	browser := startBrowser(t)
	for _, page := range []struct {
		name string
		try  func(*testing.T, context.Context)
	}{
		{"graph", testGraph}, {"pace", testGraphPace}, {"heap", testGraphHeap}, {"places", testGraphPlaces}, {"map", testShardMap}, {"finding", testFinding}, {"pictures", testInspectorPictures},
	} {
		t.Run(page.name, func(t *testing.T) { page.try(t, browser) })
	}
}

// The graph of 50 nodes and 50,000 objects: all of it is drawn, what is done to it with
// mouse and keyboard opens what it should, and what happens to the cluster moves nothing.
func testGraph(t *testing.T, browser context.Context) {
	p := newPretence(t)
	b := openTab(t, browser, "the operator")
	b.do("opens the graph", screen(1440, 900), chromedp.Navigate(p.url+"#/graph"))
	const node = "10.0.0.7:47000"
	b.until("nodes, gates, types and bubbles are drawn", graphHas("node:"+node, "gate:10.0.9.4:48000", "type:ChatRoom", "type:ChatRoom@"+node, "client")+
		` && Number(document.getElementById("graph").dataset.marks) === 50 + 4 + 8 + 50 * 8 + 1 && document.getElementById("graph").dataset.lines > 10`)
	t.Logf("first drawn %.0f ms after the navigation began", eval[float64](b, `performance.getEntriesByName("graph drawn")[0].startTime`))
	b.picture("graph-wide")

	// A node joins, one drains, one dies: what was there stays where it was.
	before := b.spot("node:" + node)
	p.happens("join")
	p.happens("drain?node=10.0.0.9:47000")
	p.happens("kill?node=10.0.0.11:47000")
	b.until("all three are seen", graphHas("node:10.0.0.51:47000")+` && ["draining, ", "gone, but 164 shards still name it"].every((s, i) =>
		document.getElementById("graph").stage.words(["node:10.0.0.9:47000", "node:10.0.0.11:47000"][i]).includes(s))`)
	if after := b.spot("node:" + node); after != before {
		t.Errorf("a node went from %v to %v", before, after)
	}

	// The mouse: pointing tells, a click chooses, and the address has the choice.
	at := b.spot("node:" + node)
	b.do("points at a node", pointAt(at.X, at.Y))
	b.until("it is told", `document.querySelector("#graph .tip").textContent.includes("`+node+`: ready, 164 shards")`)
	b.click("chooses it", at.X, at.Y)
	b.until("its page is there", `location.hash.endsWith("sel=node:`+strings.ReplaceAll(node, ":", "%3A")+`") && document.getElementById("side").innerText.includes("It is well")`)
	b.picture("graph-chosen")

	// The keyboard: Enter goes nearer, and objects appear, the busiest among them.
	b.do("goes nearer", chromedp.Focus(chromedp.CSS("#graph .stage")), press("Enter", 13))
	b.until("its objects are there", graphHas("object:ChatRoom/chatroom-6-0000", "object:User/user-6-0001"))
	b.picture("graph-near")
	b.do("shows all", press("0", 48))
	b.until("objects are gone", `!document.getElementById("graph").stage.keys().some((key) => key.startsWith("object:"))`)

	b.do("chooses a type", chromedp.Navigate(p.url+"#/graph?sel=type:ChatRoom"))
	b.until("who calls it is told", `["clients", "Inbox", "User", "On 50 nodes"].every((s) => document.getElementById("side").innerText.includes(s))`)
	b.picture("graph-type")
	b.do("takes the table", chromedp.Click(chromedp.CSS("#graph .tools button:last-child")))
	b.until("it is the same", `["Nodes (51)", "Gates (4)", "Who calls whom (12)"].every((s) => document.getElementById("graph").innerText.includes(s))`)
	b.picture("graph-table")
	b.wantNoProblems(false)
}

// The map of shards: a drag selects, a move is told with its reason, and a moment that is
// kept can be seen again, from the timeline too.
func testShardMap(t *testing.T, browser context.Context) {
	p := newPretence(t, "-nodes", "5", "-objects", "500")
	b := openTab(t, browser, "the operator")
	b.do("opens the map", screen(1440, 900), chromedp.Navigate(p.url+"#/shards"))
	b.until("it is drawn, with a bar for each node", `document.querySelector("#shards canvas").width >= 256 && document.querySelectorAll("#shards .legend .bar").length === 5`)
	cell := eval[spot](b, `(() => { const box = document.querySelector("#shards canvas").getBoundingClientRect(); return { X: box.left, Y: box.top, Size: box.width / 128 }; })()`)
	at := func(x, y float64) (float64, float64) { return cell.X + (x+.5)*cell.Size, cell.Y + (y+.5)*cell.Size }
	drag := func(kind input.DispatchMouseEventType, x, y float64) chromedp.Action[chromedp.Void] {
		x, y = at(x, y)
		return command(input.DispatchMouseEvent, input.DispatchMouseEventParams{Type: kind, X: x, Y: y, Button: input.MouseButtonLeft, Buttons: 1, ClickCount: 1})
	}
	b.do("drags over four", drag(input.DispatchMouseEventTypeMousePressed, 2, 1), drag(input.DispatchMouseEventTypeMouseMoved, 3, 2), drag(input.DispatchMouseEventTypeMouseReleased, 3, 2))
	b.until("they are selected", `decodeURIComponent(location.hash).endsWith("sel=shards:130-131,258-259") && document.getElementById("side").innerText.includes("4 shards: 4 held")`)

	began := eval[float64](b, `Date.now()`)
	p.happens("move?count=3")
	b.until("the move is on the timeline", `document.getElementById("latest").textContent.includes("handed")`)
	b.do("points at a shard that moved", pointAt(at(0, 0)))
	b.until("its move is told", `/^shard 0: held, 10.0.0.2:47000, epoch 2; moved .*from 10.0.0.1:47000: to even the load out/.test(document.querySelector("#shards .tip").textContent)`)
	b.picture("shards-moved")

	b.do("looks back", chromedp.Navigate(fmt.Sprintf("%s#/shards?at=%.0f", p.url, began)))
	b.until("it is as it was", `document.querySelector("#shards .when").innerText.includes("Back to now")`)
	b.do("points at it again", pointAt(at(1, 0)), pointAt(at(0, 0)))
	b.until("it had not moved", `document.querySelector("#shards .tip").textContent === "shard 0: held, 10.0.0.1:47000, epoch 1"`)
	b.do("goes back to now", chromedp.Click(chromedp.CSS("#shards .when button")))
	b.do("points at it again", pointAt(at(1, 0)), pointAt(at(0, 0)))
	b.until("it has moved", `document.querySelector("#shards .tip").textContent.includes("10.0.0.2:47000, epoch 2")`)

	b.do("takes the table", chromedp.Click(chromedp.CSS("#shards > .tools > button")), chromedp.SetValue(chromedp.CSS("#shards .card select"), "all"))
	eval[bool](b, `document.querySelector("#shards .card select").dispatchEvent(new Event("change"))`)
	b.until("all are there, in pages", `document.getElementById("shards").innerText.includes("All 8192 shards") && document.querySelectorAll("#shards tbody tr").length === 200`)

	b.do("goes to the timeline", chromedp.Navigate(p.url+"#/timeline"))
	b.until("the move links to the map then", `document.querySelector("#timeline li a.then")?.hash.startsWith("#/shards?at=")`)
	b.do("presses the last bar", chromedp.Click(chromedp.CSS("#timeline .bars button:enabled")))
	b.until("it shows that time only", `!document.querySelector("#timeline .tools button").hidden && document.querySelectorAll("#timeline li").length >= 1`)
	b.picture("timeline-part")
	b.wantNoProblems(false)
}

// Every page at a desk and on a telephone, by day and by night: nothing is wider than its
// window, and nothing is said in the console. With -e2e.pictures they are kept.
func testInspectorPictures(t *testing.T, browser context.Context) {
	p := newPretence(t, "-nodes", "12", "-objects", "9000")
	p.happens("drain?node=10.0.0.3:47000")
	p.happens("move?count=40")
	p.happens("kill?node=10.0.0.5:47000")
	for _, theme := range []string{"light", "dark"} {
		b := openTab(t, browser, "who looks at it "+theme)
		if theme == "dark" {
			b.do("sits in the dark", prefersDark())
		}
		for _, width := range []int64{1440, 390} {
			b.do("makes the window", screen(width, map[int64]int64{1440: 900, 390: 844}[width]))
			for _, view := range []string{"overview", "graph", "shards", "timeline"} {
				b.do("goes to "+view, chromedp.Navigate(p.url+"#/"+view))
				b.until(view+" is there", `!document.getElementById("`+view+`").hidden && ("`+view+`" !== "graph" || document.getElementById("graph").dataset.marks > 100)`)
				if wide := eval[int64](b, `document.documentElement.scrollWidth`); wide > width {
					t.Errorf("%s is %d pixels wide in a window of %d", view, wide, width)
				}
				b.picture(fmt.Sprintf("inspector-%s-%d-%s", view, width, theme))
			}
		}
		b.wantNoProblems(false)
	}
}
