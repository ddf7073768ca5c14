package main

import (
	"context"
	"encoding/json/jsontext"
	"encoding/json/v2"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"evidence-ledger/collectors"
	"evidence-ledger/collectors/agent"
	"evidence-ledger/collectors/publish"
	"evidence-ledger/collectors/spool"
	"evidence-ledger/verify/syntax"
)

func (f *folder) initCommand() *cobra.Command {
	var c agent.Config
	var ledger, out string
	cmd := &cobra.Command{
		Use:   "init NAME",
		Short: "Make keys, pin the ledger's identity, write an enrolment request",
		Args:  cobra.ExactArgs(1),
		Example: `  collector init web-1 --ledger identity --type 'patch.*' -o web-1.request.json
  ledger collector enrol web-1.request.json     # by an admin of the ledger`,
	}
	flags := cmd.Flags()
	flags.StringVar(&ledger, "ledger", "", "the ledger's identity: the line, or a file that holds it (required)")
	flags.StringVar(&c.Node, "node", "nats://127.0.0.1:4222", "the node's address; tls://HOST:PORT from another machine")
	flags.StringVar(&c.CA, "ca", "", "with tls://: the CA certificates (PEM) that may vouch for the node (default the system's)")
	flags.StringVar(&c.Cert, "cert", "", "with tls://: this collector's certificate (PEM), where the node asks for one")
	flags.StringVar(&c.Key, "key", "", "the certificate's private key, readable by its owner only")
	flags.StringSliceVar(&c.Types, "type", []string{"patch.*"}, "an evidence type, or a pattern, to be enrolled for")
	flags.StringVar(&c.Host, "host", "", "this server's name in the evidence (default its hostname)")
	flags.StringVar(&c.Timezone, "timezone", "", "the zone of the times in this server's logs (default the system's)")
	flags.StringVarP(&out, "output", "o", "", "also write the enrolment request to this file")
	_ = cmd.MarkFlagRequired("ledger")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c.Name = args[0]
		for _, file := range []*string{&c.CA, &c.Cert, &c.Key} {
			if *file == "" {
				continue
			}
			path, err := filepath.Abs(*file)
			if err != nil {
				return err
			}
			*file = path
		}
		id, err := agent.ReadIdentity(ledger)
		if err != nil {
			return hint(err, "ask an admin of the ledger for the line that `ledger identity` prints")
		}
		request, err := agent.Init(f.dir, c, id)
		if err != nil {
			return err
		}
		inDir := filepath.Join(f.dir, "request.json")
		if out == "" {
			out = inDir
		} else if err := writeRequest(out, request); err != nil {
			// The keys are seconds old and nobody knows them: begin again.
			return hint(errors.Join(err, os.RemoveAll(f.dir)), "nothing was made. Name another file, or none: the request is also in %s", inDir)
		}
		fmt.Fprintf(cmd.OutOrStdout(), "collector %s of %s is in %s\nnow an admin enrols it: ledger collector enrol %s\n", c.Name, id.Origin, f.dir, out)
		return f.warnOfTypes(cmd)
	}
	return cmd
}

// warnOfTypes names the configured types that nothing here collects.
func (f *folder) warnOfTypes(cmd *cobra.Command) error {
	c, all, err := f.load()
	if err != nil {
		return err
	}
	var types []string
	for _, one := range all {
		types = append(types, one.Types()...)
	}
	for _, pattern := range c.Types {
		if !slices.ContainsFunc(types, func(typ string) bool { return syntax.MatchType(pattern, typ) }) {
			fmt.Fprintf(cmd.ErrOrStderr(), "warning: nothing here collects %s; what can be collected: %s\n", pattern, strings.Join(types, ", "))
		}
	}
	return nil
}

func writeRequest(path string, r *agent.Request) error {
	b, err := r.JSON()
	if err != nil {
		return err
	}
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return fmt.Errorf("the enrolment request: %w", err)
	}
	_, err = file.Write(b)
	if err = errors.Join(err, file.Close()); err != nil {
		return errors.Join(err, os.Remove(path))
	}
	return nil
}

// open reads the configuration and holds the folder.
func (f *folder) open(log *slog.Logger) (*agent.Agent, error) {
	c, all, err := f.load()
	if err != nil {
		return nil, err
	}
	a, err := agent.Open(f.dir, c, all, log)
	if errors.Is(err, spool.ErrBusy) {
		return nil, hint(err, "another `collector` is at work on %s: let it end", f.dir)
	}
	return a, err
}

