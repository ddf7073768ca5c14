package main

import (
	"encoding/json/v2"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"evidence-ledger/ledger/action"
	"evidence-ledger/ledger/node"
	"evidence-ledger/ledger/store"
	"evidence-ledger/verify/key"
	"evidence-ledger/verify/syntax"
	"evidence-ledger/verify/trust"
)

func initCommand(o *options) *cobra.Command {
	var origin, organisation, adminKey, adminName, genesis, predecessor, out string
	var admins []string
	threshold := 0
	cmd := &cobra.Command{
		Use:   "init --origin NAME --organisation NAME",
		Short: "Make a new ledger",
		Long: `Make a new ledger: the node's key, an admin's key outside the data directory,
and entry 0, the genesis, which both sign. Prints the identity line: give it to
those who will verify, on another way than the ledger itself.`,
		Example: `  ledger init --origin ledger.example.org/evidence --organisation 'Example Registry'

  with a quorum of admins, each with a key of their own (ledger key new):
  ledger init --origin ... --organisation ... --admin alice=KEY --admin bob=KEY --admin carol=KEY --threshold 2 -o genesis.json
  ledger sign genesis.json --key alice.pem      (alice, on her machine; then bob)
  ledger init --genesis genesis.json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch {
			case genesis != "":
				return initFrom(cmd, o, genesis)
			case origin == "" || organisation == "":
				return errors.New("--origin and --organisation are required")
			}
			config := o.config()
			if predecessor != "" {
				var err error
				if config.Predecessor, err = node.ReadPredecessor(predecessor); err != nil {
					return err
				}
			}
			if len(admins) > 0 {
				return initQuorum(config, origin, organisation, admins, threshold, out)
			}
			if adminKey == "" {
				adminKey = o.adminFile()
			}
			created, err := node.Create(config, origin, organisation, adminName, adminKey)
			if errors.Is(err, store.ErrExists) {
				return fmt.Errorf("%w; `ledger identity` prints its line again", err)
			}
			if err != nil {
				return err
			}
			fmt.Fprintln(cmd.OutOrStdout(), created.Identity)
			second := ""
			if o.second != "" {
				second = " --second-place " + o.second
			}
			fmt.Fprintf(os.Stderr, `made the ledger %s in %s
one local admin key, %s, may enrol collectors: good for trying out. Keep it away from the node.
next: ledger serve --dir %s%s
`, origin, o.dir, adminKey, o.dir, second)
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&origin, "origin", "", "the ledger's name for ever, such as ledger.example.org/evidence (required)")
	f.StringVar(&organisation, "organisation", "", "whose evidence it is (required)")
	f.StringVar(&adminKey, "admin-key", "", "the admin's key file, made where it is missing (default ledger-admin.pem beside the data directory)")
	f.StringVar(&adminName, "admin-name", "admin-1", "the name under which the admin's key is enrolled")
	f.StringArrayVar(&admins, "admin", nil, "an admin as NAME=PUBLICKEY (ledger key new); once for each")
	f.IntVar(&threshold, "threshold", 0, "with --admin: how many of them must sign")
	f.StringVarP(&out, "output", "o", "genesis.json", "with --admin: the file that they sign")
	f.StringVar(&predecessor, "predecessor", "", "file with the last signed checkpoint of the ledger that this one goes on from, when that one cannot")
	f.StringVar(&genesis, "genesis", "", "the file that enough admins have signed: make the ledger from it")
	cmd.MarkFlagsMutuallyExclusive("genesis", "admin")
	cmd.MarkFlagsMutuallyExclusive("admin-key", "admin")
	return cmd
}

// initQuorum begins a ledger whose admins are elsewhere.
func initQuorum(config node.Config, origin, organisation string, list []string, threshold int, out string) error {
	admins := trust.Admins{Threshold: threshold}
	for _, a := range list {
		name, public, ok := strings.Cut(a, "=")
		if _, err := key.Parse(public); !ok || err != nil {
			return fmt.Errorf("--admin %s: expected NAME=PUBLICKEY as `ledger key new` prints it: %v", a, err)
		}
		if err := syntax.Collector(name); err != nil {
			return fmt.Errorf("--admin %s: %w", a, err)
		}
		admins.Keys = append(admins.Keys, trust.Admin{Name: name, PublicKey: public})
	}
	if err := checkAdmins(admins); err != nil {
		return err
	}
	if err := absent(out); err != nil {
		return err
	}
	f, err := node.Prepare(config, origin, organisation, admins)
	if err != nil {
		return err
	}
	return writeNew(f, out)
}

// checkAdmins finds what the ledger would refuse only once everybody has signed.
func checkAdmins(admins trust.Admins) error {
	given := map[string]bool{}
	for _, a := range admins.Keys {
		if given[a.Name] || given[a.PublicKey] {
			return fmt.Errorf("admin %s: this name or key is given twice; each admin has a name and a key of their own", a.Name)
		}
		given[a.Name], given[a.PublicKey] = true, true
	}
	if admins.Threshold < 1 || admins.Threshold > len(admins.Keys) {
		return fmt.Errorf("--threshold %d: 1 to %d of the admins must sign", admins.Threshold, len(admins.Keys))
	}
	return nil
}

// initFrom makes the ledger once its genesis is signed.
func initFrom(cmd *cobra.Command, o *options, path string) error {
	f, err := action.ReadFile(path)
	if err != nil {
		return err
	}
	id, err := node.CreateFrom(o.config(), f)
	if err != nil {
		return err
	}
	fmt.Fprintln(cmd.OutOrStdout(), id)
	fmt.Fprintf(os.Stderr, "made the ledger %s in %s\nnext: ledger serve --dir %s\n", id.Origin, o.dir, o.dir)
	return nil
}

func serveCommand(o *options) *cobra.Command {
	c := node.Config{}
	var level slog.Level
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run the node: take submissions, append, answer with receipts",
		Long:  "Run the node until it is told to stop (SIGTERM, Ctrl-C). Logs go to standard error.",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c.Dir, c.SecondPlace, c.Keys = o.dir, o.second, o.keys()
			c.Logger = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level}))
			n, err := node.Start(cmd.Context(), c)
			if err != nil {
				return err
			}
			return n.Run(cmd.Context())
		},
	}
	f := cmd.Flags()
	f.StringVar(&c.NATS, "nats", "127.0.0.1:4222", "where collectors connect; loopback only, unless with TLS")
	f.StringVar(&c.TLS.CertFile, "tls-cert", "", "the certificate (PEM, with its chain) for collectors, who then must use TLS; read again when it changes")
	f.StringVar(&c.TLS.KeyFile, "tls-key", "", "the certificate's private key, readable by its owner only")
	f.StringVar(&c.TLS.ClientCAFile, "tls-client-ca", "", "collectors must show a certificate of one of the CAs in this file")
	f.StringVar(&c.HTTP, "http", "127.0.0.1:8480", "where checkpoint and tiles are served, loopback only; empty for nowhere")
	f.StringVar(&c.NodeKey, "node-key", "", "the node's key file (default DIR/node.key)")
	f.Int64Var(&c.QueueBytes, "queue-bytes", 1<<30, "how much may wait in the stream EVIDENCE")
	f.Uint64Var(&c.MinFree, "min-free", 256<<20, "bytes that must be free on the disk, else nothing is taken")
	f.BoolVar(&c.AcceptClock, "accept-clock", false, "the machine's clock is right, though it seems not to be")
	f.TextVar(&level, "log-level", slog.LevelInfo, "`LEVEL`: DEBUG, INFO, WARN or ERROR")
	return cmd
}

func identityCommand(o *options) *cobra.Command {
	floor := false
	cmd := &cobra.Command{
		Use:   "identity",
		Short: "Print the one line that a verifier must know beforehand",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return o.view(func(v *node.View) error {
				id, err := node.Identity(v.Snapshot)
				if err != nil {
					return err
				}
				if floor {
					if id.Floor, err = node.Floor(v.Snapshot); err != nil {
						return err
					}
				}
				fmt.Fprintln(cmd.OutOrStdout(), id)
				return nil
			})
		},
	}
	cmd.Flags().BoolVar(&floor, "floor", false, "add the newest checkpoint: what is verified must go on from it")
	return cmd
}

func statusCommand(o *options) *cobra.Command {
	var nats, asJSON bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Say how the running node is",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := node.Dial(o.dir)
			if err != nil {
				return err
			}
			s, err := client.Status()
			if err != nil {
				return err
			}
			w := cmd.OutOrStdout()
			switch {
			case nats:
				fmt.Fprintln(w, s.NATS)
			case asJSON:
				raw, err := json.Marshal(s)
				if err != nil {
					return err
				}
				fmt.Fprintln(w, string(raw))
			default:
				fmt.Fprintf(w, "ledger   %s, %d entries\ncollect  %s\ntiles    %s\ntaken    %d submissions since the start\n", s.Origin, s.Size, s.NATS, s.HTTP, s.Taken)
			}
			if s.Stalled != "" {
				fmt.Fprintln(w, "stalled ", s.Stalled)
				return exit(1)
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&nats, "nats", false, "only the address where collectors connect")
	cmd.Flags().BoolVar(&asJSON, "json", false, "as JSON")
	return cmd
}
