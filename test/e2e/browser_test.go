//go:build unix

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// startBrowser runs a headless Chromium with an empty profile until the test ends.
func startBrowser(t *testing.T) context.Context {
	t.Helper()
	path := os.Getenv("GOVERSE_CHROMIUM")
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "google-chrome-stable"} {
		if path == "" {
			path, _ = exec.LookPath(name)
		}
	}
	if path == "" {
		t.Skip("NOT TESTED: the page in a real browser. There is no chromium in PATH; install it, or name one with GOVERSE_CHROMIUM.")
	}
	allocator, release := chromedp.NewExecAllocator(context.Background(),
		chromedp.ExecPath(path), chromedp.UserDataDir(t.TempDir()), chromedp.Headless, chromedp.NoSandbox, chromedp.DisableGPU,
		chromedp.Flag("enable-unsafe-swiftshader", true), // WebGL without a graphics card
		chromedp.NoFirstRun, chromedp.Flag("disable-quic", true), chromedp.Flag("disable-background-networking", true),
		chromedp.Flag("disable-component-update", true), chromedp.Flag("disable-sync", true), chromedp.Flag("disable-dev-shm-usage", true),
		chromedp.Flag("disable-background-timer-throttling", true), chromedp.Flag("disable-renderer-backgrounding", true),
		chromedp.Flag("disable-backgrounding-occluded-windows", true), chromedp.WindowSize(1180, 760),
	)
	browser, quit := chromedp.NewContext(allocator)
	t.Cleanup(func() {
		quit()
		release()
		chromedp.FromContext(browser).Allocator.Wait()
	})
	if err := chromedp.Do(browser); err != nil {
		t.Fatalf("%s does not start: %v", path, err)
	}
	return browser
}

// tab is one page of one person: its storage is shared with nobody.
type tab struct {
	t   *testing.T
	who string
	ctx context.Context
	end context.CancelFunc

	mu       sync.Mutex
	problems []string // errors and warnings of the page
}

func openTab(t *testing.T, browser context.Context, who string) *tab {
	t.Helper()
	b := &tab{t: t, who: who}
	b.ctx, b.end = chromedp.NewContext(browser, chromedp.WithNewBrowserContext(), chromedp.WithListener(b.hear))
	t.Cleanup(b.end)
	if err := chromedp.Do(b.ctx); err != nil {
		t.Fatal(err)
	}
	return b
}

// hear collects what a person would see in red in the browser's console.
func (b *tab) hear(event any) {
	var text string
	switch e := event.(type) {
	case *runtime.EventExceptionThrown:
		text = "uncaught: " + e.ExceptionDetails.Text
		if thrown := e.ExceptionDetails.Exception; thrown != nil {
			text += " " + thrown.Description
		}
	case *runtime.EventConsoleAPICalled:
		if e.Type == runtime.ConsoleAPICalledTypeError || e.Type == runtime.ConsoleAPICalledTypeWarning {
			text = fmt.Sprint(e.Type, ": ", e.Args)
		}
	case *log.EventEntryAdded:
		slow := e.Entry.Source == "rendering" && strings.Contains(e.Entry.Text, "GL Driver Message (OpenGL, Performance,") // of no graphics card
		if (e.Entry.Level == log.EntryLevelError || e.Entry.Level == log.EntryLevelWarning) && !slow {
			text = fmt.Sprint(e.Entry.Source, ": ", e.Entry.Text, " ", e.Entry.URL)
		}
	}
	if text == "" {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.problems = append(b.problems, text)
}

// wantNoProblems reports what hear has collected, and forgets it. Of a server that
// was killed a browser says by itself that it cannot be reached, be it by a WebSocket or,
// as the page tries next, for events.
func (b *tab) wantNoProblems(serverWasDown bool) {
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, problem := range b.problems {
		socket := strings.Contains(problem, "WebSocket connection to") && strings.Contains(problem, "failed")
		events := strings.Contains(problem, "Failed to load resource: net::ERR_") && strings.HasSuffix(problem, "/api/v1/events/stream?resumable=1&json=1")
		if serverWasDown && (socket || events) {
			continue
		}
		b.t.Errorf("%s's console: %s", b.who, problem)
	}
	b.problems = nil
}

func (b *tab) do(what string, steps ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, 30*time.Second)
	defer cancel()
	if err := chromedp.Do(ctx, steps...); err != nil {
		b.t.Fatalf("%s %s: %v", b.who, what, err)
	}
}

