package main_test

import (
	"encoding/json/v2"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/rogpeppe/go-internal/testscript"

	"evidence-ledger/ledger/node"
)

// TestScripts runs testdata/*.txt: the manual of both programs, as a person
// would type it. Besides testscript's own commands the scripts have those of
// commands below.
func TestScripts(t *testing.T) { runScripts(t, "testdata") }

// TestForeignTools runs testdata/foreign/*.txt: hashes, signatures and proofs of
// a real ledger, checked without a line of our own code.
func TestForeignTools(t *testing.T) {
	for _, tool := range []string{"openssl", "sha256sum", "awk", "od"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skip("needs " + tool)
		}
	}
	runScripts(t, filepath.Join("testdata", "foreign"))
}

func runScripts(t *testing.T, folder string) {
	bin := programs(t)
	testscript.Run(t, testscript.Params{
		Dir:                 folder,
		Cmds:                commands,
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Deadline:            time.Now().Add(4 * time.Minute), // of a node that should have refused to start
		Setup: func(env *testscript.Env) error {
			env.Setenv("PATH", bin+string(os.PathListSeparator)+env.Getenv("PATH"))
			env.Setenv("HOME", filepath.Join(env.WorkDir, "home"))
			env.Setenv("XDG_STATE_HOME", "")
			return nil
		},
	})
}

// freePort finds a TCP port of the loopback address that is free, below those
// which the system gives to outgoing connections: a client that dials a port of
// its own range again and again may end up connected to itself.
func freePort() (int, error) {
	for range 100 {
		port := 20_000 + rand.IntN(12_000)
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			return port, l.Close()
		}
	}
	return 0, errors.New("no free port between 20000 and 32000")
}

var commands = map[string]func(*testscript.TestScript, bool, []string){
	"exits":     exits,
	"ready":     ready,
	"terminate": terminate,
	"up":        up,
	"port":      port,
	"sources":   sources,
	"get":       get,
	"submit":    submit,
	"until":     until,
}

func usage(ts *testscript.TestScript, neg bool, args []string, least int, text string) {
	if neg || len(args) < least {
		ts.Fatalf("usage: %s", text)
	}
}

// exits CODE PROGRAM ARGS: the program ends with exactly this exit code.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, args, 2, "exits CODE PROGRAM [ARGS]")
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got, ended := exitCode(ts.Exec(args[1], args[2:]...))
	if !ended || got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

const patience = 60 * time.Second

// ready DIR: wait until the node of a data directory answers; $NATS and $HTTP
// are then its addresses.
func ready(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, args, 1, "ready DIR")
	s, err := nodeStatus(ts.MkAbs(args[0]), patience)
	ts.Check(err)
	ts.Setenv("NATS", s.NATS)
	ts.Setenv("HTTP", s.HTTP)
}

func nodeStatus(dir string, patience time.Duration) (s node.Status, err error) {
	for end := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		client, err := node.Dial(dir)
		if err == nil {
			if s, err = client.Status(); err == nil {
				return s, nil
			}
		}
		if time.Now().After(end) {
			return s, err
		}
	}
}

// terminate PROGRAM: send SIGTERM to the one that runs in the background, which
// testscript's kill cannot.
func terminate(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, args, 1, "terminate PROGRAM")
	found := 0
	for _, cmd := range ts.BackgroundCmds() {
		if filepath.Base(cmd.Path) == args[0] {
			found++
			ts.Check(cmd.Process.Signal(syscall.SIGTERM))
		}
	}
	if found != 1 {
		ts.Fatalf("%d of %s run in the background, want 1", found, args[0])
	}
}

// up FILE: wait until a socket or another file is there.
func up(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, args, 1, "up FILE")
	for end := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		if _, err := os.Stat(ts.MkAbs(args[0])); err == nil {
			return
		} else if time.Now().After(end) {
			ts.Fatalf("%v", err)
		}
	}
}

// port NAME: $NAME is a free TCP port, for what must keep its address.
func port(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, args, 1, "port NAME")
	p, err := freePort()
	ts.Check(err)
	ts.Setenv(args[0], strconv.Itoa(p))
}

// sources DIR HISTORY: the collector in DIR reads this apt history and no log
// of the machine that runs the test.
func sources(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, args, 2, "sources DIR HISTORY")
	ts.Check(setConfig(ts.MkAbs(args[0]), map[string]any{
		"sources": map[string][]string{"apt-history": {ts.MkAbs(args[1])}, "dpkg": {}},
	}))
}

// setConfig changes members of a collector's config.json, as one does with an
// editor.
func setConfig(dir string, members map[string]any) error {
	path := filepath.Join(dir, "config.json")
	raw, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	config := map[string]any{}
	if err := json.Unmarshal(raw, &config); err != nil {
		return err
	}
	maps.Copy(config, members)
	if raw, err = json.Marshal(config); err != nil {
		return err
	}
	return os.WriteFile(path, raw, 0o644)
}

// get URL FILE: what HTTP gives.
func get(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, args, 2, "get URL FILE")
	resp, err := http.Get(args[0])
	ts.Check(err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	ts.Check(err)
	if resp.StatusCode != http.StatusOK {
		ts.Fatalf("%s: %s", resp.Status, body)
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), body, 0o644))
}

// submit DIR SUBJECT FILE: publish a file as it is over the connection of the
// collector in DIR, which its own program would never do.
func submit(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, args, 3, "submit DIR SUBJECT FILE")
	login, err := nats.NkeyOptionFromSeed(filepath.Join(ts.MkAbs(args[0]), "nkey.seed"))
	ts.Check(err)
	nc, err := nats.Connect(ts.Getenv("NATS"), login, nats.CustomInboxPrefix("_INBOX.web-1"))
	ts.Check(err)
	defer nc.Close()
	// The stream's answer says that it has the message.
	_, err = nc.Request(args[1], []byte(ts.ReadFile(args[2])), patience)
	ts.Check(err)
}

// until TEXT PROGRAM ARGS: run the program again and again until its
// output contains the text.
func until(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, args, 2, "until TEXT PROGRAM [ARGS]")
	for end := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		if err := ts.Exec(args[1], args[2:]...); err == nil && strings.Contains(ts.ReadFile("stdout"), args[0]) {
			return
		}
		if time.Now().After(end) {
			ts.Fatalf("%q does not come", args[0])
		}
	}
}
