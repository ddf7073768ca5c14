package main

import (
	"errors"
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"evidence-ledger/ledger/node"
	"evidence-ledger/ledger/store"
	"evidence-ledger/verify"
	"evidence-ledger/verify/syntax"
)

func quarantineCommand(o *options) *cobra.Command {
	cmd := group(&cobra.Command{
		Use:   "quarantine",
		Short: "Look at submissions that were refused",
		Long:  "Refused submissions are kept with their reason, the newest of each collector. They are\nno part of the log and outside its guarantees; the log holds their counts (ledger.rejections).",
	})
	cmd.AddCommand(quarantineListCommand(o), quarantineShowCommand(o))
	return cmd
}

func quarantineListCommand(o *options) *cobra.Command {
	return &cobra.Command{
		Use:   "list [COLLECTOR]",
		Short: "List them, each collector's oldest first",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			collector := ""
			if len(args) == 1 {
				collector = args[0]
			}
			return o.view(func(v *node.View) error {
				w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 4, 2, ' ', 0)
				fmt.Fprintln(w, "COLLECTOR\tNUMBER\tTIME\tREASON\tWHERE\tTEXT")
				err := v.Snapshot.Quarantine(collector, func(q store.Quarantined) error {
					_, err := fmt.Fprintf(w, "%s\t%d\t%s\t%s\t%s\t%s\n", q.Collector, q.Number, q.Time, q.Code, verify.Printable(q.Where), verify.Printable(q.Text))
					return err
				})
				return errors.Join(err, w.Flush())
			})
		},
	}
}

func quarantineShowCommand(o *options) *cobra.Command {
	body := false
	cmd := &cobra.Command{
		Use:   "show COLLECTOR NUMBER",
		Short: "Show one with its reason, or its body",
		Args:  cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			number, err := syntax.Decimal(args[1])
			if err != nil {
				return err
			}
			return o.view(func(v *node.View) error {
				q, err := v.Snapshot.QuarantineRecord(args[0], number)
				if errors.Is(err, store.ErrNotFound) {
					return fmt.Errorf("there is no number %d of %s in quarantine: `ledger quarantine list` shows what is", number, args[0])
				}
				if err != nil {
					return err
				}
				w := cmd.OutOrStdout()
				if body {
					_, err := w.Write(q.Body)
					return err
				}
				_, err = io.WriteString(w, verify.Printable(fmt.Sprintf("collector  %s\nnumber     %d\nrefused    %s\nreason     %s\nwhere      %s\ntext       %s\nsubject    %s\nevent      %s\npayload    %s\nsigned     %t (correctly, under an enrolled key)\nbody       %d bytes: --body writes them\n",
					q.Collector, q.Number, q.Time, q.Code, q.Where, q.Text, q.Subject, q.ID, q.Payload, q.Signed, len(q.Body))))
				return err
			})
		},
	}
	cmd.Flags().BoolVar(&body, "body", false, "exactly the message's body")
	return cmd
}
