package gateserver

import (
	"io/fs"
	"net/http"
	"regexp"
	"strings"
	"testing"
)

func TestTryPage(t *testing.T) {
	s := start(t, withCounter(t))
	for path, kind := range map[string]string{tryPath: "text/html", tryPath + "/try.css": "text/css", tryPath + "/try.js": "text/javascript"} {
		r := request(t, s, http.MethodGet, path, "")
		if r.status != http.StatusOK || !strings.HasPrefix(r.header.Get("Content-Type"), kind) || r.header.Get("Content-Security-Policy") != tryPolicy || r.header.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: %d %v", path, r.status, r.header)
		}
		if r := request(t, s, http.MethodHead, path, ""); r.status != http.StatusOK || r.body != "" {
			t.Errorf("HEAD %s: %d %q", path, r.status, r.body)
		}
	}
	if r := request(t, s, http.MethodPost, tryPath, "{}"); r.status != http.StatusMethodNotAllowed || r.header.Get("Allow") != "GET, HEAD" {
		t.Errorf("POST: %d %v", r.status, r.header)
	}
	for _, path := range []string{tryPath + "/", tryPath + "/other.js", tryPath + "/../try.js", tryPath + "/%2e%2e/http.go"} {
		if r := request(t, s, http.MethodGet, path, ""); r.status != http.StatusBadRequest || r.failure(t).Code != "INVALID_PATH" {
			t.Errorf("%s: %d %q", path, r.status, r.body)
		}
	}
}

// What the policy forbids is not there: no code or style within the page, nothing from
// elsewhere, and no text that is read as HTML.
func TestTryPageKeepsItsPolicy(t *testing.T) {
	forbidden := regexp.MustCompile(`(?i)<script>|<style|\sstyle=|\son[a-z]+=|https?://|innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function`)
	for path, file := range tryTypes {
		b, err := fs.ReadFile(tryFiles, file)
		if err != nil {
			t.Fatal(err)
		}
		if found := forbidden.Find(b); found != nil {
			t.Errorf("%s says %s", path, found)
		}
	}
}
