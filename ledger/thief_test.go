package ledger_test

import (
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"evidence-ledger/ledger"
	"evidence-ledger/ledger/ledgertest"
	"evidence-ledger/ledger/recheck"
	"evidence-ledger/ledger/sign"
	"evidence-ledger/ledger/store"
	"evidence-ledger/verify"
	"evidence-ledger/verify/checkpoint"
	"evidence-ledger/verify/problem"
	"evidence-ledger/verify/trust"
)

// fork opens a copy of a ledger's folder with a key, as a thief does.
func fork(t *testing.T, l *ledgertest.Ledger, from, to string, node *sign.Key) *ledgertest.Ledger {
	t.Helper()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	f := *l
	f.Dir, f.Node = to, node
	if err := f.Open(); err != nil {
		t.Fatal(err)
	}
	return &f
}

// TestOldKeyThief: whoever has stolen the node's former key forks the log before
// the rotation. A verifier that knows a checkpoint names it; the node that is
// shown the forged one refuses it and goes on, since the key is not its own any
// more and a thief must not be able to stop it.
func TestOldKeyThief(t *testing.T) {
	dir := t.TempDir()
	l := ledgertest.Create(t, filepath.Join(dir, "node"), nil)
	web := l.Enrol("web-1", "patch.*")
	l.Must(web.Event("seen by both").Candidate())
	l.Close()
	stolen := l.Node
	thief := fork(t, l, l.Dir, filepath.Join(dir, "thief"), stolen)
	defer thief.Close()

	// The node logs one more and rotates.
	next := ledgertest.Key(t)
	config := func() ledger.Config {
		c := l.Config()
		c.Conflicts = filepath.Join(l.Dir, "conflict")
		c.NextNode = func() (*sign.Key, error) { return next, nil }
		return c
	}
	var err error
	if l.Store, err = store.Open(l.Dir, store.Options{}); err != nil {
		t.Fatal(err)
	}
	if l.Ledger, err = ledger.Open(config()); err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	l.Must(web.Event("only here").Candidate())
	known := l.Head().Note
	l.Must(ledger.NewCandidate(rotation(t, l.State(), next, l.Admin), nil))
	if got := l.Head(); got.Size != 5 || l.State().NodeKey().ID() != next.Public().ID() {
		t.Fatalf("%d entries", got.Size)
	}
	l.Must(web.Event("under the new key").Candidate())

	// The thief cannot make evidence; it has the node's own events, enough to
	// grow beyond the rotation.
	former, unknown := 0, 0
	for size := uint64(4); size <= 8; size++ {
		thief.Must(ownEvent(t, thief, stolen))
		note := thief.Head().Note
		if thief.Head().Size != size {
			t.Fatalf("the fork has %d entries", thief.Head().Size)
		}
		p := problem.Of(l.Witness(note))
		switch {
		case p == nil:
			t.Errorf("a note of %d entries by the former key: nothing was said", size)
		case size <= 4 && p.Code == "submission.checkpoint-former":
			former++
		case size > 4 && p.Code == "submission.checkpoint-unknown":
			unknown++
		default:
			t.Errorf("a note of %d entries by the former key: %v", size, p)
		}
	}
	if former == 0 || unknown == 0 {
		t.Errorf("%d notes of before the rotation, %d of after it", former, unknown)
	}
	l.Must(web.Event("nobody stops it").Candidate())
	if left, err := filepath.Glob(filepath.Join(l.Dir, "conflict", "*")); err != nil || left != nil {
		t.Errorf("a conflict is kept: %v, %v", left, err)
	}

	// Whoever holds the identity line alone may be shown the fork: it is what
	// the log was until then. Whoever has seen more is told.
	for name, c := range map[string]struct {
		note []byte
		want string
	}{
		"the checkpoint before the rotation": {known, "log.fork"},
		"the newest checkpoint":              {l.Head().Note, ""},
	} {
		r := verifyKnown(t, thief, c.note)
		if r.Verdict != verify.Problems || len(r.Problems) == 0 || c.want != "" && r.Problems[0].Code != c.want {
			t.Errorf("%s: %s, %+v", name, r.Verdict, r.Problems)
		}
	}
	if r := verifyKnown(t, l, known); r.Verdict != verify.Verified {
		t.Errorf("the node's own: %+v", r.Problems)
	}
}

// ownEvent is what a node may log by itself.
func ownEvent(t *testing.T, l *ledgertest.Ledger, node *sign.Key) *ledger.Candidate {
	t.Helper()
	envelope, err := ledger.Own("ledger.rejections", ledgertest.Origin, "forged", map[string]any{
		"from": "2026-11-24T08:00:00.000000Z", "to": "2026-11-24T08:00:01.000000Z",
		"collectors": map[string]any{"web-1": map[string]int{"event.schema": 1}},
	}, l.Clock.Now(), node)
	if err != nil {
		t.Fatal(err)
	}
	return ledger.NewCandidate(envelope, nil)
}

func verifyKnown(t *testing.T, l *ledgertest.Ledger, note []byte) *verify.Report {
	t.Helper()
	l.Config() // second place and artifacts of its own folder
	d, err := recheck.Read(l.Second, l.Artifacts, func() (*store.Snapshot, error) { return l.Store.Snapshot(), nil })
	if err != nil {
		t.Fatal(err)
	}
	defer d.Snapshot.Close()
	r, err := d.Verify(t.Context(), verify.Options{Identity: l.Identity, Now: l.Clock.Now(), Known: []verify.Known{{Name: "known", Note: note}}})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// rotation is the action that rotates the node to the next key.
func rotation(t *testing.T, s *trust.State, next *sign.Key, keys ...*sign.Key) []byte {
	t.Helper()
	proof, err := next.Sign(trust.PossessionMessage(s.Origin(), "node", next.Public().ID()))
	if err != nil {
		t.Fatal(err)
	}
	envelope, err := ledger.Own(trust.TypeRotated, s.Origin(), "the node has another key", trust.Rotated{
		Basis:      fmt.Sprintf("%x", s.Basis()),
		Node:       trust.Node{VKey: checkpoint.VKey(s.Origin(), next.Public().Ed25519()), PublicKey: next.Public().String()},
		Possession: base64.StdEncoding.EncodeToString(proof),
	}, ledgertest.Begin, keys...)
	if err != nil {
		t.Fatal(err)
	}
	return envelope
}
