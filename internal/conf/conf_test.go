package conf

import (
	"flag"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	"go.uber.org/goleak"
)

var update = flag.Bool("update", false, "write docs/reference/config.md anew")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// The transcripts: a file, and what is said of it.
//
//	check           the problems of a file, or "right"
//	settle          (node=ID|gate=ID) (flags=(--a=b,...)) (env=(A=b,...)): the flags of a program and where each came from
//	changes         two files, with a line "====" between them: what counts when
func TestTranscripts(t *testing.T) {
	datadriven.Walk(t, "testdata/transcripts", func(t *testing.T, path string) {
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			switch d.Cmd {
			case "check":
				if _, err := Parse("cluster.yaml", []byte(d.Input)); err != nil {
					return err.Error()
				}
				return "right"
			case "settle":
				settings, err := settle(t, d, d.Input)
				if err != nil {
					return err.Error()
				}
				var b strings.Builder
				for _, s := range settings {
					if s.From != Default {
						b.WriteString(s.Flag + "=" + s.Value + "  " + s.From + "  " + s.Key + "\n")
					}
				}
				return b.String()
			case "changes":
				before, after, _ := strings.Cut(d.Input, "====\n")
				old, err := settle(t, d, before)
				if err != nil {
					return err.Error()
				}
				now, err := settle(t, d, after)
				if err != nil {
					return err.Error()
				}
				one, _ := Parse("a", []byte(before))
				two, _ := Parse("b", []byte(after))
				var b strings.Builder
				for _, c := range append(Changes(old, now, nil), Lists(&one.File, &two.File)...) {
					b.WriteString(c.String() + "\n")
				}
				return b.String()
			}
			d.Fatalf(t, "unknown command %s", d.Cmd)
			return ""
		})
	})
}

