package main

import (
	"encoding/json/v2"
	"errors"
	"fmt"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"evidence-ledger/ledger"
	"evidence-ledger/ledger/node"
	"evidence-ledger/ledger/sign"
	"evidence-ledger/verify/syntax"
	"evidence-ledger/verify/trust"
)

func collectorCommand(o *options) *cobra.Command {
	cmd := group(&cobra.Command{Use: "collector", Short: "Enrol collectors and list them"})
	cmd.AddCommand(enrolCommand(o), collectorListCommand(o))
	return cmd
}

func enrolCommand(o *options) *cobra.Command {
	var adminKey, from, until string
	cmd := &cobra.Command{
		Use:   "enrol REQUEST",
		Short: "Let a collector in: its request comes from `collector init`",
		Long: `Sign, as an admin, that a collector may publish, and append that to the log. Look
at the request first: it says under which name, and which evidence types. From the
entry on the node accepts what the collector signs, and NATS lets it connect.`,
		Example: "  ledger collector enrol web-1.request.json --admin-key ledger-admin.pem",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			data, err := readRequest(args[0])
			if err != nil {
				return err
			}
			if data.ValidFrom, err = moment("--valid-from", from); err != nil {
				return err
			}
			if data.ValidUntil, err = moment("--valid-until", until); err != nil {
				return err
			}
			if adminKey == "" {
				adminKey = o.adminFile()
			}
			key, err := o.keys().Open(adminKey)
			if err != nil {
				return fmt.Errorf("the admin's key (--admin-key): %w", err)
			}
			index, err := enrol(o, data, key)
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "entry %d: %s may publish %s\n", index, data.Name, strings.Join(data.Types, ", "))
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&adminKey, "admin-key", "", "the admin's key, a file or a KMS URI (default ledger-admin.pem beside the data directory)")
	f.StringVar(&from, "valid-from", "", "entries from this time on, as 2026-11-24 or 2026-11-24T20:00:00Z")
	f.StringVar(&until, "valid-until", "", "entries before this time, written like --valid-from")
	return cmd
}

// readRequest reads what `collector init` wrote.
func readRequest(path string) (*trust.Enrolled, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the request: %w", err)
	}
	data, err := parseRequest(raw)
	if err != nil {
		return nil, fmt.Errorf("%s is not a request of `collector init`: %w", path, err)
	}
	return data, nil
}

// parseRequest: a request is the data of the enrolment without its basis.
func parseRequest(raw []byte) (*trust.Enrolled, error) {
	data := &trust.Enrolled{}
	if err := json.Unmarshal(raw, data, json.RejectUnknownMembers(true)); err != nil {
		return nil, err
	}
	if data.Basis != "" {
		return nil, errors.New("it has a basis already")
	}
	return data, nil
}

func enrol(o *options, data *trust.Enrolled, key *sign.Key) (uint64, error) {
	var state *trust.State
	if err := o.view(func(v *node.View) (err error) {
		state, err = ledger.LoadTrust(v.Snapshot, nil)
		return err
	}); err != nil {
		return 0, err
	}
	data.Basis = fmt.Sprintf("%x", state.Basis())
	envelope, err := ledger.Own(trust.TypeEnrolled, state.Origin(), enrolSummary(data), data, time.Now(), key)
	if err != nil {
		return 0, err
	}
	return node.AppendTrust(o.config(), envelope)
}

func enrolSummary(data *trust.Enrolled) string {
	return fmt.Sprintf("%s may publish %s", data.Name, strings.Join(data.Types, ", "))
}

func collectorListCommand(o *options) *cobra.Command {
	var keys bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List every key that was let in",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return o.view(func(v *node.View) error {
				state, err := ledger.LoadTrust(v.Snapshot, nil)
				if err != nil {
					return err
				}
				w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 4, 2, ' ', 0)
				fmt.Fprintln(w, "ENTRY\tNAME\tTYPES\tVALID\tKEY")
				for _, e := range state.Enrolments() {
					id := e.Key.ID()[:16]
					if keys {
						id = e.Key.String()
					}
					fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%s\n", e.Index, e.Name, strings.Join(e.Types, ","), valid(e), id)
				}
				return w.Flush()
			})
		},
	}
	cmd.Flags().BoolVar(&keys, "keys", false, "the whole public key, base64 of its DER, instead of the key id's beginning")
	return cmd
}

// moment reads a day or a time in UTC and writes it as the log holds it.
func moment(flag, s string) (string, error) {
	if s == "" {
		return "", nil
	}
	for _, layout := range []string{time.DateOnly, time.RFC3339Nano} {
		if t, err := time.Parse(layout, s); err == nil {
			return syntax.FormatMicros(t), nil
		}
	}
	return "", fmt.Errorf("%s %q is not a day or time such as 2026-11-24 or 2026-11-24T20:00:00Z", flag, s)
}

func valid(e trust.Enrolment) string {
	from, until := "from the entry on", ""
	if !e.From.IsZero() {
		from = "from " + syntax.FormatSeconds(e.From)
	}
	if !e.Until.IsZero() {
		until = " until " + syntax.FormatSeconds(e.Until)
	}
	if r := e.Revoked; r != nil {
		return fmt.Sprintf("revoked in entry %d: %s", r.Index, r.Reason)
	}
	return from + until
}
