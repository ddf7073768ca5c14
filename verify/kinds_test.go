package verify_test

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/hex"
	"encoding/json/jsontext"
	"errors"
	"fmt"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"evidence-ledger/verify"
	"evidence-ledger/verify/checkpoint"
	"evidence-ledger/verify/entry"
	"evidence-ledger/verify/event"
	"evidence-ledger/verify/key"
	"evidence-ledger/verify/problem"
	"evidence-ledger/verify/submission"
	"evidence-ledger/verify/syntax"
	"evidence-ledger/verify/trust"
)

// kinds are the kinds of vectors but "log". The input of each is a struct
// whose members stand in the vector; FORMAT.md says what is to be done with
// them.
var kinds = map[string]func(in jsontext.Value) error{
	"key": func(in jsontext.Value) error {
		v := read[keyIn](in)
		_, err := key.Parse(v.PublicKey)
		return err
	},
	"vkey": func(in jsontext.Value) error {
		v := read[vkeyIn](in)
		_, _, err := checkpoint.NewVerifier(v.VKey)
		return err
	},
	"event": func(in jsontext.Value) error {
		v := read[eventIn](in)
		_, err := event.Parse(v.Envelope, event.Builtin())
		return err
	},
	"signature":   runSignature,
	"submission":  runSubmission,
	"notice":      runNotice,
	"entry":       runEntry,
	"chain":       runChain,
	"note":        runNote,
	"sign":        runSign,
	"proof":       runProof,
	"consistency": runConsistency,
	"identity":    runIdentity,
	"tilepath":    runTilePath,
	"entrybundle": runEntryBundle,
	"trust":       runTrust,
	"receipt":     runReceipt,
}

type keyIn struct {
	PublicKey string `json:"publicKey"`
}

type vkeyIn struct {
	VKey string `json:"vkey"`
}

type eventIn struct {
	Envelope data `json:"envelope"`
}

type signatureIn struct {
	Envelope  data   `json:"envelope"`
	PublicKey string `json:"publicKey"`
}

func runSignature(in jsontext.Value) error {
	v := read[signatureIn](in)
	env, err := event.ParseEnvelope(v.Envelope)
	if err != nil {
		return err
	}
	k, err := key.Parse(v.PublicKey)
	if err != nil {
		return err
	}
	return env.VerifySignature(0, k)
}

type submissionIn struct {
	Subject string `json:"subject"`
	Body    data   `json:"body"`
}

func runSubmission(in jsontext.Value) error {
	v := read[submissionIn](in)
	collector, typ, err := submission.ParseSubject(v.Subject)
	if err != nil {
		return err
	}
	s, err := submission.Parse(v.Body)
	if err != nil {
		return err
	}
	ev, err := event.Parse(s.Envelope, event.Builtin())
	if err != nil {
		return err
	}
	return s.Fits(ev, collector, typ)
}

type noticeIn struct {
	Notice data `json:"notice"`
}

func runNotice(in jsontext.Value) error {
	_, err := submission.ParseNotice(read[noticeIn](in).Notice)
	return err
}

type entryIn struct {
	Entry data `json:"entry"`
}

func runEntry(in jsontext.Value) error {
	v := read[entryIn](in)
	e, err := entry.Parse(v.Entry)
	if err != nil {
		return err
	}
	if again := append(e.Header.Bytes(), e.Envelope...); !bytes.Equal(again, v.Entry) {
		return fmt.Errorf("written again the entry is another: %.300q", again)
	}
	return nil
}

type chainIn struct {
	Entries []data `json:"entries"`
}

func runChain(in jsontext.Value) error {
	c := entry.NewChain()
	for _, raw := range read[chainIn](in).Entries {
		e, err := entry.Parse(raw)
		if err != nil {
			return err
		}
		if err := c.Add(e); err != nil {
			return err
		}
	}
	return nil
}

type noteIn struct {
	VKey string `json:"vkey"`
	Note data   `json:"note"`
}

func runNote(in jsontext.Value) error {
	v := read[noteIn](in)
	verifier, _, err := checkpoint.NewVerifier(v.VKey)
	if err != nil {
		return err
	}
	_, err = checkpoint.Open(v.Note, verifier)
	return err
}

// signIn: the note is what signing must give, byte for byte.
type signIn struct {
	Seed   string `json:"seed"`
	Name   string `json:"name"`
	Origin string `json:"origin"`
	Size   uint64 `json:"size"`
	Root   string `json:"root"`
	Note   data   `json:"note"`
}

func runSign(in jsontext.Value) error {
	v := read[signIn](in)
	seed, err := hex.DecodeString(v.Seed)
	if err != nil {
		return err
	}
	signer, err := checkpoint.NewSigner(v.Name, ed25519.NewKeyFromSeed(seed))
	if err != nil {
		return err
	}
	root, err := tlog.ParseHash(v.Root)
	if err != nil {
		return err
	}
	note, err := checkpoint.Sign(checkpoint.Checkpoint{Origin: v.Origin, Size: v.Size, Root: root}, signer)
	if err != nil {
		return err
	}
	if !bytes.Equal(note, v.Note) {
		return fmt.Errorf("the note is %q", note)
	}
	return nil
}

