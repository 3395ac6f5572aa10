//go:build unix

package e2e

import (
	"testing"

	"github.com/chromedp/chromedp"
)

// Two people talk; the server is killed under them and comes back; a third comes late.
func TestTwoBrowsers(t *testing.T) {
	browser := startBrowser(t)
	s := newSite(t, chatBinary)
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
	browser := startBrowser(t)
	s := newSite(t, chatBinary)
	s.start(t)
	ann, bob := openTab(t, browser, "ann"), openTab(t, browser, "bob")
	ann.do("takes the telephone", chromedp.EmulateViewport(390, 780, chromedp.EmulateMobile), prefersDark())
	ann.enter(s, "general")
	bob.enter(s, "general")
	bob.write("one for general, with-a-very-long-word-that-does-not-fit-into-the-width-of-any-telephone-and-must-be-broken-somewhere")
	ann.until("it came", `document.querySelectorAll("#log li").length === 1`)
	ann.picture("phone")

	ann.do("opens the side", chromedp.Click(chromedp.CSS("#menu")), chromedp.SendKeys(chromedp.CSS("#room-input"), "tea time\r"))
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
	ann.do("opens the side", chromedp.Click(chromedp.CSS("#menu")))
	if ann.until("it is open", `document.getElementById("side").getBoundingClientRect().left === 0`); eval[int](ann, `document.querySelectorAll("#rooms li").length`) != 2 {
		t.Error("the list does not have both rooms")
	}
	ann.picture("phone-side")
	if wide := eval[int](ann, `document.documentElement.scrollWidth`); wide > 390 {
		t.Errorf("the page is %d pixels wide on a screen of 390", wide)
	}
	ann.wantNoProblems(false)
	bob.wantNoProblems(false)
}
