package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/json/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"evidence-ledger/collectors/agent"
	"evidence-ledger/verify/checkpoint"
)

// command runs the program and holds its exit code.
func command(t *testing.T, want int, args ...string) (stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	if code := run(t.Context(), args, &out, &errs); code != want {
		t.Fatalf("collector %s: exit code %d, want %d\n%s%s", strings.Join(args, " "), code, want, out.String(), errs.String())
	}
	return out.String(), errs.String()
}

func contains(t *testing.T, text string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.Errorf("%q is not in:\n%s", part, text)
		}
	}
}

// setUp makes a collector's folder that reads one stanza of its own.
func setUp(t *testing.T) (dir, request string) {
	base := t.TempDir()
	private := ed25519.NewKeyFromSeed(make([]byte, 32))
	const origin = "ledger.example.org/evidence"
	id := &checkpoint.Identity{Origin: origin, VKey: checkpoint.VKey(origin, private.Public().(ed25519.PublicKey)), Genesis: sha256.Sum256(nil)}
	identity := filepath.Join(base, "identity")
	history := filepath.Join(base, "history.log")
	write(t, identity, id.String()+"\n")
	write(t, history, "\nStart-Date: 2026-01-01  10:00:00\nInstall: openssl:amd64 (3.0.2-1)\nEnd-Date: 2026-01-01  10:00:20\n")
	dir, request = filepath.Join(base, "data"), filepath.Join(base, "request.json")
	out, _ := command(t, 0, "init", "web-1", "--dir", dir, "--ledger", identity, "--node", "nats://127.0.0.1:1", "--timezone", "Europe/Berlin", "-o", request)
	contains(t, out, "web-1", origin, "ledger collector enrol "+request)
	c, err := agent.LoadConfig(dir)
	if err != nil {
		t.Fatal(err)
	}
	c.Sources = map[string][]string{"apt-history": {history}, "dpkg": {}}
	b, err := c.JSON()
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "config.json"), string(b))
	return dir, request
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestInitRefuses(t *testing.T) {
	dir, request := setUp(t)
	identity := filepath.Join(dir, "identity")
	_, errs := command(t, 2, "init", "web-1", "--dir", dir, "--ledger", identity)
	contains(t, errs, "exists already and is not overwritten")
	_, errs = command(t, 2, "init", "web-1", "--dir", dir+"2", "--ledger", "no-such-file")
	contains(t, errs, "no-such-file", "hint: ask an admin")
	_, errs = command(t, 2, "init", "Web 1", "--dir", dir+"2", "--ledger", identity)
	contains(t, errs, "name:")
	for _, out := range []string{request, filepath.Join(dir, "nowhere", "request.json")} {
		fresh := dir + "3"
		_, errs = command(t, 2, "init", "web-1", "--dir", fresh, "--ledger", identity, "-o", out)
		contains(t, errs, "the enrolment request: ", "hint: nothing was made", filepath.Join(fresh, "request.json"))
		if _, err := os.Stat(fresh); !os.IsNotExist(err) {
			t.Errorf("-o %s: the folder was left behind: %v", out, err)
		}
	}
	_, errs = command(t, 2, "init", "node", "--dir", dir+"3", "--ledger", identity)
	contains(t, errs, "the name node is the ledger node's own")
	_, errs = command(t, 0, "init", "web-2", "--dir", dir+"4", "--ledger", identity, "--type", "backup.*,patch.*", "--node", "127.0.0.1:1")
	if want := "warning: nothing here collects backup.*; what can be collected: patch.run.completed\n"; errs != want {
		t.Errorf("%q, want %q", errs, want)
	}
}

func TestUsage(t *testing.T) {
	for hint, args := range map[string][]string{
		"hint: see `collector once --help`":   {"once"},
		"hint: see `collector init --help`":   {"init", "web-1"},
		"hint: see `collector status --help`": {"status", "--no-such-flag"},
		"hint: see `collector list --help`":   {"list", "too", "much"},
		"hint: see `collector --help`":        {"no-such-command"},
	} {
		_, errs := command(t, 2, args...)
		contains(t, errs, hint)
	}
	out, _ := command(t, 0, "--version")
	contains(t, out, "collector ")
	out, _ = command(t, 0, "run", "--help")
	contains(t, out, "until SIGTERM or Ctrl-C", `(default "collector-data")`)
}

