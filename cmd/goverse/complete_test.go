package main

import (
	"context"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/xiaonanln/goverse/cluster/etcdmanager"
	"github.com/xiaonanln/goverse/cluster/etcdmanager/memkv"
	"github.com/xiaonanln/goverse/cmd/gate/gatecmd"
)

// What a shell is offered, and how it goes on: ":4" is without files, ":0" with them, ":16"
// with directories, ":8" with files of these kinds, ":6" without a blank behind the word.
func TestCompletion(t *testing.T) {
	store := memkv.NewStore()
	defer store.Close()
	write(t, store, twoNodes)
	for line, want := range map[string]string{
		"drai":                        "drain :4",
		"drain |":                     "a:1 b:1 :4",
		"drain b":                     "b:1 :4",
		"drain a:1 |":                 ":4",
		"drain a:1 --w":               "--wait :4",
		"explain |":                   "node object shard :4",
		"explain node a":              "a:1 :4",
		"explain shard 1":             "1 :4",
		"move |":                      "0 1 :4",
		"move 1 |":                    "a:1 b:1 :4",
		"shards --state |":            "unassigned assigned held moving orphaned adrift damaged :4",
		"shards --node |":             "a:1 b:1 :4",
		"objects --node=b":            "b:1 :4",
		"nodes |":                     ":4",
		"nodes --output |":            "table json :4",
		"nodes --etcd-tls-ca |":       ":0",
		"nodes --data-dir |":          ":16",
		"nodes --timeout |":           ":4",
		"cert ca --dir |":             ":16",
		"config check |":              "yaml yml :8",
		"config show --config |":      ":0",
		"config show -- --log-l":      "--log-level :4",
		"config show -- --max-s":      ":4",
		"dev |":                       ":16",
		"dev ./shop |":                ":4",
		"dev --no":                    "--nodes :4",
		"dev ./shop -- --quorum-l":    "--quorum-loss :4",
		"dev -- --quorum-loss |":      "continue freeze stop :4",
		"completion |":                "bash fish powershell zsh :4",
		"gate |":                      "--address-answer-bytes … --trusted-proxies :4",
		"gate --o":                    "--open-rate --ops-listen :4",
		"gate --require-tls --max-se": "--max-sessions :4",
		"gate --log-level |":          "debug info warn error off :4",
		"gate --log-level=d":          "--log-level=debug :4",
		"gate --config |":             ":0",
		"gate --listen |":             ":4",
		"gate --timeo":                ":4",
		"inspector --e":               "--etcd --etcd-prefix --etcd-tls-ca --etcd-tls-cert --etcd-tls-key :4",
		"inspector --data-dir |":      ":16",
		"inspector --tls-cert |":      ":0",

		"config show --gate-id g1 -- --max-se": "--max-sessions :4",
	} {
		head, tail, _ := strings.Cut(want, "…")
		if got := completions(t, store, line); !strings.HasPrefix(got, head) || !strings.HasSuffix(got, tail) || tail == "" && got != want {
			t.Errorf("%s: %s, want %s", line, got, want)
		}
	}
	for line, want := range map[string]string{"explain shard 1": "1\theld b:1\n", "gate --max-se": "--max-sessions\tclients that are", "drai": "drain\tMove"} {
		if out := complete(t, store, line); !strings.Contains(out, want) {
			t.Errorf("%s: %s, want %q", line, out, want)
		}
	}
}

func complete(t *testing.T, store *memkv.Store, line string) string {
	t.Helper()
	out := runOn(t, connectTo(t, store, true), nil, append([]string{"__complete"}, words(line)...)...)
	if out.code != 0 {
		t.Errorf("%s: %s", line, out)
	}
	return out.stdout
}

// completions is the words that a shell is offered, and how it goes on.
func completions(t *testing.T, store *memkv.Store, line string) string {
	t.Helper()
	var list []string
	for line := range strings.Lines(complete(t, store, line)) {
		word, _, _ := strings.Cut(strings.TrimSpace(line), "\t")
		list = append(list, word)
	}
	return strings.Join(list, " ")
}