func (f *folder) load() (*agent.Config, []collectors.Collector, error) {
	c, err := agent.LoadConfig(f.dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil, hint(err, "make the folder with `collector init NAME --ledger FILE --dir %s`, or name another with --dir", f.dir)
	}
	if err != nil {
		return nil, nil, err
	}
	all, err := build(c)
	return c, all, err
}

// operator is the agent, in this process or in the one that is running.
type operator interface {
	Status(context.Context) (*agent.Status, error)
	Once(ctx context.Context, typ string, wait time.Duration) (*agent.Report, error)
	Retry(context.Context) (int, error)
	Close() error
}

func (f *folder) operator(cmd *cobra.Command) (operator, error) {
	if client := agent.Dial(f.dir); client != nil {
		return client, nil
	}
	a, err := f.open(logger(cmd))
	if err != nil {
		return nil, err // not a nil *Agent in the interface
	}
	return a, nil
}

const aheadHint = "the spool was lost or an old copy of it was restored: numbers must not be used twice. " +
	"Make a new key with `collector init NAME` in a new folder and have it enrolled; keep this folder"

func (f *folder) onceCommand() *cobra.Command {
	var wait time.Duration
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "once TYPE",
		Short:   "Collect now, publish, and wait for the receipts",
		Args:    cobra.ExactArgs(1),
		Example: "  collector once patch.run.completed --wait 1m",
	}
	cmd.Flags().DurationVar(&wait, "wait", 30*time.Second, "how long to wait for the receipts")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the report as JSON")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		o, err := f.operator(cmd)
		if err != nil {
			return err
		}
		defer o.Close()
		r, err := o.Once(cmd.Context(), args[0], wait)
		switch {
		case errors.Is(err, agent.ErrType):
			return hint(err, "`collector list` shows what can be collected")
		case errors.Is(err, publish.ErrAhead):
			return hint(err, aheadHint)
		case errors.Is(err, context.Canceled):
			return errors.New("interrupted; nothing is lost, what was collected stays on the spool")
		case err != nil:
			return err
		}
		return printReport(cmd, r, asJSON)
	}
	return cmd
}

func printReport(cmd *cobra.Command, r *agent.Report, asJSON bool) error {
	if asJSON {
		if err := printJSON(cmd, r); err != nil {
			return err
		}
	} else {
		fmt.Fprintf(cmd.OutOrStdout(), "%s: %s, %s verified, %d refused, %d waiting\n",
			r.Type, count(r.Events, "new event"), count(r.Receipts, "receipt"), r.Refused, r.Pending)
	}
	if r.Problem != "" {
		fmt.Fprintln(cmd.ErrOrStderr(), "collector: not everything could be read:", r.Problem)
	}
	if r.Conflict != "" {
		fmt.Fprintln(cmd.ErrOrStderr(), "collector: PROBLEM:", r.Conflict)
		fmt.Fprintln(cmd.ErrOrStderr(), "hint: `collector status` shows both signed notes: give them to the ledger's auditors; what waits stays on the spool")
		return errFound
	}
	if r.Pending > 0 {
		err := fmt.Errorf("%s without a receipt", count(r.Pending, "event"))
		if r.Fault != "" {
			err = fmt.Errorf("%w: %s", err, r.Fault)
		}
		return hint(err, "nothing is lost, they stay on the spool. `collector run` goes on trying; `collector status` shows more")
	}
	if r.Refused > 0 {
		fmt.Fprintln(cmd.ErrOrStderr(), "hint: `collector status` shows the reasons; `collector retry` sends the refused events again")
	}
	if r.Refused > 0 || r.Problem != "" {
		return errFound
	}
	return nil
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func printJSON(cmd *cobra.Command, v any) error {
	return errors.Join(
		json.MarshalWrite(cmd.OutOrStdout(), v, jsontext.Multiline(true), jsontext.WithIndent("  "), json.Deterministic(true)),
		errOf(fmt.Fprintln(cmd.OutOrStdout())))
}

func errOf(_ int, err error) error { return err }

func (f *folder) runCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "run",
		Short: "Collect on the schedule and publish, until SIGTERM or Ctrl-C",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			log := logger(cmd)
			a, err := f.open(log)
			if err != nil {
				return err
			}
			defer a.Close()
			err = a.Run(cmd.Context(), func() { log.Info("running", "dir", f.dir) })
			if errors.Is(err, publish.ErrAhead) {
				return hint(err, aheadHint)
			}
			if err == nil {
				log.Info("stopped")
			}
			return err
		},
	}
}

