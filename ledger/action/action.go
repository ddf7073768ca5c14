// Package action is the file in which admins pass an action around.
//
// What changes who may sign (stream `trust`) is signed by a quorum of admins,
// each on a machine of their own. One proposes, the others read what it does in
// plain words and add their signatures, somebody submits it to the node:
//
//	{"format":"evidence-ledger/action@v1",
//	 "ledger":"ledger.example.org/evidence",
//	 "actions":[<DSSE envelope>, ...]}
//
// A file may hold a chain of actions, each the basis of the next; they count
// only together, in this order, and directly after the action that the first
// one names as its basis. An envelope may have no signature while it is passed
// around; its payload never changes.
//
// Invariant: what is signed is what was described, because the description is
// made from the payload's bytes alone. TestActions holds it.
package action

import (
	"bytes"
	"encoding/base64"
	"encoding/json/jsontext"
	"encoding/json/v2"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"evidence-ledger/ledger"
	"evidence-ledger/ledger/sign"
	"evidence-ledger/verify/event"
	"evidence-ledger/verify/trust"
)

const format = "evidence-ledger/action@v1"

// maxFile bounds an action file.
const maxFile = 1 << 20

// File is what admins pass around.
type File struct {
	Ledger  string
	Actions []*Action
}

// Action is one statement with the signatures that it has so far.
type Action struct {
	Payload    []byte
	Signatures []event.Signature
}

type fileJSON struct {
	Format  string         `json:"format"`
	Ledger  string         `json:"ledger"`
	Actions []envelopeJSON `json:"actions"`
}

type envelopeJSON struct {
	PayloadType string          `json:"payloadType"`
	Payload     string          `json:"payload"`
	Signatures  []signatureJSON `json:"signatures"`
}

type signatureJSON struct {
	KeyID string `json:"keyid"`
	Sig   string `json:"sig"`
}

// Genesis begins a file with the genesis, signed by the node.
func Genesis(g trust.Genesis, node *sign.Key, at time.Time) (*File, error) {
	payload, err := ledger.OwnPayload(trust.TypeGenesis, g.Origin, ledger.GenesisSummary(g), g, at)
	if err != nil {
		return nil, err
	}
	f := &File{Ledger: g.Origin, Actions: []*Action{{Payload: payload}}}
	return f, f.Sign(node)
}

// Propose begins a file with one action on top of state: typ and data as in
// package trust, whose basis the caller has set to Basis(state).
func Propose(state *trust.State, typ, summary string, data any, at time.Time) (*File, error) {
	payload, err := ledger.OwnPayload(typ, state.Origin(), summary, data, at)
	if err != nil {
		return nil, err
	}
	return &File{Ledger: state.Origin(), Actions: []*Action{{Payload: payload}}}, nil
}

// Basis is what an action on top of state names.
func Basis(state *trust.State) string { return fmt.Sprintf("%x", state.Basis()) }

// Parse reads a file strictly.
func Parse(raw []byte) (*File, error) {
	if len(raw) > maxFile {
		return nil, fmt.Errorf("the action file has %d bytes, at most %d are allowed", len(raw), maxFile)
	}
	var in fileJSON
	if err := json.Unmarshal(raw, &in, json.RejectUnknownMembers(true)); err != nil {
		return nil, fmt.Errorf("not an action file of `ledger propose`: %w", err)
	}
	if in.Format != format {
		return nil, fmt.Errorf("not an action file of `ledger propose`: its format is %q, expected %q", in.Format, format)
	}
	if len(in.Actions) == 0 {
		return nil, errors.New("the action file has no action")
	}
	f := &File{Ledger: in.Ledger}
	for i, e := range in.Actions {
		a, err := parseEnvelope(e)
		if err == nil {
			_, err = a.Event()
		}
		if err != nil {
			return nil, fmt.Errorf("action %d: %w", i+1, err)
		}
		f.Actions = append(f.Actions, a)
	}
	return f, nil
}