// words is a command line; | is a word that is not begun.
func words(line string) []string {
	list := strings.Fields(line)
	if last := len(list) - 1; list[last] == "|" {
		list[last] = ""
	}
	return list
}

// Types are offered with the slash that an object's id follows, and no blank.
func TestCompletionOfObjects(t *testing.T) {
	store := memkv.NewStore()
	defer store.Close()
	write(t, store, strings.ReplaceAll(twoNodes, `"state":"ready"`, `"state":"ready","types":["ChatRoom","Counter"]`))
	for line, want := range map[string]string{
		"call |":            "ChatRoom/ Counter/ :6",
		"create Co":         "Counter/ :6",
		"explain object Ch": "ChatRoom/ :6",
		"objects |":         "ChatRoom Counter :4",
		"move C":            "ChatRoom/ Counter/ :6",
		"call Counter/a |":  ":4",
		"call Counter/a":    ":4",
	} {
		if got := completions(t, store, line); got != want {
			t.Errorf("%s: %s, want %s", line, got, want)
		}
	}
}

// A shell does not wait for an etcd that is not there, and hears nothing of it.
func TestCompletionWithoutEtcd(t *testing.T) {
	away := func(cfg etcdmanager.Config) (etcdmanager.KV, error) {
		if cfg.DialTimeout > offerPatience {
			t.Errorf("it waits for %v", cfg.DialTimeout)
		}
		return nil, context.DeadlineExceeded
	}
	for _, line := range []string{"drain |", "move |", "call |", "shards --node |"} {
		if out := runOn(t, away, nil, append([]string{"__complete"}, words(line)...)...); out.code != 0 || strings.TrimSpace(out.stdout) != ":4" {
			t.Errorf("%s: %s", line, out)
		}
	}
}

// The values that are offered are those that the flag's words name.
func TestChoicesAreTheFlags(t *testing.T) {
	for name, values := range choices {
		f := nodeFlags().Lookup(name)
		if f == nil {
			t.Errorf("there is no --%s", name)
			continue
		}
		for _, value := range values {
			if _, usage := flag.UnquoteUsage(f); !strings.Contains(usage, value) {
				t.Errorf("--%s: %q is not in %q", name, value, usage)
			}
		}
		if g := gatecmd.Flags().Lookup(name); g != nil && g.Usage != f.Usage {
			t.Errorf("--%s means %q to a gate", name, g.Usage)
		}
	}
}

// bash itself, with the script that it is given.
func TestCompletionInBash(t *testing.T) {
	bash, err := exec.LookPath("bash")
	if err != nil {
		t.Skip("there is no bash")
	}
	dir := t.TempDir()
	if err := os.Symlink(os.Args[0], filepath.Join(dir, "goverse")); err != nil {
		t.Fatal(err)
	}
	const script = `
source <(goverse completion bash)
_get_comp_words_by_ref() { cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} words=("${COMP_WORDS[@]}") cword=$COMP_CWORD; }
__ltrim_colon_completions() { :; }
compopt() { :; }
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMP_LINE="$*" COMP_POINT=${#COMP_LINE} COMP_TYPE=9
__start_goverse
printf '%s\n' "${COMPREPLY[@]}"
`
	for line, want := range map[string]string{
		"goverse dr":                       "drain",
		"goverse gate --log-f":             "--log-format",
		"goverse gate --log-level d":       "debug",
		"goverse inspector --member-n":     "--member-name",
		"goverse nodes --output j":         "json",
		"goverse completion z":             "zsh",
		"goverse dev ./shop -- --degraded": "--degraded-mode",
	} {
		c := exec.CommandContext(t.Context(), bash, append([]string{"--norc", "-c", script, "bash"}, strings.Fields(line)...)...)
		c.Dir = dir
		c.Env = []string{asProgram + "=1", "HOME=" + dir, "PATH=" + dir + ":" + os.Getenv("PATH")}
		out, err := c.CombinedOutput()
		if got := strings.Fields(string(out)); err != nil || !slices.Contains(got, want) {
			t.Errorf("%s: %s, %v, want %s", line, out, err, want)
		}
	}
}
