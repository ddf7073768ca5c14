package verify

import (
	"bytes"
	"crypto/sha256"

	"golang.org/x/mod/sumdb/tlog"

	"evidence-ledger/verify/checkpoint"
	"evidence-ledger/verify/entry"
	"evidence-ledger/verify/event"
	"evidence-ledger/verify/problem"
	"evidence-ledger/verify/trust"
)

// Receipted is what a receipt proves: the event stands in the log at Index,
// since Time by the node's clock, below Checkpoint.
type Receipted struct {
	entry.Header
	Leaf       tlog.Hash
	Checkpoint *checkpoint.Signed
}

// Keys tells by which verifier key a checkpoint of a size is to be verified: an
// Identity, for who knows of no rotation, or a trust.State.
type Keys interface{ NodeVKey(size uint64) string }

// Checkpoint verifies a signed checkpoint by the node's key for its size.
func Checkpoint(note []byte, keys Keys) (*checkpoint.Signed, error) {
	unverified, err := checkpoint.ParseUnverified(note)
	if err != nil {
		return nil, err
	}
	v, _, err := checkpoint.NewVerifier(keys.NodeVKey(unverified.Size))
	if err != nil {
		return nil, err
	}
	return checkpoint.Open(note, v)
}

// Trust follows the entries of stream trust, from the genesis on and in order,
// to who may sign what. The first must be the identity's genesis; each of the
// others names the one before it and is signed by the admins' quorum, so that
// none can be slipped in. Whether there are newer ones nobody knows from them,
// and of the newest only the event is signed: its header, and so the size from
// which a new node key counts, is the word of who gave it, until a proof shows
// the entry in the tree.
func Trust(entries [][]byte, id *checkpoint.Identity) (state *trust.State, err error) {
	var last *entry.Entry
	for i, raw := range entries {
		e, err := entry.Parse(raw)
		if err != nil {
			return nil, err
		}
		ev, err := event.Parse(e.Envelope, event.Builtin())
		if err != nil {
			return nil, problem.At(e.Index, err)
		}
		if err := followsAction(e, ev, uint64(i), last); err != nil {
			return nil, err
		}
		last = e
		if i == 0 {
			if e.Leaf() != tlog.Hash(id.Genesis) {
				return nil, problem.New("identity.genesis", "", "the first action is not the genesis of the identity line")
			}
			state, err = trust.Begin(ev)
		} else {
			state, err = state.Next(e.Index, ev)
		}
		if err != nil {
			return nil, problem.At(e.Index, err)
		}
	}
	return state, nil
}

// followsAction: e is number n of stream trust, directly after last there.
func followsAction(e *entry.Entry, ev *event.Event, n uint64, last *entry.Entry) error {
	if want := entry.StreamOf(ev.Type); e.Stream != want {
		return problem.New("entry.stream", "stream", "the header says stream %s, an event of type %s belongs to %s", e.Stream, ev.Type, want)
	}
	if last == nil {
		return nil // the identity names the whole of the genesis
	}
	if e.Index <= last.Index {
		return problem.New("entry.index", "index", "the index is %d, the action before it is entry %d", e.Index, last.Index)
	}
	// What stands between is not known; the rest of the chain is.
	heads := map[string]entry.Head{"trust": {Count: n, Last: last.Leaf()}}
	return entry.Restore(e.Index, e.Previous, last.Time, heads).Add(e)
}

// Receipt checks that receipt (a .tlog-proof whose extra line is the entry's
// header, FORMAT.md) proves the event in the log whose node has these keys. The
// caller made or received the event and judges its signature; the receipt says
// that the node logged exactly these bytes.
func Receipt(receipt []byte, ev *event.Event, keys Keys) (*Receipted, error) {
	proof, err := checkpoint.ParseProof(receipt)
	if err != nil {
		return nil, err
	}
	signed, err := Checkpoint(proof.Checkpoint, keys)
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
