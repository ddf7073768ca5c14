package main

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"evidence-ledger/ledger"
	"evidence-ledger/ledger/action"
	"evidence-ledger/ledger/node"
	"evidence-ledger/ledger/sign"
	"evidence-ledger/verify/key"
	"evidence-ledger/verify/syntax"
	"evidence-ledger/verify/trust"
)

func keyCommand(o *options) *cobra.Command {
	var identity string
	cmd := &cobra.Command{Use: "key", Short: "Make admins' keys and show their public halves"}
	cmd.AddCommand(keyNewCommand(o), &cobra.Command{
		Use:   "show KEY",
		Short: "Print the public half of a key and its key id",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			k, err := o.keys().Open(args[0])
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s\nkey id %s\n", k.Public(), k.Public().ID())
			return nil
		},
	})
	proof := &cobra.Command{
		Use:   "possess NAME KEY",
		Short: "Show, as NAME, that you hold a key: what `propose admins` needs of a new admin",
		Long: `Sign, as NAME, that you hold a key, and print what ` + "`ledger propose admins`" + ` takes.
That counts for one ledger: the one of --identity, else the one in the data directory.`,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			origin, err := o.origin(identity)
			if err != nil {
				return err
			}
			if err := syntax.Collector(args[0]); err != nil {
				return err
			}
			admin, err := o.possess(origin, args[0], args[1])
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s=%s:%s\n", admin.Name, admin.PublicKey, admin.Possession)
			return nil
		},
	}
	proof.Flags().StringVar(&identity, "identity", "", "the identity line, or the file that holds it, where the ledger itself is elsewhere")
	cmd.AddCommand(proof)
	return cmd
}

// origin is the ledger's name, by its identity line or as the directory has it.
func (o *options) origin(identity string) (string, error) {
	if identity != "" {
		id, err := parseIdentity(identity)
		if err != nil {
			return "", err
		}
		return id.Origin, nil
	}
	state, err := o.trust()
	if err != nil {
		return "", err
	}
	return state.Origin(), nil
}

func keyNewCommand(o *options) *cobra.Command {
	var algorithm string
	var encrypt bool
	cmd := &cobra.Command{
		Use:   "new FILE",
		Short: "Make an admin's key and print its public half",
		Long: `Make a key, mode 0600, and print its public half. With --encrypt the file is of use
only with its password; openssl reads it as well. Where a command takes a key it also
takes one in a KMS: hashivault://NAME, openbao://NAME, or SCHEME://... of a plugin
sigstore-kms-SCHEME, if SCHEME is listed with --kms-scheme.`,
		Example: "  ledger key new alice.pem --encrypt",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			k, err := o.keys().Generate(args[0], algorithm, encrypt)
			if err != nil {
				return err
			}
			fmt.Fprintln(cmd.OutOrStdout(), k.Public())
			return nil
		},
	}
	cmd.Flags().StringVar(&algorithm, "algorithm", sign.AlgorithmEd25519, sign.AlgorithmEd25519+" or "+sign.AlgorithmECDSAP256)
	cmd.Flags().BoolVar(&encrypt, "encrypt", false, "encrypt the file with a password")
	return cmd
}

func (o *options) possess(origin, name, file string) (trust.Admin, error) {
	k, err := o.keys().Open(file)
	if err != nil {
		return trust.Admin{}, err
	}
	sig, err := k.Sign(trust.PossessionMessage(origin, name, k.Public().ID()))
	return trust.Admin{Name: name, PublicKey: k.Public().String(), Possession: base64.StdEncoding.EncodeToString(sig)}, err
}

// trust is who may sign what, as the directory has it.
func (o *options) trust() (state *trust.State, err error) {
	err = o.view(func(v *node.View) error {
		state, err = ledger.LoadTrust(v.Snapshot, nil)
		return err
	})
	return state, err
}

