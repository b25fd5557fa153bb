// Command skew runs the core system tests across versions: the agent of this tree with the relay of an older one, and the
// other way round. The older one is the last tagged version, or, before there is any, the commit that the file baseline
// beside this one names.
//
// It is for CI and for whoever changes what crosses the wire. It changes nothing in the repository: the older tree is taken
// from git into a temporary directory and built there. Where there is neither a tag nor that commit (an archive, a shallow
// clone) it says so, and fails where SALLYPORT_LAB is "required".
//
//	go run ./test/skew                 # in the root of the module
//	go run ./test/skew -rev v0.3.0     # against that
package main

import (
	"context"
	_ "embed"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
)

// baseline names the first commit whose protocol is kept.
//
//go:embed baseline
var baseline string

// core is what has to work across versions: every kind of exchange, refusals, restarts and reloads. What one program does
// alone is left to its own version's tests.
const core = "^(TestExchanges|TestRefusalSaysWho|TestEventsArriveOneByOne|TestWebSocket|TestCallerHangsUp|TestUpstreamDiesInMidBody|" +
	"TestManyAtOnce|TestBodyLimits|TestReloadUnderLoad|TestRestartsUnderLoad|TestRevokedKey|TestKillAtEachStepOfSetup)$"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "skew:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	f := flag.NewFlagSet("skew", flag.ContinueOnError)
	rev := f.String("rev", "", "the older `revision` (default: the last tag that begins with v, else the baseline)")
	tests := f.String("run", core, "which system tests")
	if err := f.Parse(args); errors.Is(err, flag.ErrHelp) {
		return nil
	} else if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "skew")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	old, err := older(ctx, *rev)
	if err != nil {
		return cannot(err)
	}
	if err := build(ctx, dir, old); err != nil {
		return err
	}
	bin := filepath.Join(dir, "bin")
	err = across(ctx, *tests, "the relay of "+old+", the agent of this tree", "SALLYPORT_RELAY="+filepath.Join(bin, "sallyport-relay"))
	return errors.Join(err,
		across(ctx, *tests, "the relay of this tree, the agent of "+old, "SALLYPORT_AGENT="+filepath.Join(bin, "sallyport-agent")))
}

// cannot says loudly that nothing was tried.
func cannot(reason error) error {
	line := fmt.Errorf("NOT RUN: versions were not tried across each other: %w", reason)
	if os.Getenv("SALLYPORT_LAB") == "required" {
		return line
	}
	fmt.Fprintln(os.Stderr, line)
	return nil
}

// older finds the revision to try against.
func older(ctx context.Context, rev string) (string, error) {
	if rev == "" {
		// HEAD^, so that a version that has just been tagged is tried against the one before.
		if tag, err := git(ctx, "describe", "--tags", "--abbrev=0", "--match", "v[0-9]*", "HEAD^"); err == nil {
			rev = tag
		} else {
			rev = strings.TrimSpace(baseline)
		}
	}
	if _, err := git(ctx, "rev-parse", "--verify", "--quiet", rev+"^{commit}"); err != nil {
		return "", fmt.Errorf("the repository has no revision %s (a shallow clone? fetch its tags and history)", rev)
	}
	return rev, nil
}

func git(ctx context.Context, args ...string) (string, error) {
	out, err := exec.CommandContext(ctx, "git", append([]string{"-c", "safe.directory=*"}, args...)...).Output()
	return strings.TrimSpace(string(out)), err
}

// build takes the revision's tree from git and builds both programs.
func build(ctx context.Context, dir, rev string) error {
	fmt.Printf("skew: building %s\n", rev)
	archive, tree := filepath.Join(dir, "tree.tar"), filepath.Join(dir, "tree")
	if _, err := git(ctx, "archive", "--format=tar", "-o", archive, rev); err != nil {
		return fmt.Errorf("take the tree of %s from git: %w", rev, err)
	}
	if err := os.Mkdir(tree, 0o755); err != nil {
		return err
	}
	if err := command(ctx, "", nil, "tar", "-xf", archive, "-C", tree); err != nil {
		return fmt.Errorf("unpack the tree of %s: %w", rev, err)
	}
	bin := filepath.Join(dir, "bin") + "/"
	if err := command(ctx, tree, nil, "go", "build", "-o", bin, "./cmd/sallyport-relay", "./cmd/sallyport-agent"); err != nil {
		return fmt.Errorf("build %s: %w", rev, err)
	}
	return nil
}

// across runs the system tests with one program replaced.
func across(ctx context.Context, tests, what, replaced string) error {
	fmt.Printf("skew: %s\n", what)
	err := command(ctx, "", []string{replaced}, "go", "test", "-count=1", "-timeout=10m", "-run", tests, "./test/system")
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

func command(ctx context.Context, dir string, env []string, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), env...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	return cmd.Run()
}
