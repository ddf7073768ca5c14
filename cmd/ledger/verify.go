package main

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"evidence-ledger/ledger/node"
	"evidence-ledger/verify"
	"evidence-ledger/verify/checkpoint"
)

func verifyCommand(o *options) *cobra.Command {
	var identity, state string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "verify [DIR]",
		Short: "Check every byte of a ledger, also while its node runs",
		Long: `Hash every entry again, verify every signature, judge every key by the log just
before its entry, compare every signed checkpoint, tile, artifact and index row.

Exit codes: 0 verified; 1 problems were found; 2 it could not be done, or nobody
vouches for the ledger because no --identity was given.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				o.dir = args[0]
			}
			opts := verify.Options{Now: time.Now()}
			memory, err := remembered(identity, state, &opts)
			if err != nil {
				return err
			}
			return o.view(func(v *node.View) error {
				size, err := v.Snapshot.Size()
				if err != nil {
					fmt.Fprintln(os.Stderr, "the number of entries cannot be read:", err)
				}
				opts.Progress = progress(size)
				report, err := v.Verify(cmd.Context(), opts)
				if err != nil {
					return err
				}
				if err := printReport(cmd, report, asJSON); err != nil {
					return err
				}
				if report.Verdict == verify.Verified {
					if err := memory.keep(report.Checkpoint); err != nil {
						return fmt.Errorf("the ledger is verified, but %w (--memory names another folder, or none)", err)
					}
				}
				if code := report.ExitCode(); code != 0 {
					return exit(code)
				}
				return nil
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&identity, "identity", "", "the identity line, or the file that holds it: whom to believe")
	f.StringVar(&state, "memory", "", "folder that remembers the last checkpoint accepted of each ledger, \"none\" for nowhere (default the user's state folder)")
	f.BoolVar(&asJSON, "json", false, "the report as JSON")
	return cmd
}

func printReport(cmd *cobra.Command, r *verify.Report, asJSON bool) error {
	if !asJSON {
		return r.WriteText(cmd.OutOrStdout())
	}
	raw, err := r.JSON()
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(cmd.OutOrStdout(), string(raw))
	return err
}

// progress is a bar on a terminal, and a plain line now and then elsewhere.
func progress(total uint64) func(uint64) {
	if term.IsTerminal(int(os.Stderr.Fd())) {
		bar := progressbar.NewOptions64(int64(total), progressbar.OptionSetWriter(os.Stderr),
			progressbar.OptionSetDescription("verifying"), progressbar.OptionShowCount(), progressbar.OptionShowIts(),
			progressbar.OptionSetItsString("entries"), progressbar.OptionThrottle(100*time.Millisecond), progressbar.OptionClearOnFinish())
		return func(done uint64) {
			if err := bar.Set64(int64(done)); err != nil {
				fmt.Fprintln(os.Stderr, err)
			}
		}
	}
	last := time.Now()
	return func(done uint64) {
		if time.Since(last) > 5*time.Second {
			last = time.Now()
			fmt.Fprintf(os.Stderr, "verified %d of %d entries\n", done, total)
		}
	}
}

// memory is the file with the last checkpoint that was accepted of one ledger.
type memory struct{ path string }

// remembered adds it to what the log must be consistent with.
func remembered(identity, state string, opts *verify.Options) (memory, error) {
	if identity == "" {
		return memory{}, nil
	}
	id, err := parseIdentity(identity)
	if err != nil {
		return memory{}, err
	}
	opts.Identity = id
	if state == "none" {
		return memory{}, nil
	}
	if state, err = stateFolder(state); err != nil {
		return memory{}, err
	}
	m := memory{filepath.Join(state, fmt.Sprintf("%.16x.checkpoint", sha256.Sum256(fmt.Appendf(nil, "%s\n%s\n%x", id.Origin, id.VKey, id.Genesis))))}
	note, err := os.ReadFile(m.path)
	if errors.Is(err, fs.ErrNotExist) {
		return m, nil
	}
	if err != nil {
		return m, fmt.Errorf("read the last checkpoint that was accepted: %w", err)
	}
	if _, err := checkpoint.ParseUnverified(note); err != nil {
		return m, fmt.Errorf("%s, which remembers the last checkpoint that was accepted, is damaged (%w): put it back, or remove it and lose the comparison with then", m.path, err)
	}
	opts.Known = append(opts.Known, verify.Known{Name: "what was last verified (" + m.path + ")", Note: note})
	return m, nil
}

func stateFolder(given string) (string, error) {
	if given != "" {
		return given, nil
	}
	if x := os.Getenv("XDG_STATE_HOME"); x != "" {
		return filepath.Join(x, "evidence-ledger"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("find the folder that remembers checkpoints (give one with --memory): %w", err)
	}
	return filepath.Join(home, ".local", "state", "evidence-ledger"), nil
}

func (m memory) keep(note string) error {
	if m.path == "" {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(m.path), 0o700); err != nil {
		return fmt.Errorf("remember the checkpoint: %w", err)
	}
	f, err := os.OpenFile(m.path+".tmp", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("remember the checkpoint: %w", err)
	}
	_, err = f.WriteString(note)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("remember the checkpoint: %w", err)
	}
	if err := os.Rename(m.path+".tmp", m.path); err != nil {
		return fmt.Errorf("remember the checkpoint: %w", err)
	}
	return nil
}
