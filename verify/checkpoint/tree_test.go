package checkpoint_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"testing"

	"filippo.io/torchwood"
	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"
	"github.com/transparency-dev/merkle/testonly"
	"golang.org/x/mod/sumdb/tlog"
	"pgregory.net/rapid"

	"evidence-ledger/verify/checkpoint"
)

// log is a tree, with its full tiles kept as a store keeps them.
type log struct {
	tree   checkpoint.Tree
	leaves []tlog.Hash
	tiles  map[tlog.Tile][]byte
	roots  []tlog.Hash
	oracle *testonly.Tree // transparency-dev/merkle
}

func newLog(n int) *log {
	l := &log{tiles: map[tlog.Tile][]byte{}, oracle: testonly.New(rfc6962.DefaultHasher)}
	l.roots = append(l.roots, l.tree.Root())
	for range n {
		l.add()
	}
	return l
}

func (l *log) add() {
	data := binary.BigEndian.AppendUint64(nil, uint64(len(l.leaves)))
	leaf := tlog.RecordHash(data)
	l.leaves = append(l.leaves, leaf)
	l.oracle.AppendData(data)
	for _, f := range l.tree.Add(leaf) {
		l.tiles[f.Tile] = f.Data
	}
	l.roots = append(l.roots, l.tree.Root())
}

// readTile serves full tiles, and partial ones from the tree's right edge.
func (l *log) readTile(t tlog.Tile) ([]byte, error) {
	if t.W == checkpoint.TileWidth {
		if data, found := l.tiles[t]; found {
			return data, nil
		}
		return nil, fmt.Errorf("no tile %s", checkpoint.TilePath(t))
	}
	data := l.tree.Partial(t.L)
	if len(data) != t.W*tlog.HashSize {
		return nil, fmt.Errorf("no partial tile %s", checkpoint.TilePath(t))
	}
	return data, nil
}

func (l *log) readLeaf(i uint64) (tlog.Hash, error) { return l.leaves[i], nil }

func (l *log) reader() tlog.HashReader {
	return checkpoint.NewHashReader(l.readTile, l.tree.Size())
}

func (l *log) checkpoint(size int) checkpoint.Checkpoint {
	return checkpoint.Checkpoint{Origin: origin, Size: uint64(size), Root: l.roots[size]}
}

func byteSlices(hashes []tlog.Hash) (b [][]byte) {
	for _, h := range hashes {
		b = append(b, h[:])
	}
	return b
}

func TestEmptyRoot(t *testing.T) {
	if got := (&checkpoint.Tree{}).Root(); got != sha256.Sum256(nil) {
		t.Errorf("the root of the empty tree is %x", got)
	}
}

// Roots, inclusion and consistency agree with transparency-dev/merkle: every
// proof of small trees, and around the sizes at which tiles fill.
func TestMerkleAgrees(t *testing.T) {
	l := newLog(0)
	for n := 1; n <= 256*257+3; n++ {
		l.add()
		if !bytes.Equal(l.roots[n][:], l.oracle.HashAt(uint64(n))) {
			t.Fatalf("the root at size %d is not that of merkle", n)
		}
		if n <= 40 {
			for i := range n {
				checkInclusion(t, l, i)
				checkConsistency(t, l, i+1)
			}
		} else if atTile(n) {
			for _, i := range []int{0, 1, n / 3, n / 2, n - 2, n - 1} {
				checkInclusion(t, l, i)
				checkConsistency(t, l, i+1)
			}
		}
	}
}

// atTile tells whether a size is one at which tiles fill, or next to it.
func atTile(n int) bool {
	for _, full := range []int{256, 512, 256 * 255, 256 * 256, 256 * 257} {
		if n >= full-1 && n <= full+1 {
			return true
		}
	}
	return false
}

func checkInclusion(t testing.TB, l *log, i int) {
	t.Helper()
	n := len(l.leaves)
	hashes, err := tlog.ProveRecord(int64(n), int64(i), l.reader())
	if err != nil {
		t.Fatal(err)
	}
	p := &checkpoint.Proof{Index: uint64(i), Hashes: hashes}
	if err := p.Verify(l.checkpoint(n), l.leaves[i]); err != nil {
		t.Fatal(err)
	}
	if err := proof.VerifyInclusion(rfc6962.DefaultHasher, uint64(i), uint64(n), l.leaves[i][:], byteSlices(hashes), l.roots[n][:]); err != nil {
		t.Fatalf("merkle refuses the proof of %d in %d: %v", i, n, err)
	}
	theirs, err := l.oracle.InclusionProof(uint64(i), uint64(n))
	if err != nil || fmt.Sprint(theirs) != fmt.Sprint(byteSlices(hashes)) {
		t.Fatalf("merkle has another proof of %d in %d (%v)", i, n, err)
	}
}

