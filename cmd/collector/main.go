// Command collector observes a server and has a ledger keep what it saw.
//
// It parses, calls collectors/agent, and prints. Exit codes: 0 done, 1 found
// something to look at (refused events, a source that cannot be read, a node
// that contradicts itself), 2 could not do it.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	// The logs' zone must be known also where the system has no zone files.
	_ "time/tzdata"

	"github.com/spf13/cobra"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// errFound ends a command that did its work and printed what it found.
var errFound = errors.New("found something")

// hinted is an error that says what to do next.
type hinted struct {
	err  error
	hint string
}

func (h *hinted) Error() string { return h.err.Error() }
func (h *hinted) Unwrap() error { return h.err }

func hint(err error, format string, args ...any) error {
	return &hinted{err, fmt.Sprintf(format, args...)}
}

// run is main without the process.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	f := &folder{}
	root := f.rootCommand()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	cmd, err := root.ExecuteContextC(ctx)
	switch {
	case err == nil:
		return 0
	case errors.Is(err, errFound):
		return 1
	}
	fmt.Fprintln(stderr, "collector:", err)
	var h *hinted
	switch {
	case errors.As(err, &h):
		fmt.Fprintln(stderr, "hint:", h.hint)
	case !f.began:
		fmt.Fprintf(stderr, "hint: see `%s --help`\n", cmd.CommandPath())
	case errors.Is(err, os.ErrPermission):
		fmt.Fprintln(stderr, "hint: run it as the user that owns the folder")
	}
	return 2
}

// folder is the value of --dir, which all commands have.
type folder struct {
	dir   string
	began bool // a command has begun: an error is not one of usage
}

func (f *folder) rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "collector",
		Short: "Observe this server and have a ledger keep what was seen",
		Long: "Collector reads this server's own logs, signs what it saw, and sends it to a ledger's node.\n" +
			"What it saw stays on its spool until the node's receipt has been verified.",
		Version:       version(),
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.PersistentFlags().StringVar(&f.dir, "dir", "collector-data", "the collector's folder: keys, configuration, spool")
	for _, cmd := range []*cobra.Command{f.initCommand(), f.onceCommand(), f.runCommand(), f.statusCommand(), f.listCommand(), f.retryCommand()} {
		do := cmd.RunE
		cmd.RunE = func(cmd *cobra.Command, args []string) error {
			f.began = true
			return do(cmd, args)
		}
		root.AddCommand(cmd)
	}
	return root
}

// version is what the build says, or "devel".
func version() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" && info.Main.Version != "(devel)" {
		return info.Main.Version
	}
	return "devel"
}

func logger(cmd *cobra.Command) *slog.Logger {
	return slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), nil))
}