func proposeCommand(o *options) *cobra.Command {
	var out string
	cmd := &cobra.Command{
		Use:   "propose",
		Short: "Begin an action that the admins sign one after the other",
		Long: `Write an action into a file. Each admin reads it and signs it on a machine of their
own (ledger sign FILE --key KEY); when enough have, somebody submits it (ledger
submit FILE). An action counts only directly on top of the newest one: if another
comes first, propose it anew.`,
	}
	cmd.PersistentFlags().StringVarP(&out, "output", "o", "action.json", "the file")
	propose := func(typ, summary string, data func(*trust.State) (any, error)) error {
		state, err := o.trust()
		if err != nil {
			return err
		}
		d, err := data(state)
		if err != nil {
			return err
		}
		f, err := action.Propose(state, typ, summary, d, time.Now())
		if err != nil {
			return err
		}
		return writeNew(f, out)
	}
	cmd.AddCommand(proposeEnrol(propose), proposeRevoke(propose), proposeRotation(o, propose), proposeAdmins(propose))
	return cmd
}

type proposer func(typ, summary string, data func(*trust.State) (any, error)) error

func absent(path string) error {
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s exists already: name another file with -o", path)
	}
	return nil
}

func writeNew(f *action.File, path string) error {
	if err := absent(path); err != nil {
		return err
	}
	if err := f.Write(path); err != nil {
		return err
	}
	words, err := f.Describe()
	if err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "%s\nwritten to %s; next: each admin runs `ledger sign %s --key KEY`\n", words, path, path)
	return nil
}

func proposeEnrol(propose proposer) *cobra.Command {
	var from, until string
	cmd := &cobra.Command{
		Use:   "enrol REQUEST",
		Short: "Let a collector, a person or an auditor in",
		Args:  cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			data, err := readRequest(args[0])
			if err != nil {
				return err
			}
			data.ValidFrom, data.ValidUntil = from, until
			return propose(trust.TypeEnrolled, enrolSummary(data), func(s *trust.State) (any, error) {
				data.Basis = action.Basis(s)
				return data, nil
			})
		},
	}
	cmd.Flags().StringVar(&from, "valid-from", "", "entries from this time on, as 2026-11-24T20:00:00.000000Z")
	cmd.Flags().StringVar(&until, "valid-until", "", "entries before this time")
	return cmd
}

