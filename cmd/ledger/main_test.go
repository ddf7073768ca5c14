package main_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

// The tests of this folder run the real programs: what a script here types is
// what a person types, and what a test kills is a process.

var built struct {
	sync.Once
	dir string
	err error
}

// programs builds ledger and collector once, and returns their folder. They
// have the race detector where the test has it.
func programs(t testing.TB) string {
	t.Helper()
	built.Do(func() {
		if built.dir, built.err = os.MkdirTemp("", "evidence-ledger-programs-"); built.err != nil {
			return
		}
		args := []string{"build", "-o", built.dir}
		if raceEnabled {
			args = append(args, "-race")
		}
		out, err := exec.Command("go", append(args, "evidence-ledger/cmd/ledger", "evidence-ledger/cmd/collector")...).CombinedOutput()
		if err != nil {
			built.err = fmt.Errorf("%w\n%s", err, out)
		}
	})
	if built.err != nil {
		t.Fatal("build the programs:", built.err)
	}
	return built.dir
}

// program is the path of one of them.
func program(t testing.TB, name string) string { return filepath.Join(programs(t), name) }

func TestMain(m *testing.M) {
	code := m.Run()
	if built.dir != "" {
		os.RemoveAll(built.dir)
	}
	os.Exit(code)
}

// exitCode is that of a process which has ended, -1 where it was killed.
func exitCode(err error) (int, bool) {
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0, true
	case errors.As(err, &exit):
		return exit.ExitCode(), true
	}
	return 0, false
}
