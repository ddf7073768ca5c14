package checkpoint_test

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"evidence-ledger/verify/checkpoint"
	"evidence-ledger/verify/problem"
)

// refused tells whether there is an error, which must be a problem.
func refused(t *testing.T, err error) bool {
	t.Helper()
	if err != nil && problem.Of(err) == nil {
		t.Fatalf("refused without a problem: %v", err)
	}
	return err != nil
}

func FuzzParseCheckpoint(f *testing.F) {
	f.Add(text)
	f.Add(text + "more\n")
	f.Add(origin + "\n0\n" + root + "\n")
	f.Add(origin + "\n9007199254740993\n" + root + "\n")
	f.Fuzz(func(t *testing.T, text string) {
		c, err := checkpoint.Parse(text)
		if !refused(t, err) && c.String() != text {
			t.Fatalf("not the same when written again: %q", c)
		}
	})
}

func FuzzOpen(f *testing.F) {
	v := verifier(f, origin)
	good := signText(f, text, signer(f, origin))
	f.Add([]byte(good))
	f.Add([]byte(good + line("witness.example.org", "idididid and a cosignature")))
	f.Add([]byte(good + forged(good[len(text)+1:])))
	f.Add(read(f, "checkpoint"))
	f.Fuzz(func(t *testing.T, b []byte) {
		u, err := checkpoint.ParseUnverified(b)
		if !refused(t, err) && (!bytes.Equal(u.Note, b) || !strings.HasPrefix(string(b), u.String()+"\n— ")) {
			t.Fatalf("read as %q", u.Checkpoint)
		}
		s, err := checkpoint.Open(b, v)
		if refused(t, err) {
			return
		}
		if s.String() != text {
			t.Fatalf("a note was accepted that nobody signed: %q", s.Checkpoint)
		}
	})
}

func FuzzParseProof(f *testing.F) {
	f.Add(read(f, "receipt-3.tlog-proof"))
	f.Add(read(f, "proofs/6.tlog-proof"))
	f.Add(bytes.Replace(read(f, "proofs/6.tlog-proof"), []byte("index"), []byte("extra \nindex"), 1))
	f.Add([]byte("c2sp.org/tlog-proof@v1\nindex 0\n\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := checkpoint.ParseProof(b)
		if refused(t, err) {
			return
		}
		if !bytes.Equal(p.Marshal(), b) {
			t.Fatalf("not the same when written again: %q", p.Marshal())
		}
		u, err := checkpoint.ParseUnverified(p.Checkpoint)
		if err != nil {
			t.Fatal(err)
		}
		refused(t, p.Verify(u.Checkpoint, [32]byte{}))
	})
}

func FuzzParseConsistency(f *testing.F) {
	f.Add(read(f, "consistency/3"), uint64(3), uint64(7))
	f.Add([]byte{}, uint64(0), uint64(1<<63))
	f.Add([]byte(root), uint64(1)<<53, uint64(1)<<53)
	f.Fuzz(func(t *testing.T, b []byte, old, new uint64) {
		p, err := checkpoint.ParseConsistency(b)
		if refused(t, err) {
			return
		}
		if !bytes.Equal(checkpoint.FormatConsistency(p), b) {
			t.Fatal("not the same when written again")
		}
		refused(t, checkpoint.CheckConsistency(checkpoint.Checkpoint{Size: old}, checkpoint.Checkpoint{Size: new}, p))
	})
}

func FuzzParseIdentity(f *testing.F) {
	good := string(read(f, "identity"))
	f.Add(good)
	f.Add(strings.TrimSuffix(good, "\n") + " 7 " + root)
	f.Add(strings.Replace(good, "+7", "+F", 1))
	f.Fuzz(func(t *testing.T, line string) {
		id, err := checkpoint.ParseIdentity(line)
		if !refused(t, err) && id.String() != strings.TrimSuffix(line, "\n") {
			t.Fatalf("not the same when written again: %q", id)
		}
	})
}

func FuzzParseTilePath(f *testing.F) {
	for _, path := range []string{"tile/0/000", "tile/entries/x001/x234/067.p/255", "tile/6/000.p/32", "tile/data/000", "tile/0/x999/x999/x999/x999/x999/x999/x999/999"} {
		f.Add(path)
	}
	f.Fuzz(func(t *testing.T, path string) {
		tile, err := checkpoint.ParseTilePath(path)
		if !refused(t, err) && checkpoint.TilePath(tile) != path {
			t.Fatalf("not the same when written again: %q", checkpoint.TilePath(tile))
		}
	})
}

func FuzzParseEntryBundle(f *testing.F) {
	f.Add(checkpoint.EntryBundle([][]byte{[]byte("a"), {}, []byte("bcd")}))
	f.Add([]byte{0xff, 0xff})
	f.Add(make([]byte, 2*257))
	f.Fuzz(func(t *testing.T, b []byte) {
		entries, err := checkpoint.ParseEntryBundle(b, checkpoint.TileWidth)
		if refused(t, err) {
			return
		}
		if len(entries) > checkpoint.TileWidth || !slices.Equal(checkpoint.EntryBundle(entries), b) {
			t.Fatal("not the same when written again")
		}
	})
}
