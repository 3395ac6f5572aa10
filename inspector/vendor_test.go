package inspector

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"io/fs"
	"strings"
	"testing"
)

// What others published is served as they published it: script/vendor-inspector.sh wrote
// the files and their sums, from packages that it names with their hashes.
func TestVendored(t *testing.T) {
	sums, err := fs.ReadFile(web, "web/vendor/SHA256SUMS")
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"SHA256SUMS": ""}
	for lines := bufio.NewScanner(bytes.NewReader(sums)); lines.Scan(); {
		sum, name, _ := strings.Cut(lines.Text(), "  ")
		want[name] = sum
	}
	files, err := fs.ReadDir(web, "web/vendor")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		sum, known := want[f.Name()]
		delete(want, f.Name())
		b, err := fs.ReadFile(web, "web/vendor/"+f.Name())
		if got := sha256.Sum256(b); err != nil || !known || sum != "" && sum != hex.EncodeToString(got[:]) {
			t.Errorf("%s is not as it was published (%v): run script/vendor-inspector.sh", f.Name(), err)
		}
		if strings.HasSuffix(f.Name(), ".js") {
			licence := "web/vendor/" + f.Name()[:strings.IndexByte(f.Name(), '.')] + ".LICENSE"
			if _, err := fs.Stat(web, licence); err != nil {
				t.Errorf("%s lies there without its licence: %v", f.Name(), err)
			}
		}
	}
	for name := range want {
		t.Errorf("%s is missing", name)
	}
}