func parseEnvelope(e envelopeJSON) (*Action, error) {
	payload, err := base64.StdEncoding.Strict().DecodeString(e.Payload)
	if err != nil || e.PayloadType != event.PayloadType {
		return nil, fmt.Errorf("no DSSE envelope of type %s", event.PayloadType)
	}
	a := &Action{Payload: payload}
	for _, s := range e.Signatures {
		sig, err := base64.StdEncoding.Strict().DecodeString(s.Sig)
		if err != nil {
			return nil, fmt.Errorf("signature of %.16s...: %w", s.KeyID, err)
		}
		a.Signatures = append(a.Signatures, event.Signature{KeyID: s.KeyID, Sig: sig})
	}
	return a, nil
}

// Event reads the statement. Whatever is unsigned yet is read as if somebody
// had signed it: only its form is looked at.
func (a *Action) Event() (*event.Event, error) {
	sigs := a.Signatures
	if len(sigs) == 0 {
		sigs = []event.Signature{{KeyID: strings.Repeat("0", 64), Sig: make([]byte, 64)}}
	}
	ev, err := event.Parse(event.Wrap(a.Payload, sigs), event.Builtin())
	if err != nil {
		return nil, err
	}
	if !strings.HasPrefix(ev.Type, "trust.") {
		return nil, fmt.Errorf("%s is no admins' action", ev.Type)
	}
	return ev, nil
}

// SignedBy tells whether every action has a signature that names this key.
func (f *File) SignedBy(keyID string) bool {
	for _, a := range f.Actions {
		if !a.signedBy(keyID) {
			return false
		}
	}
	return true
}

// Sign adds one admin's signature to every action; one that it has already is
// left as it is.
func (f *File) Sign(k *sign.Key) error {
	for i, a := range f.Actions {
		if a.signedBy(k.Public().ID()) {
			continue
		}
		sig, err := k.Sign(event.PAE(a.Payload))
		if err != nil {
			return fmt.Errorf("sign action %d: %w", i+1, err)
		}
		a.Signatures = append(a.Signatures, event.Signature{KeyID: k.Public().ID(), Sig: sig})
	}
	return nil
}

func (a *Action) signedBy(keyID string) bool {
	for _, s := range a.Signatures {
		if s.KeyID == keyID {
			return true
		}
	}
	return false
}

// Envelopes are the finished actions, in order.
func (f *File) Envelopes() (out [][]byte) {
	for _, a := range f.Actions {
		out = append(out, event.Wrap(a.Payload, a.Signatures))
	}
	return out
}

// JSON writes the file, indented for people.
func (f *File) JSON() ([]byte, error) {
	out := fileJSON{Format: format, Ledger: f.Ledger}
	for _, a := range f.Actions {
		e := envelopeJSON{PayloadType: event.PayloadType, Payload: base64.StdEncoding.EncodeToString(a.Payload), Signatures: []signatureJSON{}}
		for _, s := range a.Signatures {
			e.Signatures = append(e.Signatures, signatureJSON{s.KeyID, base64.StdEncoding.EncodeToString(s.Sig)})
		}
		out.Actions = append(out.Actions, e)
	}
	raw, err := json.Marshal(out, jsontext.WithIndent("  "))
	return append(raw, '\n'), err
}

// ReadFile reads a file from disk, Write writes it there.
func ReadFile(path string) (*File, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the action file: %w", err)
	}
	f, err := Parse(raw)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return f, nil
}

// Write replaces the file on disk.
func (f *File) Write(path string) error {
	raw, err := f.JSON()
	if err != nil {
		return err
	}
	if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, raw) {
		return nil
	}
	if err := os.WriteFile(path+".tmp", raw, 0o644); err != nil {
		return fmt.Errorf("write the action file: %w", err)
	}
	return os.Rename(path+".tmp", path)
}
