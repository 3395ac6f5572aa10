package check

import (
	"maps"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/compose-spec/compose-go/v2/loader"
	"github.com/compose-spec/compose-go/v2/types"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	policy "k8s.io/api/policy/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/yaml"
)

// The folders of the programs in the image.
var programs = map[string]string{
	"program": "./samples/counter", "gate": "./cmd/gate", "inspector": "./cmd/inspector", "goverse": "./cmd/goverse",
}

// help is what a program says of itself.
func help(t *testing.T, program string) string {
	t.Helper()
	folder := programs[program]
	if folder == "" {
		t.Fatalf("there is no program %q in the image", program)
	}
	helps.Lock()
	defer helps.Unlock()
	if helps.of[program] == "" {
		c := exec.Command("go", "run", folder, "--help")
		c.Dir = "../.."
		out, err := c.CombinedOutput()
		if err != nil {
			t.Fatalf("%s --help: %v\n%s", program, err, out)
		}
		helps.of[program] = string(out)
	}
	return helps.of[program]
}

var helps = struct {
	sync.Mutex
	of map[string]string
}{of: map[string]string{}}

// takes checks that a program has the flags of a command line, and the variables.
func takes(t *testing.T, where string, command []string, variables []string) {
	t.Helper()
	text := help(t, command[0])
	for _, arg := range command[1:] {
		name, _, _ := strings.Cut(strings.TrimLeft(arg, "-"), "=")
		if !strings.HasPrefix(arg, "--") || !regexp.MustCompile(`(?m)^\s+--?`+regexp.QuoteMeta(name)+`\b`).MatchString(text) {
			t.Errorf("%s: %s has no flag %s", where, command[0], arg)
		}
	}
	for _, v := range variables {
		flag, ours := strings.CutPrefix(v, "GOVERSE_")
		name := strings.ReplaceAll(strings.ToLower(flag), "_", "-")
		if ours && !strings.Contains(text, v) && !strings.Contains(text, "-"+name+" ") && !shared[v] {
			t.Errorf("%s: %s knows no %s", where, command[0], v)
		}
	}
}

// shared variables are given to every process of the compose file, whether it needs them or not.
var shared = map[string]bool{"GOVERSE_POSTGRES": true}

// object is what the checks need of a document.
type object struct {
	name     string
	labels   labels.Set // of its pods
	selector labels.Set
	pod      *core.PodSpec
	service  string // a StatefulSet's
	ports    []core.ServicePort
	budget   bool
}

// decode reads a document strictly, by its kind.
func decode(t *testing.T, document string) object {
	t.Helper()
	var kind meta.TypeMeta
	if err := yaml.Unmarshal([]byte(document), &kind); err != nil {
		t.Fatal(err)
	}
	strictly := func(into any) {
		t.Helper()
		if err := yaml.UnmarshalStrict([]byte(document), into, yaml.DisallowUnknownFields); err != nil {
			t.Fatalf("%s: %v", kind.Kind, err)
		}
	}
	switch kind.APIVersion + " " + kind.Kind {
	case "v1 Service":
		var s core.Service
		strictly(&s)
		return object{name: s.Name, selector: s.Spec.Selector, ports: s.Spec.Ports}
	case "apps/v1 StatefulSet":
		var s apps.StatefulSet
		strictly(&s)
		return object{name: s.Name, selector: s.Spec.Selector.MatchLabels, labels: s.Spec.Template.Labels, pod: &s.Spec.Template.Spec, service: s.Spec.ServiceName}
	case "apps/v1 Deployment":
		var d apps.Deployment
		strictly(&d)
		return object{name: d.Name, selector: d.Spec.Selector.MatchLabels, labels: d.Spec.Template.Labels, pod: &d.Spec.Template.Spec}
	case "policy/v1 PodDisruptionBudget":
		var p policy.PodDisruptionBudget
		strictly(&p)
		return object{name: p.Name, selector: p.Spec.Selector.MatchLabels, budget: true}
	}
	t.Fatalf("nobody checks a %s of %s", kind.Kind, kind.APIVersion)
	return object{}
}

