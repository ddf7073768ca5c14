package checkpoint

import (
	"fmt"
	"math/bits"
	"slices"

	"golang.org/x/mod/sumdb/tlog"
)

// Tree grows a log's tree leaf by leaf. It keeps only the right edge (a few
// hashes, and the tiles that are not full yet), whatever the tree's size, and
// gives the root at every size and each full tile as it fills. The zero value is
// the empty tree. It is not safe for concurrent use.
type Tree struct {
	size uint64
	// edge[l] is the newest hash at level l that stands over 2^l leaves.
	edge [64]tlog.Hash
	// partial[L] has the hashes of the tile at tile level L that is not full.
	partial [maxLevel + 1][]byte
}

// FullTile is a tile of 256 hashes, which never changes again.
type FullTile struct {
	Tile tlog.Tile
	Data []byte // 256 x 32 bytes
}

// Size returns the number of leaves.
func (t *Tree) Size() uint64 { return t.size }

// Clone returns an independent copy.
func (t *Tree) Clone() *Tree {
	c := *t
	for l := range c.partial {
		c.partial[l] = slices.Clone(c.partial[l])
	}
	return &c
}

// Root returns the root of the tree as it is.
func (t *Tree) Root() tlog.Hash {
	root, err := tlog.TreeHash(int64(t.size), tlog.HashReaderFunc(t.readEdge))
	if err != nil {
		panic("checkpoint: " + err.Error()) // readEdge has no errors
	}
	return root
}

// Partial returns the hashes of the tile at a level that is not full, empty
// where there is none.
func (t *Tree) Partial(level int) []byte {
	if level < 0 || level >= len(t.partial) {
		return nil
	}
	return slices.Clone(t.partial[level])
}

// Add appends a leaf and returns the tiles that it has filled, lowest first.
func (t *Tree) Add(leaf tlog.Hash) (full []FullTile) {
	if t.size == MaxSize {
		panic("checkpoint: the tree has 2^53 leaves")
	}
	// The leaf, and the hash of each subtree that it completes.
	hashes, err := tlog.StoredHashesForRecordHash(int64(t.size), leaf, tlog.HashReaderFunc(t.readEdge))
	if err != nil {
		panic("checkpoint: " + err.Error())
	}
	for level, h := range hashes {
		t.edge[level] = h
		if level%TileHeight != 0 {
			continue
		}
		l := level / TileHeight
		t.partial[l] = append(t.partial[l], h[:]...)
		if len(t.partial[l]) == TileWidth*tlog.HashSize {
			n := int64(t.size >> (level + TileHeight))
			full = append(full, FullTile{tlog.Tile{H: TileHeight, L: l, N: n, W: TileWidth}, t.partial[l]})
			t.partial[l] = nil
		}
	}
	t.size++
	return full
}

// readEdge serves what tlog asks for while it adds a leaf or computes the
// root: only hashes on the right edge, of which there is one a level.
func (t *Tree) readEdge(indexes []int64) ([]tlog.Hash, error) {
	hashes := make([]tlog.Hash, len(indexes))
	for i, x := range indexes {
		level, _ := tlog.SplitStoredHashIndex(x)
		hashes[i] = t.edge[level]
	}
	return hashes, nil
}

// RestoreTree returns the tree of the given size. It reads full tiles, and the
// last leaves (fewer than 256), which are in no full tile. It does not know
// whether they are the right ones: compare the Root.
func RestoreTree(size uint64, readTile func(tlog.Tile) ([]byte, error), readLeaf func(index uint64) (tlog.Hash, error)) (*Tree, error) {
	if err := checkSize(size); err != nil {
		return nil, err
	}
	t := &Tree{size: size}
	for l := 0; size>>(TileHeight*l) > 0; l++ {
		n := size >> (TileHeight * l) // hashes at this tile level
		for i := n &^ (TileWidth - 1); i < n; i++ {
			h, err := restoreHash(l, i, readTile, readLeaf)
			if err != nil {
				return nil, err
			}
			t.partial[l] = append(t.partial[l], h[:]...)
		}
	}
	return t, t.restoreEdge()
}

// restoreHash returns hash i of a tile level: a leaf, or what stands over a
// full tile of the level below.
func restoreHash(l int, i uint64, readTile func(tlog.Tile) ([]byte, error), readLeaf func(uint64) (tlog.Hash, error)) (tlog.Hash, error) {
	if l == 0 {
		return readLeaf(i)
	}
	tile := tlog.Tile{H: TileHeight, L: l - 1, N: int64(i), W: TileWidth}
	data, err := readTile(tile)
	if err != nil {
		return tlog.Hash{}, err
	}
	// A tile holds all levels but the one above it, so its two halves are read.
	var half [2]tlog.Hash
	for k := range half {
		x := tlog.StoredHashIndex(TileHeight*l-1, int64(2*i)+int64(k))
		if half[k], err = tlog.HashFromTile(tile, data, x); err != nil {
			return tlog.Hash{}, err
		}
	}
	return tlog.NodeHash(half[0], half[1]), nil
}

// restoreEdge computes the edge from the partial tiles: one hash for each bit
// of the size that is set. The others are not read before they are written.
func (t *Tree) restoreEdge() error {
	for rest := t.size; rest != 0; rest &= rest - 1 {
		level := bits.TrailingZeros64(rest)
		l := level / TileHeight
		tile := tlog.Tile{H: TileHeight, L: l, N: int64(t.size >> (TileHeight * (l + 1))), W: len(t.partial[l]) / tlog.HashSize}
		h, err := tlog.HashFromTile(tile, t.partial[l], tlog.StoredHashIndex(level, int64(t.size>>level)-1))
		if err != nil {
			return err
		}
		t.edge[level] = h
	}
	return nil
}

// NewHashReader returns a reader of the hashes of a tree of the given size, for
// tlog.ProveRecord, tlog.ProveTree and tlog.TreeHash. It asks readTile for the
// widest tile that this tree has, full or partial, once for each call. It does
// not check the tiles against a root; a wrong tile gives a proof that fails.
func NewHashReader(readTile func(tlog.Tile) ([]byte, error), size uint64) tlog.HashReader {
	return tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		read := map[tlog.Tile][]byte{}
		hashes := make([]tlog.Hash, len(indexes))
		for i, x := range indexes {
			if size > MaxSize || x < 0 || x >= tlog.StoredHashCount(int64(size)) {
				return nil, fmt.Errorf("checkpoint: hash %d is not in a tree of size %d", x, size)
			}
			tile := tlog.TileForIndex(TileHeight, x)
			tile.W = int(min(size>>(TileHeight*tile.L)-uint64(tile.N)<<TileHeight, TileWidth))
			data, found := read[tile]
			if !found {
				var err error
				if data, err = readTile(tile); err != nil {
					return nil, err
				}
				read[tile] = data
			}
			var err error
			if hashes[i], err = tlog.HashFromTile(tile, data, x); err != nil {
				return nil, err
			}
		}
		return hashes, nil
	})
}
