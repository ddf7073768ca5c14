package store

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
)

// Table is one table: its value is the first byte of its keys. See the package
// comment for the bytes of each.
type Table byte

const (
	TableEntries         Table = 'e'
	TableTiles           Table = 't'
	TableIDs             Table = 'i'
	TableStreams         Table = 's'
	TableSeqs            Table = 'k'
	TableCheckpoints     Table = 'c'
	TableQuarantine      Table = 'q'
	TableQuarantineState Table = 'Q'
	TableRejections      Table = 'r'
	TableMeta            Table = 'm'
)

// Tables returns every table, in the order of their keys.
func Tables() []Table {
	return []Table{TableQuarantineState, TableCheckpoints, TableEntries, TableIDs, TableSeqs,
		TableMeta, TableQuarantine, TableRejections, TableStreams, TableTiles}
}

// String returns the table's name as in the package comment.
func (t Table) String() string {
	switch t {
	case TableEntries:
		return "entries"
	case TableTiles:
		return "tiles"
	case TableIDs:
		return "ids"
	case TableStreams:
		return "streams"
	case TableSeqs:
		return "seqs"
	case TableCheckpoints:
		return "checkpoints"
	case TableQuarantine:
		return "quarantine"
	case TableQuarantineState:
		return "quarantine-state"
	case TableRejections:
		return "rejections"
	case TableMeta:
		return "meta"
	}
	return fmt.Sprintf("table 0x%02x", byte(t))
}

// MaxEntries bounds an entry's index, as the formats bound a log's size.
const MaxEntries = 1 << 53

// TileSize is the size of a full tile: 256 hashes.
const TileSize = 256 * 32

// Rows of the tables, as Decode functions return them. String names a row as
// reports do.
type (
	EntryRow struct {
		Index uint64
		Raw   []byte
	}
	TileRow struct {
		Level  int
		Number uint64
		Data   []byte
	}
	IDRow struct {
		ID    string // as a UUID is written
		Index uint64
	}
	StreamRow struct {
		Stream        string
		Number, Index uint64
	}
	SeqRow struct {
		KeyID      string // hex
		Type       string
		Seq, Index uint64
	}
	CheckpointRow struct {
		Size  uint64
		Chain [32]byte
		Note  []byte
	}
)

func (r EntryRow) String() string  { return fmt.Sprintf("entry %d", r.Index) }
func (r TileRow) String() string   { return fmt.Sprintf("tile level %d number %d", r.Level, r.Number) }
func (r IDRow) String() string     { return "id " + r.ID }
func (r StreamRow) String() string { return fmt.Sprintf("stream %s number %d", r.Stream, r.Number) }
func (r SeqRow) String() string {
	return fmt.Sprintf("key %s type %s seq %d", r.KeyID, r.Type, r.Seq)
}
func (r CheckpointRow) String() string { return fmt.Sprintf("checkpoint %d", r.Size) }

// DecodeEntry reads a row of table entries. Raw shares memory with value.
func DecodeEntry(key, value []byte) (EntryRow, error) {
	if err := shape(TableEntries, key, 1+8); err != nil {
		return EntryRow{}, err
	}
	return EntryRow{binary.BigEndian.Uint64(key[1:]), value}, nil
}

// DecodeTile reads a row of table tiles. Data shares memory with value.
func DecodeTile(key, value []byte) (TileRow, error) {
	if err := shape(TableTiles, key, 1+1+8); err != nil {
		return TileRow{}, err
	}
	r := TileRow{int(key[1]), binary.BigEndian.Uint64(key[2:]), value}
	return r, length(r, value, TileSize)
}

// DecodeID reads a row of table ids.
func DecodeID(key, value []byte) (IDRow, error) {
	if err := shape(TableIDs, key, 1+16); err != nil {
		return IDRow{}, err
	}
	r := IDRow{ID: formatUUID(key[1:])}
	err := index(r, value, &r.Index)
	return r, err
}

// DecodeStream reads a row of table streams.
func DecodeStream(key, value []byte) (StreamRow, error) {
	name, number, err := named(TableStreams, key, 1)
	if err != nil {
		return StreamRow{}, err
	}
	r := StreamRow{Stream: name, Number: number}
	err = index(r, value, &r.Index)
	return r, err
}

// DecodeSeq reads a row of table seqs.
func DecodeSeq(key, value []byte) (SeqRow, error) {
	typ, seq, err := named(TableSeqs, key, 1+32)
	if err != nil {
		return SeqRow{}, err
	}
	r := SeqRow{KeyID: hex.EncodeToString(key[1:33]), Type: typ, Seq: seq}
	err = index(r, value, &r.Index)
	return r, err
}

// DecodeCheckpoint reads a row of table checkpoints. Note shares memory with value.
func DecodeCheckpoint(key, value []byte) (CheckpointRow, error) {
	if err := shape(TableCheckpoints, key, 1+8); err != nil {
		return CheckpointRow{}, err
	}
	r := CheckpointRow{Size: binary.BigEndian.Uint64(key[1:])}
	if len(value) < 32 {
		return r, fmt.Errorf("%s has a value of %d bytes, expected 32 and a note", r, len(value))
	}
	r.Chain, r.Note = [32]byte(value), value[32:]
	return r, nil
}

