package child

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

// TestMain also is the children of its tests.
func TestMain(m *testing.M) {
	if role := Role(); role != "" {
		if err := roles[role](); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(3)
		}
		return
	}
	goleak.VerifyTestMain(m)
}

var roles = map[string]func() error{
	"echo": func() error {
		return Serve(func(ctx context.Context, ready func(string)) error {
			ready("here:" + os.Getenv("PORT"))
			<-ctx.Done()
			return nil
		}, func(_ context.Context, line string) string { return "heard " + line })
	},
	"broken": func() error { return errors.New("it cannot be") },
	"mortal": func() error {
		return Serve(func(ctx context.Context, ready func(string)) error {
			ready("here")
			<-ctx.Done()
			return errors.New("no good end")
		}, func(context.Context, string) string { os.Exit(4); return "" })
	},
	"slow": func() error {
		return Serve(func(ctx context.Context, ready func(string)) error {
			ready("here")
			<-ctx.Done()
			return nil
		}, func(ctx context.Context, _ string) string {
			<-ctx.Done()
			return ""
		})
	},
	"silent": func() error {
		return Serve(func(ctx context.Context, _ func(string)) error {
			<-ctx.Done()
			return nil
		}, nil)
	},
}

func TestChildServesAnswersAndEnds(t *testing.T) {
	p, err := Start(t.Context(), "echo", "PORT=7")
	if err != nil {
		t.Fatal(err)
	}
	if p.Address != "here:7" {
		t.Errorf("it serves at %q", p.Address)
	}
	for _, word := range []string{"one", "two"} {
		if got, err := p.Ask(t.Context(), word); err != nil || got != "heard "+word {
			t.Errorf("it answered %q, %v", got, err)
		}
	}
	select {
	case <-p.Ended():
		t.Error("it has ended by itself")
	default:
	}
	if err := errors.Join(p.End(), p.End()); err != nil {
		t.Error(err)
	}
	<-p.Ended()
	if _, err := p.Ask(t.Context(), "three"); err == nil {
		t.Error("it answers after its end")
	}
}

func TestChildThatCannotServe(t *testing.T) {
	if _, err := Start(t.Context(), "broken"); err == nil || !strings.Contains(err.Error(), "it cannot be") {
		t.Errorf("the error is %v", err)
	}
}

func TestChildThatDies(t *testing.T) {
	p, err := Start(t.Context(), "mortal")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Ask(t.Context(), "die"); err == nil || !strings.Contains(err.Error(), "mortal process has ended") {
		t.Errorf("the error is %v", err)
	}
	<-p.Ended()
	if err := p.End(); err == nil || !strings.Contains(err.Error(), "exit status 4") {
		t.Errorf("its end is %v", err)
	}
}

func TestChildWithABadEnd(t *testing.T) {
	p, err := Start(t.Context(), "mortal")
	if err != nil {
		t.Fatal(err)
	}
	if err := p.End(); err == nil || !strings.Contains(err.Error(), "no good end") {
		t.Errorf("its end is %v", err)
	}
}

// A child that never serves keeps nobody who has given up on it.
func TestChildThatNeverServes(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	stop()
	if _, err := Start(ctx, "silent"); !errors.Is(err, context.Canceled) {
		t.Errorf("the error is %v", err)
	}
}

// Nor does one that would serve, however fast.
func TestChildThatIsGivenUpAtOnce(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	stop()
	if _, err := Start(ctx, "echo"); !errors.Is(err, context.Canceled) {
		t.Errorf("the error is %v", err)
	}
}

// Nor does one that takes long to answer: it is told, and ends in good order.
func TestAnswerThatIsGivenUp(t *testing.T) {
	p, err := Start(t.Context(), "slow")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	asked := make(chan error, 1)
	go func() {
		_, err := p.Ask(ctx, "how long?")
		asked <- err
	}()
	stop()
	if err := <-asked; !errors.Is(err, context.Canceled) {
		t.Errorf("the error is %v", err)
	}
	if err := p.End(); err != nil {
		t.Error(err)
	}
}

// Each process leaves a profile where it is told to.
func TestProfile(t *testing.T) {
	dir := t.TempDir()
	p, err := Start(t.Context(), "echo", ProfileVar+"="+dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.End(); err != nil {
		t.Fatal(err)
	}
	files, err := os.ReadDir(dir)
	if err != nil || len(files) != 1 || !strings.HasPrefix(files[0].Name(), "echo-") {
		t.Fatalf("the files are %v, %v", files, err)
	}
	if info, err := files[0].Info(); err != nil || info.Size() == 0 {
		t.Errorf("there is nothing in it: %v", err)
	}
}

func TestProfileThatCannotBeWritten(t *testing.T) {
	if _, err := Start(t.Context(), "echo", ProfileVar+"="+t.TempDir()+"/gone"); err == nil || !strings.Contains(err.Error(), "a directory that is there") {
		t.Errorf("the error is %v", err)
	}
}