func proposeRevoke(propose proposer) *cobra.Command {
	var reason, since, keyID string
	cmd := &cobra.Command{
		Use:   "revoke NAME",
		Short: "Let a key sign nothing more",
		Args:  cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			if (reason == "compromised") != (since != "") {
				return errors.New("--doubted-since says since when a stolen key is doubted: it is needed with --reason compromised, and only then")
			}
			return propose(trust.TypeRevoked, fmt.Sprintf("%s may not publish any more: %s", args[0], reason), func(s *trust.State) (any, error) {
				id, err := keyOf(s, args[0], keyID)
				return &trust.Revoked{Basis: action.Basis(s), Name: args[0], KeyID: id, Reason: reason, DoubtedSince: since}, err
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&reason, "reason", "retired", "retired, superseded or compromised")
	f.StringVar(&since, "doubted-since", "", "with compromised: since when what it signed is doubted, as 2026-11-24T20:00:00.000000Z")
	f.StringVar(&keyID, "key", "", "the key id, or its beginning, where NAME has several keys")
	return cmd
}

// keyOf finds the one key of a name that is not revoked and begins with prefix.
func keyOf(s *trust.State, name, prefix string) (string, error) {
	var found []string
	for _, e := range s.Enrolments() {
		if e.Name == name && e.Revoked == nil && strings.HasPrefix(e.Key.ID(), prefix) {
			found = append(found, e.Key.ID())
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return "", fmt.Errorf("%s has no such key that is not revoked: `ledger collector list` shows them", name)
	}
	return "", fmt.Errorf("%s has several keys, choose one with --key: %s", name, strings.Join(found, ", "))
}

func proposeRotation(o *options, propose proposer) *cobra.Command {
	return &cobra.Command{
		Use:   "rotate",
		Short: "Give the node another key; run on the node's machine",
		Long: `Make the node's next key (DIR/node-next.key) and propose the rotation to it. The
running node takes the new key over when the admins' action is submitted; receipts and
checkpoints of before stay valid.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return propose(trust.TypeRotated, "the node has another key", func(s *trust.State) (any, error) {
				next, err := node.PrepareKey(o.config())
				if err != nil {
					return nil, err
				}
				return node.Rotation(s, next)
			})
		},
	}
}

func proposeAdmins(propose proposer) *cobra.Command {
	var threshold int
	cmd := &cobra.Command{
		Use:   "admins NAME|NAME=PUBLICKEY:POSSESSION...",
		Short: "Change who the admins are; those that stay by name, new ones as `ledger key possess` prints them",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			return propose(trust.TypeAdmins, fmt.Sprintf("%d of %d admins must sign from now on", threshold, len(args)), func(s *trust.State) (any, error) {
				d := &trust.AdminsChanged{Basis: action.Basis(s), Admins: trust.Admins{Threshold: threshold}}
				for _, arg := range args {
					admin, err := readAdmin(s, arg)
					if err != nil {
						return nil, err
					}
					d.Admins.Keys = append(d.Admins.Keys, admin)
				}
				return d, checkAdmins(d.Admins)
			})
		},
	}
	cmd.Flags().IntVar(&threshold, "threshold", 1, "how many of them must sign")
	cmd.MarkFlagRequired("threshold")
	return cmd
}

func readAdmin(s *trust.State, arg string) (trust.Admin, error) {
	name, rest, isNew := strings.Cut(arg, "=")
	if !isNew {
		for _, a := range s.Admins().Keys {
			if a.Name == name {
				return trust.Admin{Name: name, PublicKey: a.PublicKey}, nil
			}
		}
		return trust.Admin{}, fmt.Errorf("%s is no admin now; give a new one as `ledger key possess %s FILE` prints it", name, name)
	}
	public, possession, ok := strings.Cut(rest, ":")
	if _, err := key.Parse(public); err != nil {
		return trust.Admin{}, fmt.Errorf("admin %s: %w", name, err)
	}
	if !ok {
		return trust.Admin{}, fmt.Errorf("admin %s: the possession is missing: `ledger key possess %s FILE` prints both", name, name)
	}
	return trust.Admin{Name: name, PublicKey: public, Possession: possession}, syntax.Collector(name)
}

func signCommand(o *options) *cobra.Command {
	var keyFile string
	var yes bool
	cmd := &cobra.Command{
		Use:   "sign FILE --key KEY",
		Short: "Read an action and sign it, as an admin",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			f, err := action.ReadFile(args[0])
			if err != nil {
				return err
			}
			words, err := f.Describe()
			if err != nil {
				return err
			}
			fmt.Fprintln(cmd.OutOrStdout(), words)
			if !yes && !confirmed(cmd) {
				return errors.New("nothing was signed")
			}
			k, err := o.keys().Open(keyFile)
			if err != nil {
				return err
			}
			if f.SignedBy(k.Public().ID()) {
				fmt.Fprintln(cmd.OutOrStdout(), "this key has signed it already; another admin's is needed")
				return nil
			}
			if err := f.Sign(k); err != nil {
				return err
			}
			if err := f.Write(args[0]); err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "signed with key %s\n", k.Public().ID())
			return nil
		},
	}
	cmd.Flags().StringVar(&keyFile, "key", "", "your key: a file, or a URI such as hashivault://NAME")
	cmd.Flags().BoolVar(&yes, "yes", false, "sign without asking")
	cmd.MarkFlagRequired("key")
	return cmd
}

func confirmed(cmd *cobra.Command) bool {
	fmt.Fprint(os.Stderr, "Sign this? Type yes: ")
	var answer string
	_, err := fmt.Fscanln(cmd.InOrStdin(), &answer)
	return err == nil && answer == "yes"
}

func submitCommand(o *options) *cobra.Command {
	return &cobra.Command{
		Use:   "submit FILE",
		Short: "Append an action that enough admins have signed",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			f, err := action.ReadFile(args[0])
			if err != nil {
				return err
			}
			for i, envelope := range f.Envelopes() {
				index, err := node.AppendTrust(o.config(), envelope)
				if err != nil {
					return fmt.Errorf("action %d of %d: %w", i+1, len(f.Actions), err)
				}
				fmt.Fprintf(cmd.OutOrStdout(), "entry %d: action %d of %d\n", index, i+1, len(f.Actions))
			}
			return nil
		},
	}
}

// adminFile is where the one local admin's key lies by default.
func (o *options) adminFile() string {
	return filepath.Join(filepath.Dir(filepath.Clean(o.dir)), "ledger-admin.pem")
}
