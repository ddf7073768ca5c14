package action

import (
	"encoding/json/v2"
	"fmt"
	"strings"

	"evidence-ledger/verify/event"
	"evidence-ledger/verify/key"
	"evidence-ledger/verify/syntax"
	"evidence-ledger/verify/trust"
)

// Describe says in plain words what each action does, and on top of what it
// counts: what a person reads before signing. It is made from the payloads.
func (f *File) Describe() (string, error) {
	var b strings.Builder
	fmt.Fprintf(&b, "for the ledger %s\n", f.Ledger)
	for i, a := range f.Actions {
		ev, err := a.Event()
		if err != nil {
			return "", fmt.Errorf("action %d: %w", i+1, err)
		}
		if ev.Ledger != f.Ledger {
			return "", fmt.Errorf("action %d is for the ledger %s, the file for %s", i+1, ev.Ledger, f.Ledger)
		}
		words, err := describe(ev)
		if err != nil {
			return "", fmt.Errorf("action %d: %w", i+1, err)
		}
		fmt.Fprintf(&b, "\n%d. %s\n", i+1, words)
		fmt.Fprintf(&b, "   proposed at %s\n", syntax.FormatSeconds(ev.ObservedAt))
		for _, s := range a.Signatures {
			fmt.Fprintf(&b, "   signed by key %s\n", s.KeyID)
		}
	}
	return b.String(), nil
}

func describe(ev *event.Event) (string, error) {
	switch ev.Type {
	case trust.TypeGenesis:
		return describeGenesis(ev)
	case trust.TypeEnrolled:
		return describeEnrolled(ev)
	case trust.TypeRevoked:
		var d trust.Revoked
		err := json.Unmarshal(ev.Data, &d)
		doubt := ""
		if d.DoubtedSince != "" {
			doubt = fmt.Sprintf("\n   what it signed since %s is doubted, but for what lies below a dated checkpoint before that", d.DoubtedSince)
		}
		return fmt.Sprintf("REVOKE the key %s of %s: %s%s%s", d.KeyID, d.Name, d.Reason, doubt, basis(d.Basis)), err
	case trust.TypeRotated:
		var d trust.Rotated
		err := json.Unmarshal(ev.Data, &d)
		return fmt.Sprintf("ROTATE the node's key: from this entry on it signs as\n   %s%s", d.Node.VKey, basis(d.Basis)), err
	case trust.TypeAdmins:
		return describeAdmins(ev)
	}
	return "", fmt.Errorf("%s is no action that this program knows", ev.Type)
}

func describeEnrolled(ev *event.Event) (string, error) {
	var d trust.Enrolled
	if err := json.Unmarshal(ev.Data, &d); err != nil {
		return "", err
	}
	id, err := keyID(d.PublicKey)
	if err != nil {
		return "", err
	}
	valid := "from then on"
	if d.ValidFrom != "" {
		valid = "from " + d.ValidFrom
	}
	if d.ValidUntil != "" {
		valid += " until " + d.ValidUntil
	}
	return fmt.Sprintf("LET IN %s: it may publish %s, %s\n   its key is %s%s", d.Name, strings.Join(d.Types, ", "), valid, id, basis(d.Basis)), nil
}

func describeAdmins(ev *event.Event) (string, error) {
	var d trust.AdminsChanged
	if err := json.Unmarshal(ev.Data, &d); err != nil {
		return "", err
	}
	var b strings.Builder
	fmt.Fprintf(&b, "CHANGE THE ADMINS: from then on %d of these %d must sign", d.Admins.Threshold, len(d.Admins.Keys))
	err := listAdmins(&b, d.Admins)
	return b.String() + basis(d.Basis), err
}

func describeGenesis(ev *event.Event) (string, error) {
	var d trust.Genesis
	if err := json.Unmarshal(ev.Data, &d); err != nil {
		return "", err
	}
	var b strings.Builder
	fmt.Fprintf(&b, "BEGIN the ledger %s of %s\n   its node signs as %s\n   %d of these %d admins must sign what changes who may publish",
		d.Origin, d.Organisation, d.Node.VKey, d.Admins.Threshold, len(d.Admins.Keys))
	if p := d.Predecessor; p != nil {
		fmt.Fprintf(&b, "\n   it goes on from %s, %d entries with root %s", p.Origin, p.Size, p.Root)
	}
	err := listAdmins(&b, d.Admins)
	return b.String(), err
}

func listAdmins(b *strings.Builder, admins trust.Admins) error {
	for _, a := range admins.Keys {
		id, err := keyID(a.PublicKey)
		if err != nil {
			return err
		}
		fresh := ""
		if a.Possession != "" {
			fresh = " (new)"
		}
		fmt.Fprintf(b, "\n   %s, key %s%s", a.Name, id, fresh)
	}
	return nil
}

func keyID(encoded string) (string, error) {
	k, err := key.Parse(encoded)
	if err != nil {
		return "", err
	}
	return k.ID(), nil
}

func basis(b string) string {
	return "\n   counts only directly on top of the action with payload " + b
}
