//go:build unix

package e2e

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/heapprofiler"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// evalLater is eval of an expression that is a promise.
func evalLater[T any](b *tab, script string) T {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, time.Minute)
	defer cancel()
	value, err := chromedp.Run(ctx, chromedp.Evaluate[T](script, chromedp.EvalAwaitPromise))
	if err != nil {
		b.t.Fatalf("%s evaluates %s: %v", b.who, script, err)
	}
	return value
}

// heap is what the page's JavaScript holds after a collection, in MB.
func (b *tab) heap() float64 {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, 30*time.Second)
	defer cancel()
	use, err := chromedp.Run(ctx, func(ctx context.Context, t *chromedp.Target) (runtime.GetHeapUsageResult, error) {
		if _, err := cdp.Call(ctx, t, heapprofiler.CollectGarbage, cdp.Empty{}); err != nil {
			return runtime.GetHeapUsageResult{}, err
		}
		return cdp.Call(ctx, t, runtime.GetHeapUsage, cdp.Empty{})
	})
	if err != nil {
		b.t.Fatal(err)
	}
	return use.UsedSize / 1e6
}

// zooming turns the wheel over the graph in each frame for some ms, and is the frames
// that were drawn in a second, and the most that was ever drawn and known in one.
const zooming = `(ms) => new Promise((done) => {
	const { stage } = document.getElementById("graph"), wheel = document.querySelector("#graph .sigma-mouse"), box = wheel.getBoundingClientRect();
	let frames = 0, turns = 0, drawn = 0, known = 0;
	const began = performance.now();
	const count = () => { frames++; drawn = Math.max(drawn, stage.drawn); known = Math.max(known, stage.keys().length); };
	stage.addEventListener("drawn", count);
	const turn = () => {
		wheel.dispatchEvent(new WheelEvent("wheel", { deltaY: turns++ % 60 < 30 ? -120 : 120, clientX: box.left + box.width / 3, clientY: box.top + box.height / 2, bubbles: true, cancelable: true }));
		if (performance.now() - began < ms || turns < 90) return requestAnimationFrame(turn);
		stage.removeEventListener("drawn", count);
		done({ Frames: frames / ((performance.now() - began) / 1000), Drawn: drawn, Known: known });
	};
	turn();
})`

// redrawing is the shortest time, in ms, in which the page draws everything anew.
const redrawing = `Math.min(...Array.from({ length: 25 }, () => {
	const began = performance.now();
	document.getElementById("graph").stage.repaint();
	return performance.now() - began;
}))`

// openGraph shows the graph of 50 nodes and 50,000 objects.
func openGraph(t *testing.T, browser context.Context, args ...string) *tab {
	t.Helper()
	p := newPretence(t, args...)
	b := openTab(t, browser, "the operator")
	b.do("opens the graph", screen(1440, 900), chromedp.Navigate(p.url+"#/graph"))
	b.until("it is drawn", `document.getElementById("graph").dataset.marks > 400`)
	return b
}

// All that is of 50 nodes with 8 types, and the objects that are shown at once.
const mostMarks = 50 + 4 + 8 + 50*8 + 1 + 1200

// How fast it is is told, not demanded: that is the machine's. What is drawn is bounded,
// however one zooms.
func testGraphPace(t *testing.T, browser context.Context) {
	b := openGraph(t, browser)
	t.Logf("first drawn %.0f ms after the navigation began", eval[float64](b, `performance.getEntriesByName("graph drawn")[0].startTime`))
	ms := 500
	if *long {
		ms = 10_000
	}
	z := evalLater[struct{ Frames, Drawn, Known float64 }](b, fmt.Sprintf("(%s)(%d)", zooming, ms))
	t.Logf("zooming: %.0f frames/s, at most %.0f of %.0f marks drawn; all anew takes %.1f ms", z.Frames, z.Drawn, z.Known, eval[float64](b, redrawing))
	if z.Drawn < 100 || z.Known < 463 || z.Known > mostMarks {
		t.Errorf("%.0f marks were drawn, and %.0f known", z.Drawn, z.Known)
	}
	const outside = `performance.getEntriesByType("resource").map((e) => e.name).filter((n) => !n.startsWith(location.origin) && !n.startsWith("data:"))`
	if out := eval[[]string](b, outside); len(out) > 0 {
		t.Errorf("the page asked others than the inspector: %v", out)
	}
	b.wantNoProblems(false)
}