// RowName names a row by its key, also one that no Decode function takes.
func RowName(key []byte) string {
	if len(key) == 0 {
		return "row with an empty key"
	}
	var row fmt.Stringer
	var err error
	switch table := Table(key[0]); table {
	case TableEntries:
		row, err = DecodeEntry(key, nil)
	case TableTiles:
		row, err = DecodeTile(key, make([]byte, TileSize))
	case TableIDs:
		row, err = DecodeID(key, make([]byte, 8))
	case TableStreams:
		row, err = DecodeStream(key, make([]byte, 8))
	case TableSeqs:
		row, err = DecodeSeq(key, make([]byte, 8))
	case TableCheckpoints:
		row, err = DecodeCheckpoint(key, make([]byte, 32))
	case TableQuarantine:
		row, err = quarantineRow(key)
	default:
		return fmt.Sprintf("%s row %q", table, key[1:])
	}
	if err != nil {
		return fmt.Sprintf("%s row %x", Table(key[0]), key[1:])
	}
	return row.String()
}

func entryKey(index uint64) []byte { return number([]byte{byte(TableEntries)}, index) }
func checkpointKey(size uint64) []byte {
	return number([]byte{byte(TableCheckpoints)}, size)
}
func tileKey(level int, n uint64) []byte { return number([]byte{byte(TableTiles), byte(level)}, n) }
func idKey(id [16]byte) []byte           { return append([]byte{byte(TableIDs)}, id[:]...) }
func streamKey(stream string, n uint64) []byte {
	return number(streamPrefix(stream), n)
}
func seqKey(keyID [32]byte, typ string, seq uint64) []byte {
	return number(append(append(seqPrefix(keyID), typ...), 0), seq)
}
func quarantineKey(collector string, n uint64) []byte {
	return number(quarantinePrefix(collector), n)
}
func streamPrefix(stream string) []byte {
	return append(append([]byte{byte(TableStreams)}, stream...), 0)
}
func seqPrefix(keyID [32]byte) []byte { return append([]byte{byte(TableSeqs)}, keyID[:]...) }
func quarantinePrefix(collector string) []byte {
	return append(append([]byte{byte(TableQuarantine)}, collector...), 0)
}
func quarantineStateKey(collector string) []byte {
	return append([]byte{byte(TableQuarantineState)}, collector...)
}
func rejectionsKey() []byte { return []byte{byte(TableRejections)} }
func metaFormatKey() []byte { return append([]byte{byte(TableMeta)}, "format"...) }

func number(b []byte, n uint64) []byte { return binary.BigEndian.AppendUint64(b, n) }

// after returns the first key behind all that begin with prefix.
func after(prefix []byte) []byte {
	end := bytes.Clone(prefix)
	for i := len(end) - 1; i >= 0; i-- {
		if end[i]++; end[i] != 0 {
			return end[:i+1]
		}
	}
	return nil
}

func shape(table Table, key []byte, size int) error {
	if len(key) != size || Table(key[0]) != table {
		return fmt.Errorf("%x is no key of table %s", key, table)
	}
	return nil
}

// named reads a key that ends in a name, a zero byte and a number.
func named(table Table, key []byte, skip int) (name string, n uint64, err error) {
	bad := fmt.Errorf("%x is no key of table %s", key, table)
	if len(key) < skip+1+1+8 || Table(key[0]) != table {
		return "", 0, bad
	}
	text, end := key[skip:len(key)-9], key[len(key)-9:]
	if end[0] != 0 || bytes.IndexByte(text, 0) >= 0 {
		return "", 0, bad
	}
	return string(text), binary.BigEndian.Uint64(end[1:]), nil
}

func length(row fmt.Stringer, value []byte, want int) error {
	if len(value) != want {
		return fmt.Errorf("%s has a value of %d bytes, expected %d", row, len(value), want)
	}
	return nil
}

func index(row fmt.Stringer, value []byte, to *uint64) error {
	if err := length(row, value, 8); err != nil {
		return err
	}
	*to = binary.BigEndian.Uint64(value)
	return nil
}

// parseUUID takes the one canonical form: lower case, with hyphens.
func parseUUID(s string) (id [16]byte, err error) {
	if len(s) == 36 {
		n, _ := hex.Decode(id[:], []byte(s[:8]+s[9:13]+s[14:18]+s[19:23]+s[24:]))
		if n == 16 && formatUUID(id[:]) == s {
			return id, nil
		}
	}
	return id, fmt.Errorf("%q is no UUID in lower case", s)
}

func formatUUID(b []byte) string {
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[0:4], b[4:6], b[6:8], b[8:10], b[10:16])
}

func parseKeyID(s string) (id [32]byte, err error) {
	if len(s) == 64 {
		n, _ := hex.Decode(id[:], []byte(s))
		if n == 32 && hex.EncodeToString(id[:]) == s {
			return id, nil
		}
	}
	return id, fmt.Errorf("%q is no key id: 64 hex digits in lower case", s)
}

// checkName holds that a name cannot run into the number behind it.
func checkName(what, s string) error {
	if s == "" {
		return errors.New(what + " is empty")
	}
	if len(s) > 200 || bytes.IndexByte([]byte(s), 0) >= 0 {
		return fmt.Errorf("%s %q is too long or has a zero byte", what, s)
	}
	return nil
}