// settle is what a small program makes of a file.
func settle(t *testing.T, d *datadriven.TestData, text string) ([]Setting, error) {
	doc, err := Parse("cluster.yaml", []byte(text))
	if err != nil {
		return nil, err
	}
	values, err := doc.Node(argument(d, "node"))
	if d.HasArg("gate") {
		values, err = doc.Gate(argument(d, "gate"))
	}
	if err != nil {
		return nil, err
	}
	fs := flag.NewFlagSet("", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	for _, name := range []string{"config", "listen", "http-listen", "etcd", "etcd-prefix", "log-level", "postgres-password", "postgres-host", "colour"} {
		fs.String(name, "", "")
	}
	fs.Int("min-quorum", 1, "")
	fs.String("trace-otlp", "", "")
	fs.Float64("trace-ratio", 0, "")
	fs.Int("shards", 0, "")
	fs.Duration("call-timeout", 30*time.Second, "")
	if err := fs.Parse(arguments(d, "flags")); err != nil {
		t.Fatal(err)
	}
	environment := map[string]string{}
	for _, e := range arguments(d, "env") {
		name, value, _ := strings.Cut(e, "=")
		environment[name] = value
	}
	return Settle(fs, func(name string) (string, bool) { v, ok := environment[name]; return v, ok }, values)
}

func argument(d *datadriven.TestData, key string) string {
	if a := arguments(d, key); len(a) > 0 {
		return a[0]
	}
	return ""
}

func arguments(d *datadriven.TestData, key string) []string {
	for _, a := range d.CmdArgs {
		if a.Key == key {
			return a.Vals
		}
	}
	return nil
}

func TestReference(t *testing.T) {
	const path = "../../docs/reference/config.md"
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(Reference()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if text, err := os.ReadFile(path); err != nil || string(text) != Reference() {
		t.Errorf("%s is not what the tags say; go test ./internal/conf -update writes it (%v)", path, err)
	}
}

// A key without words cannot be explained, one without a yaml name cannot be set, and
// one flag stands for one key of a program.
func TestEveryKeyIsExplained(t *testing.T) {
	seen := map[string]bool{}
	for _, f := range fields {
		if f.doc == "" || strings.HasSuffix(f.path, ".") || f.path == "" {
			t.Errorf("%+v", f)
		}
		if seen[f.path] {
			t.Errorf("%s is there twice", f.path)
		}
		seen[f.path] = true
		if when[f.reload] == "" {
			t.Errorf("%s: reload %q", f.path, f.reload)
		}
	}
	if len(fields) < 50 || !secrets["postgres-password"] || !secrets["postgres"] {
		t.Errorf("%d fields, %v", len(fields), secrets)
	}
}

// All that File can hold comes out of a file that says all of it.
func TestEveryKeyIsRead(t *testing.T) {
	text, err := os.ReadFile("testdata/all.yaml")
	if err != nil {
		t.Fatal(err)
	}
	doc, err := Parse("all.yaml", text)
	if err != nil {
		t.Fatal(err)
	}
	if missing := zeros(reflect.ValueOf(doc.File), ""); len(missing) > 0 {
		t.Errorf("all.yaml does not say, or the decoder lost: %s", strings.Join(missing, ", "))
	}
}

func zeros(v reflect.Value, path string) (missing []string) {
	switch {
	case v.IsZero():
		return []string{path}
	case v.Kind() == reflect.Pointer:
		return zeros(v.Elem(), path)
	case v.Kind() == reflect.Slice && v.Type().Elem().Kind() == reflect.Struct:
		// Entries of a list differ: together they say everything.
		for i := range v.Type().Elem().NumField() {
			said := false
			for j := range v.Len() {
				said = said || !v.Index(j).Field(i).IsZero()
			}
			if !said {
				missing = append(missing, path+"[]."+v.Type().Elem().Field(i).Name)
			}
		}
	case v.Kind() == reflect.Struct:
		for i := range v.NumField() {
			missing = append(missing, zeros(v.Field(i), path+"."+v.Type().Field(i).Name)...)
		}
	}
	return missing
}

func TestHugeFilesAreRefused(t *testing.T) {
	if _, err := Parse("x", []byte(strings.Repeat("#", maxFile+1))); err == nil || !strings.Contains(err.Error(), "at most") {
		t.Error(err)
	}
	deep := "cluster: " + strings.Repeat("[", 5000) + strings.Repeat("]", 5000)
	if _, err := Parse("x", []byte(deep)); err == nil {
		t.Error("a deep file passed")
	}
}

func TestReadSaysWhatIsMissing(t *testing.T) {
	if _, err := Read(filepath.Join(t.TempDir(), "none.yaml")); err == nil || !strings.Contains(err.Error(), "none.yaml") {
		t.Error(err)
	}
}

// Whatever a file is, it gives a document or problems that name it.
func FuzzParse(f *testing.F) {
	all, err := os.ReadFile("testdata/all.yaml")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(all)
	for _, seed := range []string{
		"", "version: 1", "a: &a [*a]", "a: &a {b: *a}", "<<: {version: 1}", "version: !!int 1", "? [a]\n: b", "version: 1\n---\n", "\xff\xfe", "- - - -",
		"version: 0x1", "version: 1_0", "cluster: {etcd: {endpoints: [1, a, null]}}", "nodes: [{id: a}, {id: a}]", "cluster: ~", "\"\": 1", "version: 1\nversion: 1",
		"a: &a [x,x]\nb: &b [*a,*a]\nc: &c [*b,*b]\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		doc, err := Parse("f.yaml", text)
		if err == nil {
			if doc.Version != 1 {
				t.Fatalf("%q passed without a version", text)
			}
			_, _ = doc.Node("")
			_, _ = doc.Gate("x")
			return
		}
		problems, ok := err.(Problems)
		if !ok || len(problems) == 0 || doc != nil {
			t.Fatalf("%q: %T %v", text, err, err)
		}
		for _, p := range problems {
			if p.File != "f.yaml" || p.Text == "" || p.Line < 0 {
				t.Fatalf("%q: %+v", text, p)
			}
		}
	})
}