// eval runs JavaScript in the page.
func eval[T any](b *tab, script string) T {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, 30*time.Second)
	defer cancel()
	value, err := chromedp.Run(ctx, chromedp.Evaluate[T](script))
	if err != nil {
		b.t.Fatalf("%s evaluates %s: %v", b.who, script, err)
	}
	return value
}

// until waits until an expression of the page is true.
func (b *tab) until(what, expression string) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, 45*time.Second)
	defer cancel()
	if _, err := chromedp.Run(ctx, chromedp.Poll[bool](expression, chromedp.WithPollingInterval(20*time.Millisecond), chromedp.WithPollingTimeout(40*time.Second))); err != nil {
		b.t.Fatalf("%s waits in vain until %s: %v\nthe page shows: %s", b.who, what, err, eval[string](b, `document.body.innerText`))
	}
}

// enter opens a room for the first time, and gives the name.
func (b *tab) enter(s *site, room string) {
	b.t.Helper()
	b.do("opens the page", chromedp.Navigate(s.url("/#"+room)))
	b.do("gives the name", chromedp.WaitVisible(chromedp.CSS("#name-input")), chromedp.SendKeys(chromedp.CSS("#name-input"), b.who+"\r"))
	b.live()
}

func (b *tab) live() {
	b.t.Helper()
	b.until("the page is live", `document.getElementById("state").textContent === "live"`)
}

// write puts text into the typing box and presses Enter.
func (b *tab) write(text string) {
	b.t.Helper()
	enter := input.DispatchKeyEventParams{Key: "Enter", Code: "Enter", Text: "\r", WindowsVirtualKeyCode: 13, NativeVirtualKeyCode: 13}
	press := func(kind input.DispatchKeyEventType) chromedp.Action[chromedp.Void] {
		enter := enter
		enter.Type = kind
		return command(input.DispatchKeyEvent, enter)
	}
	b.do("writes", chromedp.Focus(chromedp.CSS("#text")), command(input.InsertText, input.InsertTextParams{Text: text}),
		press(input.DispatchKeyEventTypeKeyDown), press(input.DispatchKeyEventTypeKeyUp))
	b.until("the typing box is empty again", `document.getElementById("text").value === ""`)
}

// openSide shows the rooms on a narrow screen.
func (b *tab) openSide() {
	b.t.Helper()
	b.do("opens the side", chromedp.Click(chromedp.CSS("#menu")))
	b.until("it is open", `document.getElementById("side").getBoundingClientRect().left === 0`)
}

// command is a bare command of the protocol as a step.
func command[P, R any](c cdp.Command[P, R], params P) chromedp.Action[chromedp.Void] {
	return func(ctx context.Context, t *chromedp.Target) (chromedp.Void, error) {
		_, err := cdp.Call(ctx, t, c, params)
		return chromedp.Void{}, err
	}
}

// row is a message as the page shows it.
type row struct{ Who, Text string }

const shownScript = `Array.from(document.querySelectorAll("#log li"), (li) => ({Who: li.querySelector(".who").textContent, Text: li.querySelector(".text").textContent}))`

// shows waits until the page shows exactly these messages, and none as on its way.
func (b *tab) shows(want ...row) {
	b.t.Helper()
	text, err := json.Marshal(append([]row{}, want...)) // never null
	if err != nil {
		b.t.Fatal(err)
	}
	b.until(fmt.Sprintf("it shows %s", text), fmt.Sprintf(`JSON.stringify(%s) === JSON.stringify(%s) && document.querySelectorAll("#pending li").length === 0`, shownScript, text))
}

// sees waits until these people are listed as here.
func (b *tab) sees(people ...string) {
	b.t.Helper()
	text, _ := json.Marshal(people)
	b.until(fmt.Sprintf("%s are here", text), fmt.Sprintf(`JSON.stringify(Array.from(document.querySelectorAll("#people li span:last-child"), (e) => e.textContent)) === JSON.stringify(%s)`, text))
}

// picture keeps what the page looks like, when asked to.
func (b *tab) picture(name string) {
	b.t.Helper()
	if *pictures == "" {
		return
	}
	png, err := chromedp.Run(b.ctx, chromedp.CaptureScreenshot())
	if err == nil {
		err = os.WriteFile(filepath.Join(*pictures, name+".png"), png, 0o644)
	}
	if err != nil {
		b.t.Fatal(err)
	}
}

// prefersDark is a reader whose system is in the dark mode.
func prefersDark() chromedp.Action[chromedp.Void] {
	return command(emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
		Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: "dark"}},
	})
}