type proofIn struct {
	VKey  string `json:"vkey"`
	Entry data   `json:"entry"`
	Proof data   `json:"proof"`
}

func runProof(in jsontext.Value) error {
	v := read[proofIn](in)
	p, err := checkpoint.ParseProof(v.Proof)
	if err != nil {
		return err
	}
	if again := p.Marshal(); !bytes.Equal(again, v.Proof) {
		return fmt.Errorf("written again the proof is another: %.300q", again)
	}
	if v.VKey == "" {
		return nil
	}
	verifier, _, err := checkpoint.NewVerifier(v.VKey)
	if err != nil {
		return err
	}
	c, err := checkpoint.Open(p.Checkpoint, verifier)
	if err != nil {
		return err
	}
	return p.Verify(c.Checkpoint, tlog.RecordHash(v.Entry))
}

type consistencyIn struct {
	Old   string `json:"old"`
	New   string `json:"new"`
	Proof data   `json:"proof"`
}

func runConsistency(in jsontext.Value) error {
	v := read[consistencyIn](in)
	older, err := checkpoint.Parse(v.Old)
	if err != nil {
		return err
	}
	newer, err := checkpoint.Parse(v.New)
	if err != nil {
		return err
	}
	proof, err := checkpoint.ParseConsistency(v.Proof)
	if err != nil {
		return err
	}
	return checkpoint.CheckConsistency(older, newer, proof)
}

type identityIn struct {
	Identity string `json:"identity"`
}

func runIdentity(in jsontext.Value) error {
	v := read[identityIn](in)
	id, err := checkpoint.ParseIdentity(v.Identity)
	if err != nil {
		return err
	}
	if id.String() != v.Identity {
		return fmt.Errorf("written again the line is %q", id)
	}
	return nil
}

type tilePathIn struct {
	Path string `json:"path"`
}

func runTilePath(in jsontext.Value) error {
	_, err := checkpoint.ParseTilePath(read[tilePathIn](in).Path)
	return err
}

type entryBundleIn struct {
	Bundle string `json:"bundle"` // base64
	Limit  int    `json:"limit"`
}

func runEntryBundle(in jsontext.Value) error {
	v := read[entryBundleIn](in)
	b, err := base64.StdEncoding.DecodeString(v.Bundle)
	if err != nil {
		return err
	}
	entries, err := checkpoint.ParseEntryBundle(b, v.Limit)
	if err != nil {
		return err
	}
	if !bytes.Equal(checkpoint.EntryBundle(entries), b) {
		return fmt.Errorf("written again the bundle is another")
	}
	return nil
}

// trustIn are the events of a log from entry 0 on, with the times of their
// entries.
type trustIn struct {
	Events []timedEvent `json:"events"`
}

type timedEvent struct {
	Time     string `json:"time"`
	Envelope data   `json:"envelope"`
}

func runTrust(in jsontext.Value) error {
	var state *trust.State
	for i, e := range read[trustIn](in).Events {
		ev, err := event.Parse(e.Envelope, event.Builtin())
		if err != nil {
			return err
		}
		at, err := syntax.Micros(e.Time)
		if err != nil {
			return err
		}
		if state, err = take(state, uint64(i), ev); err != nil {
			return problem.At(uint64(i), err)
		}
		if entry.StreamOf(ev.Type) != "trust" {
			if err := state.Authorize(ev, at); err != nil {
				return problem.At(uint64(i), err)
			}
		}
	}
	return nil
}

func take(s *trust.State, index uint64, ev *event.Event) (*trust.State, error) {
	switch {
	case s == nil:
		return trust.Begin(ev)
	case entry.StreamOf(ev.Type) == "trust":
		return s.Next(index, ev)
	default:
		err := s.CheckSignature(ev)
		if p := problem.Of(err); p != nil && p.Code == "authority.key" && problem.Of(s.Authorize(ev, time.Time{})) == nil {
			return nil, errors.New("an event that a stranger signed is authorized")
		}
		return s, err
	}
}

// receiptIn: Trust are entries of stream trust, from the genesis on, which say
// more about the node's key than the identity.
type receiptIn struct {
	Identity string `json:"identity"`
	Trust    []data `json:"trust,omitzero"`
	Envelope data   `json:"envelope"`
	Receipt  data   `json:"receipt"`
}

func runReceipt(in jsontext.Value) error {
	v := read[receiptIn](in)
	id, err := checkpoint.ParseIdentity(v.Identity)
	if err != nil {
		return err
	}
	ev, err := event.Parse(v.Envelope, event.Builtin())
	if err != nil {
		return err
	}
	keys := verify.Keys(id)
	if v.Trust != nil {
		entries := make([][]byte, len(v.Trust))
		for i, raw := range v.Trust {
			entries[i] = raw
		}
		if keys, err = verify.Trust(entries, id); err != nil {
			return err
		}
	}
	_, err = verify.Receipt(v.Receipt, ev, keys)
	return err
}
