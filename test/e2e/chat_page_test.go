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

	said := []row{{"ann", "hello from ann"}}
	ann.write("hello from ann")
	ann.shows(said...)
	bob.shows(said...)
	said = append(said, row{"bob", `<b onclick="alert(1)">markup</b> & "quotes" ‹ü 漢字 🙂`})
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
	bob.end()
	ann.sees("ann", "cleo")
	ann.wantNoProblems(true)
	cleo.wantNoProblems(false)
}
