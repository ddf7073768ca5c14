package main

import (
	"encoding/json/jsontext"
	"encoding/json/v2"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"evidence-ledger/ledger"
	"evidence-ledger/ledger/node"
	"evidence-ledger/ledger/store"
	"evidence-ledger/verify"
	"evidence-ledger/verify/entry"
	"evidence-ledger/verify/event"
	"evidence-ledger/verify/syntax"
)

func logCommand(o *options) *cobra.Command {
	var n uint64
	var typ, collector string
	cmd := &cobra.Command{
		Use:   "log",
		Short: "List entries, the newest last",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return o.view(func(v *node.View) error {
				return list(cmd.OutOrStdout(), v.Snapshot, n, typ, collector)
			})
		},
	}
	f := cmd.Flags()
	f.Uint64VarP(&n, "number", "n", 20, "how many, 0 for all")
	f.StringVar(&typ, "type", "", "only this evidence type, pattern (patch.*) or stream (trust)")
	f.StringVar(&collector, "collector", "", "only what this collector signed")
	return cmd
}

// list prints the last n entries that match; it reads backwards as far as it
// has to and then prints forwards.
func list(w io.Writer, s *store.Snapshot, n uint64, typ, collector string) error {
	size, err := s.Size()
	if err != nil {
		return err
	}
	var lines []string
	for i := size; i > 0 && (n == 0 || uint64(len(lines)) < n); i-- {
		e, ev, err := read(s, i-1)
		if err != nil {
			return err
		}
		if typ != "" && !syntax.MatchType(typ, ev.Type) && typ != e.Stream || collector != "" && ev.Collector != collector {
			continue
		}
		who, outcome := ev.Collector, ev.Outcome
		if ev.Own() {
			who, outcome = "-", "-"
		}
		lines = append(lines, verify.Printable(fmt.Sprintf("%6d  %s  %-28s %5d  %-16s %-5s %s", e.Index, syntax.FormatSeconds(e.Time), ev.Type, e.Number, who, outcome, ev.Summary)))
	}
	if len(lines) == 0 {
		fmt.Fprintln(os.Stderr, "there are no such entries: `ledger verify` lists the streams, `ledger collector list` the collectors")
		return nil
	}
	if _, err := fmt.Fprintf(w, "%6s  %-20s  %-28s %5s  %-16s %-5s %s\n", "ENTRY", "LOGGED", "TYPE", "NO.", "COLLECTOR", "", "SUMMARY"); err != nil {
		return err
	}
	for i := len(lines) - 1; i >= 0; i-- {
		if _, err := fmt.Fprintln(w, lines[i]); err != nil {
			return err
		}
	}
	return nil
}

func read(s *store.Snapshot, index uint64) (*entry.Entry, *event.Event, error) {
	raw, err := s.Entry(index)
	if errors.Is(err, store.ErrNotFound) {
		size, err := s.Size()
		return nil, nil, errors.Join(fmt.Errorf("there is no entry %d: the log has %d, from 0", index, size), err)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("read entry %d: %w", index, err)
	}
	e, err := entry.Parse(raw)
	if err != nil {
		return nil, nil, fmt.Errorf("entry %d: %w", index, err)
	}
	ev, err := event.Parse(e.Envelope, event.Builtin())
	if err != nil {
		return nil, nil, fmt.Errorf("entry %d: %w", index, err)
	}
	return e, ev, nil
}

func showCommand(o *options) *cobra.Command {
	var raw, proof bool
	cmd := &cobra.Command{
		Use:   "show N",
		Short: "Show one entry, its exact bytes, or its proof",
		Long: `Show entry N for people. With --raw write exactly its bytes, so that
  { printf '\0'; ledger show N --raw; } | sha256sum
is its leaf hash, which the entry after it names as previous. With --proof write
its inclusion proof (C2SP tlog-proof) against the newest checkpoint.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			index, err := syntax.Decimal(args[0])
			if err != nil {
				return err
			}
			return o.view(func(v *node.View) error {
				w := cmd.OutOrStdout()
				switch {
				case raw:
					bytes, err := v.Snapshot.Entry(index)
					if errors.Is(err, store.ErrNotFound) {
						_, _, err = read(v.Snapshot, index)
					}
					if err != nil {
						return err
					}
					_, err = w.Write(bytes)
					return err
				case proof:
					return prove(w, v.Snapshot, index)
				default:
					return show(w, v, index)
				}
			})
		},
	}
	cmd.Flags().BoolVar(&raw, "raw", false, "exactly the entry's bytes")
	cmd.Flags().BoolVar(&proof, "proof", false, "the .tlog-proof")
	cmd.MarkFlagsMutuallyExclusive("raw", "proof")
	return cmd
}

func prove(w io.Writer, s *store.Snapshot, index uint64) error {
	if _, _, err := read(s, index); err != nil {
		return err
	}
	proofs, err := ledger.ProofsOf(s)
	if err != nil {
		return err
	}
	p, err := proofs.Inclusion(index)
	if err != nil {
		return err
	}
	_, err = w.Write(p.Marshal())
	return err
}

func show(w io.Writer, v *node.View, index uint64) error {
	e, ev, err := read(v.Snapshot, index)
	if err != nil {
		return err
	}
	state, err := ledger.LoadTrust(v.Snapshot, nil)
	if err != nil {
		return err
	}
	names := state.Names()
	for _, k := range state.Enrolments() {
		names[k.Key.ID()] = k.Name
	}
	var b strings.Builder
	fmt.Fprintf(&b, "entry      %d, number %d of stream %s\n", e.Index, e.Number, e.Stream)
	fmt.Fprintf(&b, "logged     %s by the node's clock\n", syntax.FormatMicros(e.Time))
	leaf := e.Leaf()
	fmt.Fprintf(&b, "leaf hash  %x\n", leaf[:]) // in hex, as sha256sum prints it
	fmt.Fprintf(&b, "type       %s\n", ev.Type)
	fmt.Fprintf(&b, "summary    %s\n", ev.Summary)
	for _, sig := range ev.Envelope.Signatures {
		fmt.Fprintf(&b, "signed by  %s, key %s\n", names[sig.KeyID], sig.KeyID)
	}
	for _, a := range ev.Subject {
		if has, err := v.Artifacts.Has(a.SHA256); err == nil && has {
			fmt.Fprintf(&b, "artifact   %s  %s\n", a.Name, v.Artifacts.Path(a.SHA256))
		}
	}
	pretty, err := json.Marshal(jsontext.Value(ev.Envelope.Payload), jsontext.WithIndent("  "))
	if err != nil {
		return err
	}
	fmt.Fprintf(&b, "\n%s\n", pretty)
	_, err = io.WriteString(w, verify.Printable(b.String()))
	return err
}
