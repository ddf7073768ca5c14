package verify

import (
	"bytes"
	"crypto/sha256"

	"golang.org/x/mod/sumdb/tlog"

	"evidence-ledger/verify/checkpoint"
	"evidence-ledger/verify/entry"
	"evidence-ledger/verify/event"
	"evidence-ledger/verify/problem"
)

// Receipted is what a receipt proves: the event stands in the log at Index,
// since Time by the node's clock, below Checkpoint.
type Receipted struct {
	entry.Header
	Leaf       tlog.Hash
	Checkpoint *checkpoint.Signed
}

// Receipt checks that receipt (a .tlog-proof whose extra line is the entry's
// header, FORMAT.md) proves the event in the log of the identity. The caller
// made or received the event and judges its signature; the receipt says that
// the node logged exactly these bytes.
func Receipt(receipt []byte, ev *event.Event, id *checkpoint.Identity) (*Receipted, error) {
	proof, err := checkpoint.ParseProof(receipt)
	if err != nil {
		return nil, err
	}
	v, _, err := checkpoint.NewVerifier(id.VKey)
	if err != nil {
		return nil, err
	}
	signed, err := checkpoint.Open(proof.Checkpoint, v)
	if err != nil {
		return nil, err
	}
	header, rest, err := entry.ParseHeader(proof.Extra)
	if err != nil {
		return nil, err
	}
	if len(rest) != 0 {
		return nil, problem.New("receipt.extra", "extra", "%d bytes follow the entry's header", len(rest))
	}
	if header.Index != proof.Index {
		return nil, problem.New("receipt.index", "extra", "the header is of entry %d, the proof of entry %d", header.Index, proof.Index)
	}
	if want := entry.StreamOf(ev.Type); header.Stream != want {
		return nil, problem.New("receipt.stream", "extra", "the header is of stream %s, the event belongs to %s", header.Stream, want)
	}
	leaf := tlog.Hash(sha256.Sum256(bytes.Join([][]byte{{0}, proof.Extra, ev.Envelope.Raw}, nil)))
	if err := proof.Verify(signed.Checkpoint, leaf); err != nil {
		return nil, err
	}
	return &Receipted{Header: header, Leaf: leaf, Checkpoint: signed}, nil
}
