// Command ledger keeps and verifies an evidence ledger.
//
// It parses, calls the packages and prints. Exit codes: 0 done or verified, 1
// verification found something, 2 could not do it. Reports go to standard
// output, progress and errors to standard error.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"evidence-ledger/ledger"
	"evidence-ledger/ledger/node"
	"evidence-ledger/ledger/store"
	"evidence-ledger/verify"
	"evidence-ledger/verify/checkpoint"
	"evidence-ledger/verify/problem"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends what the first could not
	code := run(ctx, os.Args[1:])
	stop()
	os.Exit(code)
}

// exit ends a command with a code after it has printed all there is to say.
type exit int

func (e exit) Error() string { return fmt.Sprintf("exit %d", int(e)) }

// run is main without the process, for testscript.
func run(ctx context.Context, args []string) int {
	root := command()
	root.SetArgs(args)
	started := false
	root.PersistentPreRun = func(*cobra.Command, []string) { started = true }
	cmd, err := root.ExecuteContextC(ctx)
	var code exit
	switch {
	case err == nil:
		return 0
	case errors.As(err, &code):
		return int(code)
	}
	fmt.Fprintln(os.Stderr, "ledger:", verify.Printable(err.Error())) // it may quote what is foreign
	if h := hintFor(err); h != "" {
		fmt.Fprintln(os.Stderr, "hint:", h)
	} else if !started {
		fmt.Fprintf(os.Stderr, "hint: see `%s --help`\n", cmd.CommandPath())
	}
	return 2
}

// hintFor says what to do about errors that a user meets.
func hintFor(err error) string {
	var corrupt *store.CorruptError
	var running *node.RunningError
	switch {
	case errors.Is(err, store.ErrNoLedger):
		return "name the ledger's folder with --dir; `ledger init --origin NAME --organisation NAME` makes a new one"
	case errors.As(err, &running):
		return "commands on this directory reach it by themselves; `ledger status` shows how it is"
	case errors.Is(err, store.ErrLocked):
		return "another process has the store open, and no node answers on its socket: is a node just starting or stopping?"
	case errors.Is(err, node.ErrNotRunning):
		return "start it with `ledger serve`"
	case errors.Is(err, verify.ErrEmpty):
		return "its creation was interrupted, or everything is gone: compare with the identity line and with the second place"
	case errors.Is(err, ledger.ErrCrashStop):
		return "start the node again: it finds out what was committed; nothing that was acknowledged is lost"
	case errors.As(err, &corrupt):
		return "`ledger verify` names what cannot be read; put back the copy of the folder that still verifies"
	case errors.Is(err, syscall.EADDRINUSE) || strings.Contains(err.Error(), "address already in use"):
		return "another program listens there, perhaps another node: choose other addresses with --nats and --http"
	case errors.Is(err, os.ErrPermission):
		return "run it as the user that owns the ledger, or copy the folder to where you may read it: cp -r"
	}
	return hintForRule(problem.Of(err))
}

// hintForRule says what to do about rules that commands meet.
func hintForRule(p *problem.Problem) string {
	if p == nil {
		return ""
	}
	switch p.Code {
	case "trust.possession":
		return "the request was made for another ledger or name: was `collector init` given this ledger's identity line?"
	case "trust.keys-distinct":
		return "this key is in the log already: `ledger collector list` shows it; a new one is made by `collector init`"
	case "trust.quorum":
		return "more admins have to sign: `ledger propose` writes the action, each runs `ledger sign FILE --key KEY`, then `ledger submit FILE`"
	case "trust.signer":
		return "this is no admin's key: give an admin's with --admin-key, or with --key when signing"
	case "trust.basis":
		return "another action came first: run the command again"
	case "identity.format", "identity.key-name", "identity.genesis":
		return "`ledger identity` on the ledger's machine prints the line"
	}
	return ""
}

// options that all commands have.
type options struct {
	dir          string
	second       string
	passwordFile string
	schemes      []string
	password     func(file string, fresh bool) ([]byte, error)
}

func (o *options) config() node.Config {
	return node.Config{Dir: o.dir, SecondPlace: o.second, Keys: o.keys()}
}

// view opens the directory for reading and closes it behind fn.
func (o *options) view(fn func(*node.View) error) error {
	v, err := node.Open(o.dir, o.second)
	if err != nil {
		return err
	}
	err = fn(v)
	if closing := v.Close(); closing != nil {
		// What was found stands, whether or not the copy could be removed.
		fmt.Fprintln(os.Stderr, "warning: tidying up:", verify.Printable(closing.Error()))
	}
	return err
}

func command() *cobra.Command {
	o := &options{}
	root := &cobra.Command{
		Use:           "ledger",
		Short:         "An evidence ledger: signed events, hash-chained and provable",
		Version:       version(),
		SilenceErrors: true, SilenceUsage: true,
	}
	root.PersistentFlags().StringVar(&o.dir, "dir", "ledger-data", "the data directory")
	root.PersistentFlags().StringVar(&o.second, "second-place", "", "folder of the newest checkpoint's second place (default DIR/second-place)")
	root.PersistentFlags().StringVar(&o.passwordFile, "password-file", "", "file with the password of encrypted keys (default the environment variable LEDGER_KEY_PASSWORD, else you are asked)")
	root.PersistentFlags().StringSliceVar(&o.schemes, "kms-scheme", schemesOfEnvironment(), "a KMS scheme for which the program sigstore-kms-SCHEME may be run (default the environment variable LEDGER_KMS_SCHEMES)")
	root.AddCommand(initCommand(o), serveCommand(o), statusCommand(o), identityCommand(o), verifyCommand(o), logCommand(o), showCommand(o), collectorCommand(o), quarantineCommand(o),
		proposeCommand(o), signCommand(o), submitCommand(o), keyCommand(o))
	return root
}

// parseIdentity reads an identity line, or the file that holds one.
func parseIdentity(s string) (*checkpoint.Identity, error) {
	line := s
	if !strings.HasPrefix(s, "evidence-ledger-identity@") {
		raw, err := os.ReadFile(s)
		if err != nil {
			return nil, fmt.Errorf("read the identity line (--identity takes the line or the file that holds it): %w", err)
		}
		line = string(raw)
	}
	id, err := checkpoint.ParseIdentity(line)
	if err != nil && line != s {
		return nil, fmt.Errorf("the file %s (%d bytes): %w", s, len(line), err)
	}
	return id, err
}

// group is a command that only holds others: an unknown one is an error.
func group(cmd *cobra.Command) *cobra.Command {
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) > 0 {
			return fmt.Errorf("unknown command %q for %q: see `%s --help`", args[0], cmd.CommandPath(), cmd.CommandPath())
		}
		return cmd.Help()
	}
	return cmd
}

// version is the program's, as the build knows it.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	v := info.Main.Version
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			v += " " + s.Value
		}
	}
	return strings.TrimSpace(v + " " + info.GoVersion)
}