func (f *folder) statusCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{Use: "status", Short: "Show numbers, receipts, what waits and what was refused", Args: cobra.NoArgs}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the status as JSON")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		o, err := f.operator(cmd)
		if err != nil {
			return err
		}
		defer o.Close()
		s, err := o.Status(cmd.Context())
		if err != nil {
			return err
		}
		if asJSON {
			err = printJSON(cmd, s)
		} else {
			printStatus(cmd, s)
		}
		if err == nil && s.Found() {
			err = errFound
		}
		return err
	}
	return cmd
}

func printStatus(cmd *cobra.Command, s *agent.Status) {
	line := func(name, format string, args ...any) {
		fmt.Fprintf(cmd.OutOrStdout(), "%-11s %s\n", name, fmt.Sprintf(format, args...))
	}
	line("collector", "%s of %s at %s", s.Name, s.Ledger, s.Node)
	line("key", "%s", s.KeyID)
	if p := s.Publishing; p != nil {
		connected := "connected"
		if !p.Connected {
			connected = "not connected"
		}
		line("running", "yes, %s, %d on their way", connected, p.InFlight)
		if p.LastFault != "" {
			line("last fault", "%s %s", p.FaultAt.Format(time.RFC3339), p.LastFault)
		}
	} else {
		line("running", "no")
	}
	line("spool", "%d waiting, %d refused, %d of %d bytes", s.Pending, s.Refused, s.Bytes, s.Bound)
	if s.Checkpoint != "" {
		line("checkpoint", "%s", strings.Join(strings.Fields(s.Checkpoint)[1:], " entries, root "))
	} else {
		line("checkpoint", "none verified yet")
	}
	for _, typ := range slices.Sorted(maps.Keys(s.Numbers)) {
		receipts := "no receipts yet"
		if r := s.Receipts[typ]; r.Count > 0 {
			receipts = fmt.Sprintf("%s, newest is entry %d", count(int(r.Count), "receipt"), r.Index)
		}
		line("type", "%s: last number %d, %s", typ, s.Numbers[typ], receipts)
	}
	for _, name := range slices.Sorted(maps.Keys(s.Collected)) {
		c := s.Collected[name]
		text := count(c.Events, "event")
		if c.Problem != "" {
			text += ", " + c.Problem
		}
		line("collected", "%s at %s: %s", name, c.At.Format(time.RFC3339), text)
	}
	for _, r := range s.Refusals {
		line("refused", "%s number %d (%s) at %s: %s: %s: %s", r.Type, r.Seq, r.ID, r.Time, r.Code, r.Where, r.Text)
	}
	if s.Conflict != "" {
		line("PROBLEM", "the node has shown a checkpoint that it could not prove consistent with what it proved before:\n"+
			"it went back to an older copy or showed another history. Give both notes to the ledger's auditors.\n\nIt showed:\n%s\nIt has proved:\n%s", s.Conflict, s.Note)
	}
}

func (f *folder) listCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List what this program can collect here, and from where",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, all, err := f.load()
			if err != nil {
				return err
			}
			for _, one := range all {
				for _, typ := range one.Types() {
					state := "configured"
					if !c.Allows(typ) {
						state = "not among the configured types"
					}
					fmt.Fprintf(cmd.OutOrStdout(), "%s  (%s %s, %s)\n", typ, one.Name(), one.Version(), state)
				}
			}
			for _, kind := range slices.Sorted(maps.Keys(defaults)) {
				fmt.Fprintf(cmd.OutOrStdout(), "source %s: %v\n", kind, sources(c, kind))
			}
			return nil
		},
	}
}

func (f *folder) retryCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "retry",
		Short: "Put the refused events back, to be sent again",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o, err := f.operator(cmd)
			if err != nil {
				return err
			}
			defer o.Close()
			n, err := o.Retry(cmd.Context())
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s put back\n", count(n, "event"))
			return nil
		},
	}
}
