package checkpoint_test

import (
	"bytes"
	"crypto/ed25519"
	"testing"

	"filippo.io/torchwood"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
	"pgregory.net/rapid"

	"evidence-ledger/verify/checkpoint"
)

// policy is torchwood's for one log, with its own reading of the key.
func policy(t testing.TB, vkey string) torchwood.Policy {
	t.Helper()
	v, err := torchwood.NewLogVerifier(vkey)
	if err != nil {
		t.Fatal(err)
	}
	return torchwood.ThresholdPolicy(2, torchwood.OriginPolicy(v.Name()), torchwood.SingleVerifierPolicy(v))
}

func TestTorchwoodReadsTheExample(t *testing.T) {
	id, err := checkpoint.ParseIdentity(string(read(t, "identity")))
	if err != nil {
		t.Fatal(err)
	}
	p := policy(t, id.VKey)
	if err := torchwood.VerifyProof(p, exampleLeaves(t)[3], read(t, "receipt-3.tlog-proof")); err != nil {
		t.Error(err)
	}
	theirs, _, err := torchwood.VerifyCheckpoint(read(t, "checkpoint"), p)
	if err != nil {
		t.Fatal(err)
	}
	if ours := open(t, read(t, "checkpoint"), exampleVerifier(t)); ours.String() != theirs.String() {
		t.Errorf("torchwood reads %q, we read %q", theirs, ours)
	}
}

// What we write, torchwood verifies; what it writes, we verify; what we refuse
// because a bit was changed, it does not accept as something else.
func TestTorchwoodAgrees(t *testing.T) {
	vkey := checkpoint.VKey(origin, private.Public().(ed25519.PublicKey))
	p, v, s := policy(t, vkey), verifier(t, origin), signer(t, origin)
	rapid.Check(t, func(rt *rapid.T) {
		n := rapid.IntRange(1, 300).Draw(rt, "n")
		i := rapid.IntRange(0, n-1).Draw(rt, "i")
		l := newLog(n)
		signed, err := checkpoint.Sign(l.checkpoint(n), s)
		if err != nil {
			rt.Fatal(err)
		}
		hashes, err := tlog.ProveRecord(int64(n), int64(i), l.reader())
		if err != nil {
			rt.Fatal(err)
		}
		ours := &checkpoint.Proof{Index: uint64(i), Hashes: hashes, Checkpoint: signed}
		theirs := torchwood.FormatProof(int64(i), hashes, signed)
		if rapid.Bool().Draw(rt, "with extra") {
			ours.Extra = rapid.SliceOf(rapid.Byte()).Draw(rt, "extra")
			ours.Extra = append([]byte{}, ours.Extra...) // not nil: the line is there
			theirs = torchwood.FormatProofWithExtraData(int64(i), ours.Extra, hashes, signed)
		}
		if !bytes.Equal(ours.Marshal(), theirs) {
			rt.Fatalf("torchwood writes\n%s\nwe write\n%s", theirs, ours.Marshal())
		}
		if err := torchwood.VerifyProof(p, l.leaves[i], ours.Marshal()); err != nil {
			rt.Fatal(err)
		}
		if err := verifyFile(theirs, v, l.leaves[i]); err != nil {
			rt.Fatal(err)
		}
		bad := bytes.Clone(theirs)
		bad[rapid.IntRange(0, len(bad)-1).Draw(rt, "byte")] ^= 1 << rapid.IntRange(0, 7).Draw(rt, "bit")
		// We are the stricter one.
		if torchwood.VerifyProof(p, l.leaves[i], bad) != nil && verifyFile(bad, v, l.leaves[i]) == nil {
			rt.Fatalf("torchwood refuses what we accept:\n%s", bad)
		}
	})
}

// verifyFile checks a proof file as a caller does.
func verifyFile(b []byte, v note.Verifier, leaf tlog.Hash) error {
	p, err := checkpoint.ParseProof(b)
	if err != nil {
		return err
	}
	c, err := checkpoint.Open(p.Checkpoint, v)
	if err != nil {
		return err
	}
	return p.Verify(c.Checkpoint, leaf)
}
