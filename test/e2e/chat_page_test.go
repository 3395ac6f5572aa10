//go:build unix

package e2e

import (
	"net/http"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
)

// Two people talk; the server is killed under them and comes back; a third comes late.
func TestTwoBrowsers(t *testing.T) {
	t.Parallel()
	s := newSite(t, chatBinary)
	browser := startBrowser(t)
	p := s.start(t)

	ann, bob := openTab(t, browser, "ann"), openTab(t, browser, "bob")
	ann.enter(s, "general")
	bob.enter(s, "general")
	ann.sees("ann", "bob")
	bob.sees("ann", "bob")

	said := []row{{"ann", "hello from ann"}, {"bob", `<img src=x onerror="document.title='owned'"> & "quotes" ü 漢字 🙂`}}
	ann.write(said[0].Text)
	ann.shows(said[:1]...)
	bob.shows(said[:1]...)
	bob.write(said[1].Text)
	bob.shows(said...)
	ann.shows(said...)

	ann.do("reloads", chromedp.Reload())
	ann.live()
	ann.shows(said...)
	ann.sees("ann", "bob")
	ann.picture("live")
	ann.wantNoProblems(false)
	bob.wantNoProblems(false)

	p.kill()
	bob.until("the page says that it reconnects", `document.getElementById("state").textContent.startsWith("reconnecting in ")`)
	bob.write("written while the server was down")
	bob.until("the message waits", `document.querySelector("#pending li .status").textContent === "sending…"`)
	bob.picture("down")
	s.start(t)
	said = append(said, row{"bob", "written while the server was down"})
	for _, b := range []*tab{ann, bob} {
		b.live()
		b.shows(said...)
		b.sees("ann", "bob")
	}
	ann.write("we are back")
	said = append(said, row{"ann", "we are back"})

	cleo := openTab(t, browser, "cleo")
	cleo.enter(s, "general")
	for _, b := range []*tab{ann, bob, cleo} {
		b.shows(said...)
		b.sees("ann", "bob", "cleo")
	}
	bob.do("goes elsewhere", chromedp.Navigate("about:blank"))
	ann.sees("ann", "cleo")
	ann.wantNoProblems(true)
	bob.wantNoProblems(true)
	cleo.wantNoProblems(false)
}

// One person in several rooms, on a telephone in the dark.
func TestRooms(t *testing.T) {
	t.Parallel()
	s := newSite(t, chatBinary)
	browser := startBrowser(t)
	s.start(t)
	ann, bob := openTab(t, browser, "ann"), openTab(t, browser, "bob")
	ann.do("takes the telephone", chromedp.EmulateViewport(390, 780, chromedp.EmulateMobile), prefersDark())
	ann.enter(s, "general")
	bob.enter(s, "general")
	bob.write("one for general, with-a-very-long-word-that-does-not-fit-into-the-width-of-any-telephone-and-must-be-broken-somewhere")
	ann.until("it came", `document.querySelectorAll("#log li").length === 1`)
	ann.picture("phone")

	ann.openSide()
	ann.do("names a room", chromedp.SendKeys(chromedp.CSS("#room-input"), "tea time\r"))
	ann.until("the room is another", `location.hash === "#tea%20time" && document.getElementById("title").textContent === "tea time"`)
	ann.live()
	ann.shows()
	ann.sees("ann")
	bob.sees("bob")
	ann.write("is anybody here?")
	ann.shows(row{"ann", "is anybody here?"})
	bob.write("another for general")
	bob.until("both are shown", `document.querySelectorAll("#log li").length === 2`)
	ann.shows(row{"ann", "is anybody here?"})

	bob.do("follows a link", chromedp.Navigate(s.url("/#tea%20time")))
	bob.live()
	bob.shows(row{"ann", "is anybody here?"})
	ann.sees("ann", "bob")

	ann.do("goes back", chromedp.NavigateBack())
	ann.live()
	ann.until("both are shown", `document.querySelectorAll("#log li").length === 2`)
	ann.openSide()
	if eval[int](ann, `document.querySelectorAll("#rooms li").length`) != 2 {
		t.Error("the list does not have both rooms")
	}
	ann.picture("phone-side")
	if wide := eval[int](ann, `document.documentElement.scrollWidth`); wide > 390 {
		t.Errorf("the page is %d pixels wide on a screen of 390", wide)
	}
	ann.wantNoProblems(false)
	bob.wantNoProblems(false)
}

// What the room refuses is said on the page, and the reader decides what happens next.
func TestRefusedOnPage(t *testing.T) {
	t.Parallel()
	s := newSite(t, chatBinary)
	browser := startBrowser(t)
	s.start(t)
	ann := openTab(t, browser, "ann")
	ann.enter(s, "general")
	ann.write("before")
	ann.shows(row{"ann", "before"})

	// A box that has been tampered with: the room takes at most 4000 characters.
	eval[bool](ann, `document.getElementById("text").removeAttribute("maxlength"), true`)
	ann.write(strings.Repeat("long ", 1000))
	ann.until("it is refused", `document.querySelector("#pending li.failed .status")?.textContent.startsWith("not sent: ")`)
	ann.picture("refused")
	ann.write("the next goes its way")
	ann.until("it went", `document.querySelectorAll("#log li").length === 2 && document.querySelectorAll("#pending li").length === 1`)
	ann.do("reloads", chromedp.Reload())
	ann.live()
	ann.until("the refused one is still there", `document.querySelectorAll("#pending li.failed").length === 1`)
	eval[bool](ann, `Array.from(document.querySelectorAll("#pending button")).find((b) => b.textContent === "Discard").click(), true`)
	ann.shows(row{"ann", "before"}, row{"ann", "the next goes its way"})

	// The room is deleted under the page, and begins anew.
	r, err := http.NewRequest(http.MethodDelete, s.url("/api/v1/objects/ChatRoom/general"), nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	http.DefaultClient.CloseIdleConnections()
	ann.write("a fresh start")
	ann.shows(row{"ann", "a fresh start"})

	eval[bool](ann, `localStorage.setItem("chat.name", JSON.stringify("n".repeat(41))), true`)
	ann.do("reloads", chromedp.Reload())
	ann.until("the room does not let her in", `document.getElementById("state").textContent === "not in the room" && document.getElementById("notice").textContent.includes("user name")`)
	ann.do("changes the name", chromedp.Click(chromedp.CSS("#rename")), chromedp.SendKeys(chromedp.CSS("#name-input"), "anna\r"))
	ann.live()
	ann.sees("anna")
	ann.wantNoProblems(false)
}