func TestKubernetes(t *testing.T) {
	text, err := os.ReadFile("../kubernetes/goverse.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var all, workloads []object
	for document := range strings.SplitSeq(string(text), "\n---\n") {
		o := decode(t, document)
		all = append(all, o)
		if o.pod != nil {
			workloads = append(workloads, o)
		}
	}
	if len(workloads) != 3 {
		t.Errorf("%d workloads; want nodes, gates and the inspector", len(workloads))
	}
	for _, o := range all {
		if !slices.ContainsFunc(workloads, func(w object) bool { return labels.SelectorFromSet(o.selector).Matches(w.labels) }) {
			t.Errorf("%s selects no pods", o.name)
		}
		if o.service != "" && !slices.ContainsFunc(all, func(s object) bool { return s.name == o.service && s.ports != nil }) {
			t.Errorf("%s: there is no service %s", o.name, o.service)
		}
	}
	for _, w := range workloads {
		c := w.pod.Containers[0]
		var variables []string
		for _, e := range c.Env {
			variables = append(variables, e.Name)
		}
		takes(t, w.name, append(slices.Clone(c.Command), c.Args...), variables)
		probes(t, w.name, &c)
		for _, s := range all {
			if s.ports == nil || !labels.SelectorFromSet(s.selector).Matches(w.labels) {
				continue
			}
			for _, p := range s.ports {
				if !slices.ContainsFunc(c.Ports, func(o core.ContainerPort) bool { return o.ContainerPort == p.Port }) {
					t.Errorf("service %s sends to port %d, which %s has not", s.name, p.Port, w.name)
				}
			}
		}
		drains(t, w.name, w.pod, &c)
	}
}

// probes checks that probes ask ports that the container has, and listens at.
func probes(t *testing.T, where string, c *core.Container) {
	t.Helper()
	for _, p := range c.Ports {
		port := regexp.MustCompile(`=:` + strconv.Itoa(int(p.ContainerPort)) + `$`)
		if !slices.ContainsFunc(c.Args, port.MatchString) {
			t.Errorf("%s: nothing listens on port %d", where, p.ContainerPort)
		}
	}
	for _, p := range []*core.Probe{c.StartupProbe, c.ReadinessProbe, c.LivenessProbe} {
		if p == nil {
			continue
		}
		if !slices.ContainsFunc(c.Ports, func(o core.ContainerPort) bool { return o.Name == p.HTTPGet.Port.StrVal }) {
			t.Errorf("%s: a probe asks port %q", where, p.HTTPGet.Port.StrVal)
		}
		if p.HTTPGet.Path != "/healthz" && p.HTTPGet.Path != "/ready" {
			t.Errorf("%s: a probe asks for %s", where, p.HTTPGet.Path)
		}
	}
}

// drains checks that what a pod does before its end fits into its grace period, with what a
// process needs to end (--drain-timeout, 25 s).
func drains(t *testing.T, where string, pod *core.PodSpec, c *core.Container) {
	t.Helper()
	if c.Lifecycle == nil {
		return
	}
	var takes time.Duration
	switch stop := c.Lifecycle.PreStop; {
	case stop.Sleep != nil:
		takes = time.Duration(stop.Sleep.Seconds) * time.Second
	case stop.Exec != nil:
		bound := regexp.MustCompile(`^timeout (\d+) goverse drain "\$GOVERSE_ADVERTISE" --wait$`).FindStringSubmatch(stop.Exec.Command[2])
		if bound == nil {
			t.Fatalf("%s: %v", where, stop.Exec.Command)
		}
		takes, _ = time.ParseDuration(bound[1] + "s")
	}
	if grace := time.Duration(*pod.TerminationGracePeriodSeconds) * time.Second; takes+30*time.Second > grace {
		t.Errorf("%s: preStop takes up to %v, and the pod is killed after %v", where, takes, grace)
	}
}

func TestCompose(t *testing.T) {
	text, err := os.ReadFile("../compose/compose.yaml")
	if err != nil {
		t.Fatal(err)
	}
	project, err := loader.LoadWithContext(t.Context(), types.ConfigDetails{
		WorkingDir:  "../compose",
		ConfigFiles: []types.ConfigFile{{Filename: "compose.yaml", Content: text}},
	})
	if err != nil {
		t.Fatal(err)
	}
	ours := 0
	for name, s := range project.Services {
		if s.Image != "goverse-counter" {
			continue
		}
		ours++
		var variables []string
		for v := range s.Environment {
			variables = append(variables, v)
		}
		takes(t, name, s.Command, variables)
		if s.StopGracePeriod == nil || time.Duration(*s.StopGracePeriod) < 30*time.Second {
			t.Errorf("%s is killed after %v: a node has 25 s to hand over", name, s.StopGracePeriod)
		}
	}
	if ours != 4 {
		t.Errorf("%d of our services; want two nodes, a gate and the inspector", ours)
	}
}

// The Dockerfile builds the programs that the files of this folder start, from folders that
// there are.
func TestDockerfile(t *testing.T) {
	f, err := os.Open("../../Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	parsed, err := parser.Parse(f)
	if err != nil {
		t.Fatal(err)
	}
	var folders []string
	for _, line := range parsed.AST.Children {
		if _, build, ok := strings.Cut(line.Original, " go build "); ok {
			for _, word := range strings.Fields(strings.ReplaceAll(build, "$PROGRAM", programs["program"])) {
				if strings.HasPrefix(word, "./") {
					folders = append(folders, word)
				}
			}
		}
	}
	slices.Sort(folders)
	want := slices.Sorted(maps.Values(programs))
	if !slices.Equal(folders, want) {
		t.Errorf("the image is built from %v; want %v", folders, want)
	}
	c := exec.Command("go", append([]string{"list", "-f", "{{.Name}}"}, folders...)...)
	c.Dir = "../.."
	if out, err := c.CombinedOutput(); err != nil || strings.Count(string(out), "main\n") != len(folders) {
		t.Errorf("%v: %s, %v", folders, out, err)
	}
}