// rating gives the page so many frames of rates at once, no two alike.
const rating = `(many) => {
	const { cluster } = document.getElementById("graph").stage;
	for (let i = 1; i <= many; i++) {
		cluster.rates = { ...cluster.rates, types: cluster.rates.types.map(([type, node, objects, calls, errors]) => [type, node, objects + (i % 7), calls * (1 + (i % 11) / 100), errors]) };
		cluster.dispatchEvent(new Event("rates"));
	}
	return true;
}`

// Two minutes' worth of rates leave nothing behind; with -e2e.long an hour's.
func testGraphHeap(t *testing.T, browser context.Context) {
	b := openGraph(t, browser)
	b.until("rates have come", `document.getElementById("graph").stage.cluster.rates !== null`)
	many := 120
	if *long {
		many = 3600
	}
	eval[bool](b, fmt.Sprintf("(%s)(%d)", rating, 20))
	before := b.heap()
	for left := many; left > 0; left -= 120 { // each within the patience of one evaluation
		eval[bool](b, fmt.Sprintf("(%s)(%d)", rating, 120))
	}
	after := b.heap()
	t.Logf("the heap: %.1f MB, and %.1f MB after %d frames of rates", before, after, many)
	if after > 2*before+20 {
		t.Errorf("the heap grew from %.1f to %.1f MB", before, after)
	}
	b.wantNoProblems(false)
}

// places is the law of where things stand, tried on a thousand changes: "" or what broke it.
const places = `import("/graph/place.js").then(({ Places, inside }) => {
	let seed = 7;
	const chance = (n) => (seed = (seed * 16807) % 2147483647) % n;
	for (const wide of [true, false]) {
		const p = new Places(wide), types = ["A", "B", "C", "D", "E", "F", "G"], here = new Set(), stood = new Map();
		for (let step = 0; step < 500; step++) {
			const name = "n" + chance(60);
			if (!here.delete(name)) here.add(name);
			for (const gone of stood.keys()) if (!here.has(gone)) stood.delete(gone);
			p.seat([...here], ["g1", "g2"], types);
			const all = ["gate:g1", "gate:g2", ...[...here].map((n) => "node:" + n)].map((key) => ({ key, ...p.hub(key) }));
			const middle = ["client", ...types].map((t) => ({ key: t, ...p.type(t) }));
			for (const { key, x, y } of all) {
				const was = stood.get(key.slice(5));
				if (was && key.startsWith("node:") && (was.x !== x || was.y !== y)) return key + " moved in step " + step;
				if (key.startsWith("node:")) stood.set(key.slice(5), { x, y });
				for (const o of all) if (o.key !== key && Math.hypot(o.x - x, o.y - y) < 2.05) return key + " touches " + o.key;
				for (const o of middle) if (Math.hypot(o.x - x, o.y - y) < 1.5) return key + " stands among the types";
			}
		}
		for (const many of [7, 18, 40]) {
			const [node] = here, at = p.hub("node:" + node);
			const bubbles = types.map((t) => p.around(node, t, many));
			for (const b of bubbles) {
				if (Math.hypot(b.x - at.x, b.y - at.y) + b.room > 1) return "a bubble of " + many + " is outside of its node";
				if (bubbles.some((o) => o !== b && Math.hypot(o.x - b.x, o.y - b.y) < o.room + b.room)) return "two bubbles of " + many + " touch";
			}
		}
		const bubble = { x: 1, y: 2, size: 0.3 }, dots = Array.from({ length: 200 }, (_, n) => inside(bubble, n, 200));
		for (const d of dots) if (Math.hypot(d.x - 1, d.y - 2) + d.size > 0.3) return "an object is outside of its bubble";
	}
	return "";
})`

// However nodes come and go, nothing that is there moves, and nothing touches another.
func testGraphPlaces(t *testing.T, browser context.Context) {
	p := newPretence(t, "-nodes", "3")
	b := openTab(t, browser, "the geometer")
	b.do("opens the page", chromedp.Navigate(p.url))
	if broken := evalLater[string](b, places); broken != "" {
		t.Error(broken)
	}
}