func checkConsistency(t testing.TB, l *log, old int) {
	t.Helper()
	n := len(l.leaves)
	hashes, err := tlog.ProveTree(int64(n), int64(old), l.reader())
	if err != nil {
		t.Fatal(err)
	}
	if err := checkpoint.CheckConsistency(l.checkpoint(old), l.checkpoint(n), hashes); err != nil {
		t.Fatal(err)
	}
	if err := proof.VerifyConsistency(rfc6962.DefaultHasher, uint64(old), uint64(n), byteSlices(hashes), l.roots[old][:], l.roots[n][:]); err != nil {
		t.Fatalf("merkle refuses the proof from %d to %d: %v", old, n, err)
	}
	theirs, err := l.oracle.ConsistencyProof(uint64(old), uint64(n))
	if err != nil || fmt.Sprint(theirs) != fmt.Sprint(byteSlices(hashes)) {
		t.Fatalf("merkle has another proof from %d to %d (%v)", old, n, err)
	}
}

// Every proof of a tree of n leaves verifies, and with one changed bit, a hash
// less or more, another index or size it does not.
func TestProofProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 700).Draw(t, "n")
		l := newLog(n)
		i := rapid.IntRange(0, n-1).Draw(t, "i")
		hashes, err := tlog.ProveRecord(int64(n), int64(i), l.reader())
		if err != nil {
			t.Fatal(err)
		}
		p := &checkpoint.Proof{Index: uint64(i), Hashes: hashes}
		if err := p.Verify(l.checkpoint(n), l.leaves[i]); err != nil {
			t.Fatal(err)
		}
		bad := changed(t, hashes)
		if (&checkpoint.Proof{Index: uint64(i), Hashes: bad}).Verify(l.checkpoint(n), l.leaves[i]) == nil {
			t.Fatal("a changed inclusion proof verifies")
		}
		j := rapid.IntRange(0, n+1).Draw(t, "j")
		if j != i && (&checkpoint.Proof{Index: uint64(j), Hashes: hashes}).Verify(l.checkpoint(n), l.leaves[i]) == nil {
			t.Fatalf("the proof of index %d verifies at %d", i, j)
		}

		old := rapid.IntRange(1, n).Draw(t, "old")
		nodes, err := tlog.ProveTree(int64(n), int64(old), l.reader())
		if err != nil {
			t.Fatal(err)
		}
		if err := checkpoint.CheckConsistency(l.checkpoint(old), l.checkpoint(n), nodes); err != nil {
			t.Fatal(err)
		}
		if checkpoint.CheckConsistency(l.checkpoint(old), l.checkpoint(n), changed(t, nodes)) == nil {
			t.Fatal("a changed consistency proof verifies")
		}
		fork := l.checkpoint(n)
		fork.Root[rapid.IntRange(0, 31).Draw(t, "byte")] ^= 1
		if checkpoint.CheckConsistency(l.checkpoint(old), fork, nodes) == nil {
			t.Fatal("another root verifies")
		}
	})
}

// changed returns another proof: a bit changed, or a hash less or more.
func changed(t *rapid.T, hashes []tlog.Hash) []tlog.Hash {
	bad := append([]tlog.Hash(nil), hashes...)
	how := rapid.IntRange(0, 2).Draw(t, "how")
	if len(bad) == 0 || how == 0 {
		return append(bad, tlog.Hash{1})
	}
	k := rapid.IntRange(0, len(bad)-1).Draw(t, "hash")
	if how == 1 {
		return append(bad[:k], bad[k+1:]...)
	}
	bad[k][rapid.IntRange(0, 31).Draw(t, "byte")] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
	return bad
}

// A tree that is restored at any size goes on as the one that was never closed.
func TestRestoreTree(t *testing.T) {
	l := newLog(0)
	for n := 0; n <= 256*257+2; n++ {
		if n < 300 || atTile(n) {
			restored, err := checkpoint.RestoreTree(uint64(n), l.readTile, l.readLeaf)
			if err != nil {
				t.Fatal(err)
			}
			if restored.Root() != l.roots[n] || restored.Size() != uint64(n) {
				t.Fatalf("the tree restored at size %d has another root", n)
			}
			goOn(t, l, restored)
		}
		l.add()
	}
	fail := errors.New("disk")
	if _, err := checkpoint.RestoreTree(257, func(tlog.Tile) ([]byte, error) { return nil, fail }, l.readLeaf); !errors.Is(err, fail) {
		t.Errorf("a tile that cannot be read: %v", err)
	}
	if _, err := checkpoint.RestoreTree(257, func(tlog.Tile) ([]byte, error) { return []byte("short"), nil }, l.readLeaf); err == nil {
		t.Error("a tile that is too short was read")
	}
	if _, err := checkpoint.RestoreTree(1, nil, func(uint64) (tlog.Hash, error) { return tlog.Hash{}, fail }); !errors.Is(err, fail) {
		t.Errorf("a leaf that cannot be read: %v", err)
	}
	_, err := checkpoint.RestoreTree(checkpoint.MaxSize+1, nil, nil)
	wantCode(t, err, "checkpoint.size")
}

