package checkpoint

import (
	"encoding/binary"
	"fmt"
	"math"
	"strings"

	"golang.org/x/mod/sumdb/tlog"

	"evidence-ledger/verify/problem"
)

const (
	// TileHeight is the height of all tiles, TileWidth the number of hashes
	// (or entries) of a full one.
	TileHeight = 8
	TileWidth  = 1 << TileHeight

	// maxLevel is the level of the highest tile of a tree of MaxSize leaves.
	maxLevel = 6
)

// TilePath returns the path of a tile of height 8, as in C2SP tlog-tiles:
//
//	tile/<L>/<N>[.p/<W>]         256 hashes, or W in a partial tile
//	tile/entries/<N>[.p/<W>]     the entries of tile/0/<N>, level -1 in t
//
// N stands in groups of three digits, all but the last with an x: 1234067 is
// x001/x234/067.
func TilePath(t tlog.Tile) string {
	if t.H != TileHeight {
		panic(fmt.Sprintf("checkpoint: a tile of height %d", t.H))
	}
	s := strings.TrimPrefix(t.Path(), "tile/8/")
	if t.L == -1 {
		s = "entries/" + strings.TrimPrefix(s, "data/")
	}
	return "tile/" + s
}

// ParseTilePath reads the path of a tile.
func ParseTilePath(path string) (tlog.Tile, error) {
	rest, _ := strings.CutPrefix(path, "tile/")
	if entries, found := strings.CutPrefix(rest, "entries/"); found {
		rest = "data/" + entries
	}
	// tlog knows other heights, calls the entries "data", and has no bounds.
	t, err := tlog.ParseTilePath("tile/8/" + rest)
	if err != nil || TilePath(t) != path {
		return tlog.Tile{}, problem.New("tile.path", "", "%.100q is not the path of a tile, such as tile/0/x001/067.p/5 or tile/entries/000", path)
	}
	if t.L > maxLevel || t.N > MaxSize>>(TileHeight*(max(t.L, 0)+1)) {
		return tlog.Tile{}, problem.New("tile.path", "", "%.100q lies beyond a tree of 2^53 leaves", path)
	}
	return t, nil
}

// EntryBundle joins entries to what stands at tile/entries/<N>: for each
// entry its length, 2 bytes big endian, and its bytes.
func EntryBundle(entries [][]byte) []byte {
	var b []byte
	for _, e := range entries {
		if len(e) > math.MaxUint16 {
			panic(fmt.Sprintf("checkpoint: an entry of %d bytes", len(e)))
		}
		b = binary.BigEndian.AppendUint16(b, uint16(len(e)))
		b = append(b, e...)
	}
	return b
}

// ParseEntryBundle splits a bundle of at most limit entries. They refer to b.
func ParseEntryBundle(b []byte, limit int) ([][]byte, error) {
	var entries [][]byte
	for len(b) > 0 {
		if len(entries) == limit {
			return nil, problem.New("tile.entries", "", "the entry bundle goes on after %d entries", limit)
		}
		if len(b) < 2 || len(b)-2 < int(binary.BigEndian.Uint16(b)) {
			return nil, problem.New("tile.entries", fmt.Sprintf("entry %d of the bundle", len(entries)), "the entry bundle ends within an entry")
		}
		end := 2 + int(binary.BigEndian.Uint16(b))
		entries = append(entries, b[2:end:end])
		b = b[end:]
	}
	return entries, nil
}