func TestInterrupted(t *testing.T) {
	dir, _ := setUp(t)
	ctx, stop := context.WithCancel(t.Context())
	time.AfterFunc(200*time.Millisecond, stop)
	var out, errs bytes.Buffer
	if code := run(ctx, []string{"once", "patch.run.completed", "--dir", dir}, &out, &errs); code != 2 {
		t.Errorf("exit code %d", code)
	}
	if want := "collector: interrupted; nothing is lost, what was collected stays on the spool\n"; !strings.HasSuffix(errs.String(), want) {
		t.Errorf("%s\nwant %s", errs.String(), want)
	}
}

func TestPermissionDenied(t *testing.T) {
	dir, _ := setUp(t)
	if err := os.Chmod(dir, 0); err != nil {
		t.Fatal(err)
	}
	if root := os.Getuid(); root == 0 {
		// Root may read everything: look at files as nobody, on this thread alone.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		if _, err := unix.SetfsuidRetUid(65534); err != nil {
			t.Fatal(err)
		}
		defer unix.SetfsuidRetUid(root)
	}
	t.Cleanup(func() { os.Chmod(dir, 0o700) })
	_, errs := command(t, 2, "status", "--dir", dir)
	contains(t, errs, "permission denied", "hint: run it as the user that owns the folder")
}

// TestOnceWithoutNode: the event is made, stays, and is not made again.
func TestOnceWithoutNode(t *testing.T) {
	dir, _ := setUp(t)
	out, errs := command(t, 2, "once", "patch.run.completed", "--dir", dir, "--wait", "300ms")
	contains(t, out, "1 new event, 0 receipts verified, 0 refused, 1 waiting")
	contains(t, errs, "1 event without a receipt: the node is not reachable at nats://127.0.0.1:1\n", "hint: nothing is lost")
	out, _ = command(t, 2, "once", "patch.run.completed", "--dir", dir, "--wait", "100ms")
	contains(t, out, "0 new events", "1 waiting")
	out, _ = command(t, 0, "status", "--dir", dir)
	contains(t, out, "1 waiting, 0 refused", "last number 1, no receipts yet\n", "none verified yet")
	out, _ = command(t, 0, "status", "--json", "--dir", dir)
	var s agent.Status
	if err := json.Unmarshal([]byte(out), &s); err != nil || s.Pending != 1 || s.Name != "web-1" {
		t.Errorf("status --json: %+v, %v", s, err)
	}
	out, _ = command(t, 0, "retry", "--dir", dir)
	contains(t, out, "0 events put back")
	_, errs = command(t, 2, "once", "no.such.type", "--dir", dir)
	contains(t, errs, "no.such.type", "hint: `collector list`")
}

func TestListAndMissingFolder(t *testing.T) {
	dir, _ := setUp(t)
	out, _ := command(t, 0, "list", "--dir", dir)
	contains(t, out, "patch.run.completed  (patchrun", "configured", "source apt-history: [")
	for _, args := range [][]string{{"list"}, {"status"}, {"run"}, {"once", "patch.run.completed"}, {"retry"}} {
		_, errs := command(t, 2, append(args, "--dir", dir+"-gone")...)
		contains(t, errs, "hint: make the folder with `collector init")
	}
	c, _ := agent.LoadConfig(dir)
	c.Sources["yum"] = []string{"/var/log/yum.log"}
	b, _ := c.JSON()
	write(t, filepath.Join(dir, "config.json"), string(b))
	_, errs := command(t, 2, "list", "--dir", dir)
	contains(t, errs, "sources.yum", "apt-history")
}

// TestWhileRunning: the others reach the daemon, and it stops cleanly.
func TestWhileRunning(t *testing.T) {
	dir, _ := setUp(t)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	done := make(chan int, 1)
	var out, errs bytes.Buffer
	go func() { done <- run(ctx, []string{"run", "--dir", dir}, &out, &errs) }()
	for end := time.Now().Add(10 * time.Second); agent.Dial(dir) == nil; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("run does not answer")
		}
	}
	text, _ := command(t, 2, "once", "patch.run.completed", "--dir", dir, "--wait", "100ms")
	contains(t, text, "1 waiting")
	text, _ = command(t, 0, "status", "--dir", dir)
	contains(t, text, "running     yes, not connected, ", "last number 1", ": 1 event\n")
	_, text = command(t, 2, "run", "--dir", dir)
	contains(t, text, "another process holds the spool", "hint:")
	stop()
	if code := <-done; code != 0 {
		t.Errorf("exit code %d: %s", code, errs.String())
	}
	contains(t, errs.String(), "running", "stopped")
}