// goOn compares a restored tree with the log's own over the next 3 leaves.
func goOn(t *testing.T, l *log, restored *checkpoint.Tree) {
	t.Helper()
	own := l.tree.Clone()
	for k := range 3 {
		leaf := tlog.Hash{byte(k)}
		if fmt.Sprint(own.Add(leaf)) != fmt.Sprint(restored.Add(leaf)) || own.Root() != restored.Root() {
			t.Fatalf("the tree restored at size %d goes on differently", l.tree.Size())
		}
	}
	if l.tree.Root() != l.roots[l.tree.Size()] {
		t.Fatal("a clone changed its original")
	}
}

// The tiles that Add and Partial give are those that tlog computes.
func TestTilesAgree(t *testing.T) {
	l := newLog(256*256 + 300)
	var stored []tlog.Hash
	r := tlog.HashReaderFunc(func(indexes []int64) (out []tlog.Hash, err error) {
		for _, x := range indexes {
			out = append(out, stored[x])
		}
		return out, nil
	})
	for i, leaf := range l.leaves {
		hashes, err := tlog.StoredHashesForRecordHash(int64(i), leaf, r)
		if err != nil {
			t.Fatal(err)
		}
		stored = append(stored, hashes...)
	}
	n := 0
	for _, tile := range tlog.NewTiles(checkpoint.TileHeight, 0, int64(len(l.leaves))) {
		want, err := tlog.ReadTileData(tile, r)
		if err != nil {
			t.Fatal(err)
		}
		got, err := l.readTile(tile)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("tile %s is another (%v)", checkpoint.TilePath(tile), err)
		}
		if tile.W == checkpoint.TileWidth {
			n++
		}
	}
	if n != len(l.tiles) {
		t.Errorf("Add gave %d full tiles, there are %d", len(l.tiles), n)
	}
	// The reader that authenticates each tile accepts them too.
	head := tlog.Tree{N: int64(len(l.leaves)), Hash: l.tree.Root()}
	checked := tlog.TileHashReader(head, tileReader{l})
	if _, err := checked.ReadHashes([]int64{0, 1000, tlog.StoredHashIndex(0, 256*256)}); err != nil {
		t.Error(err)
	}
}

type tileReader struct{ l *log }

func (r tileReader) Height() int                     { return checkpoint.TileHeight }
func (r tileReader) SaveTiles([]tlog.Tile, [][]byte) {}
func (r tileReader) ReadTiles(tiles []tlog.Tile) (data [][]byte, err error) {
	for _, t := range tiles {
		b, err := r.l.readTile(t)
		if err != nil {
			return nil, err
		}
		data = append(data, b)
	}
	return data, nil
}

func TestHashReaderRefuses(t *testing.T) {
	l := newLog(5)
	for _, x := range []int64{-1, tlog.StoredHashCount(5), 1 << 40} {
		if _, err := l.reader().ReadHashes([]int64{x}); err == nil {
			t.Errorf("hash %d was read", x)
		}
	}
	fail := errors.New("disk")
	r := checkpoint.NewHashReader(func(tlog.Tile) ([]byte, error) { return nil, fail }, 5)
	if _, err := r.ReadHashes([]int64{0}); !errors.Is(err, fail) {
		t.Errorf("a tile that cannot be read: %v", err)
	}
	r = checkpoint.NewHashReader(func(tlog.Tile) ([]byte, error) { return []byte("short"), nil }, 5)
	if _, err := r.ReadHashes([]int64{0}); err == nil {
		t.Error("a tile that is too short was read")
	}
	if got := l.tree.Partial(-1); got != nil {
		t.Errorf("Partial(-1) = %x", got)
	}
}

// Paths agree with filippo.io/torchwood.
func TestTilePathAgrees(t *testing.T) {
	for path, tile := range map[string]tlog.Tile{
		"tile/0/000":                       {H: 8, L: 0, N: 0, W: 256},
		"tile/1/x001/x234/067":             {H: 8, L: 1, N: 1234067, W: 256},
		"tile/entries/x001/x234/067.p/255": {H: 8, L: -1, N: 1234067, W: 255},
		"tile/6/000.p/32":                  {H: 8, L: 6, N: 0, W: 32},
	} {
		if got := checkpoint.TilePath(tile); got != path {
			t.Errorf("TilePath(%v) = %s, want %s", tile, got, path)
		}
		if got, err := checkpoint.ParseTilePath(path); got != tile || err != nil {
			t.Errorf("ParseTilePath(%s) = %v, %v", path, got, err)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		l := rapid.IntRange(-1, 6).Draw(t, "level")
		tile := tlog.Tile{H: 8, L: l, W: rapid.IntRange(1, 256).Draw(t, "width"),
			N: rapid.Int64Range(0, checkpoint.MaxSize>>(8*(max(l, 0)+1))).Draw(t, "number")}
		path := checkpoint.TilePath(tile)
		theirs, err := torchwood.ParseTilePath(path)
		if err != nil || theirs != tile || path != torchwood.TilePath(tile) {
			t.Fatalf("torchwood reads %s as %v (%v)", path, theirs, err)
		}
		if got, err := checkpoint.ParseTilePath(path); err != nil || got != tile {
			t.Fatalf("ParseTilePath(%s) = %v, %v", path, got, err)
		}
	})
}
