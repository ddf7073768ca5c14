package recheck_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"golang.org/x/mod/sumdb/note"

	"evidence-ledger/ledger"
	"evidence-ledger/ledger/ledgertest"
	"evidence-ledger/ledger/sign"
	"evidence-ledger/ledger/store"
	"evidence-ledger/verify/checkpoint"
	"evidence-ledger/verify/entry"
	"evidence-ledger/verify/event"
	"evidence-ledger/verify/trust"
)

func candidates(made ...*ledgertest.Made) (out []*ledger.Candidate) {
	for _, m := range made {
		out = append(out, m.Candidate())
	}
	return out
}

// rows changes a store through Pebble's own API: every checksum is right.
type rows struct {
	t  *testing.T
	o  original
	db *pebble.DB
	// first is the entry of the first row of some tables.
	first map[byte]int64
}

func open(t *testing.T, o original) *rows {
	t.Helper()
	db, err := pebble.Open(filepath.Join(o.dir, "store"), &pebble.Options{
		FormatMajorVersion: pebble.FormatValueSeparation, ErrorIfNotExists: true, Logger: quiet{},
	})
	if err != nil {
		t.Fatal(err)
	}
	r := &rows{t: t, o: o, db: db, first: map[byte]int64{}}
	for _, table := range []store.Table{store.TableIDs, store.TableSeqs} {
		r.first[byte(table)] = int64(binary.BigEndian.Uint64(r.get(r.nth(table, 0))))
	}
	return r
}

type quiet struct{}

func (quiet) Infof(string, ...any)  {}
func (quiet) Errorf(string, ...any) {}
func (quiet) Fatalf(format string, args ...any) {
	panic(fmt.Sprintf(format, args...))
}

func (r *rows) check(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

func (r *rows) close() { r.check(r.db.Close()) }

func (r *rows) set(key, value []byte) { r.check(r.db.Set(key, value, pebble.Sync)) }
func (r *rows) delete(key []byte)     { r.get(key); r.check(r.db.Delete(key, pebble.Sync)) }
func (r *rows) get(key []byte) []byte {
	r.t.Helper()
	value, closer, err := r.db.Get(key)
	r.check(err)
	value = bytes.Clone(value)
	r.check(closer.Close())
	return value
}

func (r *rows) swap(a, b []byte) {
	x, y := r.get(a), r.get(b)
	if bytes.Equal(x, y) {
		r.t.Fatal("both rows are the same")
	}
	r.set(a, y)
	r.set(b, x)
}

// flip changes one bit of a row's value.
func (r *rows) flip(key []byte, at int) {
	value := r.get(key)
	value[at] ^= 1
	r.set(key, value)
}

// replace changes bytes of a row's value.
func (r *rows) replace(key []byte, old, new string) {
	r.t.Helper()
	value := r.get(key)
	if !bytes.Contains(value, []byte(old)) {
		r.t.Fatalf("no %q in %q", old, value)
	}
	r.set(key, bytes.Replace(value, []byte(old), []byte(new), 1))
}

// nth returns the key of row n of a table, from the end where n is negative.
func (r *rows) nth(table store.Table, n int) []byte {
	r.t.Helper()
	keys := r.keys(table)
	if n < 0 {
		n += len(keys)
	}
	if n < 0 || n >= len(keys) {
		r.t.Fatalf("table %s has %d rows", table, len(keys))
	}
	return keys[n]
}

func (r *rows) keys(table store.Table) (keys [][]byte) {
	iter, err := r.db.NewIter(&pebble.IterOptions{LowerBound: []byte{byte(table)}, UpperBound: []byte{byte(table) + 1}})
	r.check(err)
	for ok := iter.First(); ok; ok = iter.Next() {
		keys = append(keys, bytes.Clone(iter.Key()))
	}
	r.check(iter.Close())
	return keys
}

func key(table store.Table, n uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte{byte(table)}, n)
}

func tile(level byte, n uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte{byte(store.TableTiles), level}, n)
}

func index(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

func (r *rows) entry(i uint64) *entry.Entry {
	r.t.Helper()
	e, err := entry.Parse(r.get(key(store.TableEntries, i)))
	r.check(err)
	return e
}

// remake writes the entries from..size-1 anew with all their links, and what
// follows from them: all that needs no key. change may replace an entry's time
// and envelope.
func (r *rows) remake(from, to uint64, change func(i uint64, e *entry.Entry) (time.Time, []byte)) *checkpoint.Tree {
	chain, tree := entry.NewChain(), &checkpoint.Tree{}
	for i := range to {
		e := r.entry(i)
		if i >= from {
			at, envelope := change(i, e)
			var err error
			e, err = entry.New(chain.Next(e.Stream, at), envelope)
			r.check(err)
			r.set(key(store.TableEntries, i), e.Raw)
		}
		r.check(chain.Add(e))
		for _, full := range tree.Add(e.Leaf()) {
			r.set(tile(byte(full.Tile.L), uint64(full.Tile.N)), full.Data)
		}
	}
	return tree
}

// backdate gives the entries from..to-1 another time.
func backdate(from, to uint64, at time.Time) func(uint64, *entry.Entry) (time.Time, []byte) {
	return func(i uint64, e *entry.Entry) (time.Time, []byte) {
		if i >= from && i < to {
			return at, e.Envelope
		}
		return e.Time, e.Envelope
	}
}

// resign signs every checkpoint from a size on anew, with the roots as they
// are now, and writes the second place over them.
func (r *rows) resign(from uint64, signer note.Signer) {
	tree, chain, next := &checkpoint.Tree{}, [32]byte{}, uint64(0)
	var newest []byte
	for _, k := range r.keys(store.TableCheckpoints) {
		at := binary.BigEndian.Uint64(k[1:])
		for ; next < at; next++ {
			tree.Add(r.entry(next).Leaf())
		}
		newest = r.get(k)[32:]
		if at >= from {
			var err error
			newest, err = checkpoint.Sign(checkpoint.Checkpoint{Origin: ledgertest.Origin, Size: at, Root: tree.Root()}, signer)
			r.check(err)
		}
		chain = store.NextChain(chain, newest)
		r.set(k, append(bytes.Clone(chain[:]), newest...))
	}
	r.check(store.NewSecondPlace(nil, store.SecondPlaceFolder(nil, r.o.dir)).Write(chain, newest))
}

func signer(t *testing.T, k *sign.Key) note.Signer {
	t.Helper()
	private, err := k.Ed25519()
	if err != nil {
		t.Fatal(err)
	}
	s, err := checkpoint.NewSigner(ledgertest.Origin, private)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// cut takes out everything from entry n on, as a restored backup would be.
func (r *rows) cut(n uint64) {
	for _, k := range r.keys(store.TableEntries) {
		if binary.BigEndian.Uint64(k[1:]) >= n {
			r.delete(k)
		}
	}
	for _, table := range []store.Table{store.TableIDs, store.TableStreams, store.TableSeqs} {
		for _, k := range r.keys(table) {
			if binary.BigEndian.Uint64(r.get(k)) >= n {
				r.delete(k)
			}
		}
	}
	for _, k := range r.keys(store.TableTiles) {
		if binary.BigEndian.Uint64(k[2:]) >= n/256 {
			r.delete(k)
		}
	}
	for _, k := range r.keys(store.TableCheckpoints) {
		if binary.BigEndian.Uint64(k[1:]) > n {
			r.delete(k)
		}
	}
}

// an is the envelope of an entry, changed and signed by nobody.
func unsigned(r *rows, e *entry.Entry, old, new string) []byte {
	env, err := event.ParseEnvelope(e.Envelope)
	r.check(err)
	if !bytes.Contains(env.Payload, []byte(old)) {
		r.t.Fatalf("no %q in %s", old, env.Payload)
	}
	return event.Wrap(bytes.Replace(env.Payload, []byte(old), []byte(new), 1), env.Signatures)
}

// TestTamperEveryTable changes each table in each way, with valid checksums.
func TestTamperEveryTable(t *testing.T) {
	entries, ids, streams, seqs, checkpoints := store.TableEntries, store.TableIDs, store.TableStreams, store.TableSeqs, store.TableCheckpoints
	aStream := binary.BigEndian.AppendUint64(append([]byte{byte(streams)}, ledgertest.Type+"\x00"...), 40) // entry 43
	aStreamToo := binary.BigEndian.AppendUint64(append([]byte{byte(streams)}, ledgertest.Type+"\x00"...), 41)
	tests := map[string]struct {
		change func(r *rows)
		code   string
		index  int64 // -1: none, -2: that of the table's first row
		where  string
	}{
		"entries: a byte of the header": {func(r *rows) { r.replace(key(entries, 100), "stream patch", "stream batch") }, "entry.changed", 100, ""},
		"entries: a byte of the time":   {func(r *rows) { r.replace(key(entries, 100), "time 2026-", "time 2025-") }, "entry.changed", 100, ""},
		"entries: a byte of the payload": {func(r *rows) {
			v := r.get(key(entries, 100))
			r.flip(key(entries, 100), bytes.Index(v, []byte(`"payload":"`))+200)
		}, "entry.changed", 100, ""},
		"entries: a byte of the signature": {func(r *rows) {
			v := r.get(key(entries, 100))
			r.flip(key(entries, 100), bytes.LastIndex(v, []byte(`"sig":"`))+20)
		}, "entry.changed", 100, ""},
		"entries: white space":   {func(r *rows) { r.replace(key(entries, 100), `","payload"`, `", "payload"`) }, "entry.changed", 100, ""},
		"entries: an empty one":  {func(r *rows) { r.set(key(entries, 100), nil) }, "entry.changed", 100, ""},
		"entries: of another":    {func(r *rows) { r.set(key(entries, 100), r.get(key(entries, 99))) }, "entry.index", 100, "index"},
		"entries: two swapped":   {func(r *rows) { r.swap(key(entries, 100), key(entries, 101)) }, "entry.index", 100, "index"},
		"entries: two far apart": {func(r *rows) { r.swap(key(entries, 100), key(entries, 400)) }, "entry.index", 400, "index"},
		"entries: the last gone": {func(r *rows) { r.delete(key(entries, counts)) }, "log.truncated", -1, fmt.Sprint("checkpoint ", size)},
		"entries: the last changed": {func(r *rows) {
			r.replace(key(entries, counts), "time 2026-", "time 2027-")
		}, "log.root", counts, fmt.Sprint("checkpoint ", size)},
		"entries: one gone":       {func(r *rows) { r.delete(key(entries, 100)) }, "log.missing", 100, ""},
		"entries: many gone":      {func(r *rows) { r.check(r.db.DeleteRange(key(entries, 100), key(entries, 300), pebble.Sync)) }, "log.missing", 100, ""},
		"entries: the first gone": {func(r *rows) { r.delete(key(entries, 0)) }, "log.missing", 0, ""},
		"entries: one more at the end": {func(r *rows) { // well linked, under no checkpoint
			last := r.entry(counts)
			chain := entry.Restore(size, last.Leaf(), last.Time, map[string]entry.Head{"ledger.rejections": {Count: 1, Last: last.Leaf()}})
			e, err := entry.New(chain.Next("ledger.rejections", last.Time), last.Envelope)
			r.check(err)
			r.set(key(entries, size), e.Raw)
		}, "log.unsigned", size, ""},
		"entries: one far behind": {func(r *rows) { r.set(key(entries, 1<<60), r.get(key(entries, 100))) }, "store.row-foreign", -1, "65100"},
		"entries: one at the very end": {func(r *rows) {
			r.set(key(entries, 1<<64-1), r.get(key(entries, 100)))
		}, "store.row-foreign", -1, "65ffff"},
		"entries: one behind a gap": {func(r *rows) { r.set(key(entries, 10_000_000), r.get(key(entries, 100))) }, "log.missing", size, ""},
		"a range key over a table":  {func(r *rows) { r.check(r.db.RangeKeySet([]byte("e"), []byte("f"), nil, []byte("hidden"), pebble.Sync)) }, "store.row-foreign", -1, "65"},
		"a range key behind all": {func(r *rows) {
			r.check(r.db.RangeKeySet([]byte("zz"), []byte("zzz"), nil, []byte("hidden"), pebble.Sync))
		}, "store.row-foreign", -1, "7a7a"},
		"meta: a byte more":            {func(r *rows) { r.set([]byte("mformat"), []byte{0, 0, 0, 1, 0}) }, "store.row-foreign", -1, "6d"},
		"quarantine: a record gone":    {func(r *rows) { r.delete(r.nth(store.TableQuarantine, 0)) }, "store.quarantine-count", -1, "quarantine"},
		"quarantine: a record changed": {func(r *rows) { k := r.nth(store.TableQuarantine, 0); r.set(k, append(r.get(k), 'x')) }, "store.quarantine-count", -1, "quarantine"},
		"rejections: no time":          {func(r *rows) { r.set([]byte("r"), []byte(`{"from":"x","collectors":{}}`)) }, "store.row-unreadable", -1, "rejections"},
		"rejections: broken JSON":      {func(r *rows) { r.set([]byte("r"), []byte(`{"nonsense":[1,2`)) }, "store.row-unreadable", -1, "rejections"},
		"entries: a key that is none":  {func(r *rows) { r.set([]byte("e"), []byte("x")) }, "store.row-foreign", -1, "65"},
		"entries: a key between two":   {func(r *rows) { r.set(append(key(entries, 100), 0), []byte("x")) }, "store.row-foreign", -1, "65"},
		"entries: a key behind all":    {func(r *rows) { r.set(append(key(entries, counts), 0), []byte("x")) }, "store.row-foreign", -1, "65"},
		"entries: back-dated and relinked": {func(r *rows) { // without the node's key
			earlier := r.entry(97).Time
			r.remake(98, size, backdate(98, 103, earlier))
		}, "log.root", 102, "checkpoint 103"},
		"entries: a payload changed and relinked": {func(r *rows) {
			r.remake(100, size, func(i uint64, e *entry.Entry) (time.Time, []byte) {
				if i == 100 {
					return e.Time, unsigned(r, e, `"pass"`, `"fail"`)
				}
				return e.Time, e.Envelope
			})
		}, "event.signature", 100, "signatures.0"},
		"entries: cut behind one, with all that follows from it": {func(r *rows) { r.cut(400) }, "log.rollback", -1, "second"},
		"entries: another genesis":                               {anotherGenesis, "identity.vkey", 0, ""},
		"entries: all signed by another node":                    {func(r *rows) { r.resign(1, signer(r.t, ledgertest.Key(r.t))) }, "checkpoint.unsigned", -1, "checkpoint 1"},

		"tiles: a bit":                      {func(r *rows) { r.flip(tile(0, 0), 4000) }, "tile.changed", -1, "tile/0/000"},
		"tiles: short":                      {func(r *rows) { r.set(tile(0, 0), r.get(tile(0, 0))[:8160]) }, "tile.changed", -1, "tile/0/000"},
		"tiles: one gone":                   {func(r *rows) { r.delete(tile(0, 1)) }, "tile.missing", -1, "tile/0/001"},
		"tiles: one more":                   {func(r *rows) { r.set(tile(0, 2), r.get(tile(0, 1))) }, "store.row-extra", -1, "tile level 0 number 2"},
		"tiles: one more at another level":  {func(r *rows) { r.set(tile(1, 0), r.get(tile(0, 1))) }, "store.row-extra", -1, "tile level 1 number 0"},
		"tiles: one more beyond all levels": {func(r *rows) { r.set(tile(200, 0), r.get(tile(0, 1))) }, "store.row-extra", -1, "tile level 200 number 0"},
		"tiles: two swapped":                {func(r *rows) { r.swap(tile(0, 0), tile(0, 1)) }, "tile.changed", -1, "tile/0/001"},
		"tiles: a key that is none":         {func(r *rows) { r.set([]byte("t\x00"), []byte("x")) }, "store.row-extra", -1, "tiles"},

		"ids: a value":            {func(r *rows) { r.set(r.nth(ids, 0), index(7)) }, "store.row-wrong", -2, "table ids"},
		"ids: beyond the log":     {func(r *rows) { r.set(r.nth(ids, 0), index(size+1)) }, "store.row-wrong", -2, "table ids"},
		"ids: short":              {func(r *rows) { r.set(r.nth(ids, 0), []byte{1}) }, "store.row-unreadable", -2, "table ids"},
		"ids: one gone":           {func(r *rows) { r.delete(r.nth(ids, 0)) }, "store.row-missing", -2, "table ids"},
		"ids: one more":           {func(r *rows) { r.set(otherID, index(50)) }, "store.row-extra", -1, "id 00000000-"},
		"ids: one for another":    {func(r *rows) { r.delete(r.nth(ids, 0)); r.set(otherID, index(50)) }, "store.row-extra", -1, "id 00000000-"},
		"ids: two swapped":        {func(r *rows) { r.swap(r.nth(ids, 0), r.nth(ids, 1)) }, "store.row-wrong", -2, "table ids"},
		"ids: a key that is none": {func(r *rows) { r.set([]byte("i"), index(50)) }, "store.row-extra", -1, "ids"},

		"streams: a value":  {func(r *rows) { r.set(aStream, index(7)) }, "store.row-wrong", 43, "number 40"},
		"streams: one gone": {func(r *rows) { r.delete(aStream) }, "store.row-missing", 43, "number 40"},
		"streams: one more": {func(r *rows) { r.set(append([]byte("sother.type\x00"), index(0)...), index(43)) }, "store.row-extra", -1, "stream other.type number 0"},
		"streams: one more at the end": {func(r *rows) {
			r.set(append([]byte("s"+ledgertest.Type+"\x00"), index(9999)...), index(43))
		}, "store.row-extra", -1, "number 9999"},
		"streams: two swapped":        {func(r *rows) { r.swap(aStream, aStreamToo) }, "store.row-wrong", 43, "number 40"},
		"streams: a key that is none": {func(r *rows) { r.set([]byte("sx"), index(43)) }, "store.row-extra", -1, "streams"},

		"seqs: a value":  {func(r *rows) { r.set(r.nth(seqs, 0), index(7)) }, "store.row-wrong", -2, "seq 1"},
		"seqs: one gone": {func(r *rows) { r.delete(r.nth(seqs, 0)) }, "store.row-missing", -2, "seq 1"},
		"seqs: one more": {func(r *rows) {
			k := bytes.Clone(r.nth(seqs, -1))
			k[len(k)-1]++
			r.set(k, index(43))
		}, "store.row-extra", -1, "table seqs"},
		"seqs: two swapped":        {func(r *rows) { r.swap(r.nth(seqs, 0), r.nth(seqs, 1)) }, "store.row-wrong", -2, "seq 1"},
		"seqs: a key that is none": {func(r *rows) { r.set([]byte("kx"), index(43)) }, "store.row-extra", -1, "seqs"},

		"checkpoints: a byte of the signature": {func(r *rows) {
			k := key(checkpoints, 103)
			v := r.get(k)
			r.set(k, other(v, len(v)-20))
		}, "checkpoint.signature", -1, "checkpoint 103"},
		"checkpoints: the root": {func(r *rows) {
			k := key(checkpoints, 103)
			r.set(k, append(r.get(k)[:32], resized(r.get(k)[32:], r.get(key(checkpoints, 108))[32:])...))
		}, "checkpoint.signature", -1, "checkpoint 103"},
		"checkpoints: the chain":          {func(r *rows) { r.flip(key(checkpoints, 103), 3) }, "store.checkpoint-chain", -1, "checkpoint 103"},
		"checkpoints: one gone":           {func(r *rows) { r.delete(key(checkpoints, 103)) }, "store.checkpoint-chain", -1, "checkpoint 108"},
		"checkpoints: the last gone":      {func(r *rows) { r.delete(key(checkpoints, size)) }, "log.unsigned", counts, ""},
		"checkpoints: the first gone":     {func(r *rows) { r.delete(key(checkpoints, 1)) }, "store.checkpoint-chain", -1, "checkpoint 2"},
		"checkpoints: all gone":           {func(r *rows) { r.check(r.db.DeleteRange([]byte("c"), []byte("d"), pebble.Sync)) }, "log.unsigned", 0, ""},
		"checkpoints: one more":           {func(r *rows) { r.set(key(checkpoints, size+1), r.get(key(checkpoints, size))) }, "log.truncated", -1, fmt.Sprint("checkpoint ", size+1)},
		"checkpoints: one of no entries":  {func(r *rows) { r.set(key(checkpoints, 0), r.get(key(checkpoints, 1))) }, "checkpoint.row", -1, "checkpoint 0"},
		"checkpoints: one far behind":     {func(r *rows) { r.set(key(checkpoints, 1<<64-1), r.get(key(checkpoints, size))) }, "log.truncated", -1, "checkpoint 18446744073709551615"},
		"checkpoints: two swapped":        {func(r *rows) { r.swap(key(checkpoints, 103), key(checkpoints, 108)) }, "checkpoint.row", -1, "checkpoint 103"},
		"checkpoints: short":              {func(r *rows) { r.set(key(checkpoints, 103), []byte("x")) }, "store.row-unreadable", -1, "checkpoint 103"},
		"checkpoints: a key that is none": {func(r *rows) { r.set([]byte("c"), []byte("x")) }, "store.row-unreadable", -1, "checkpoints"},

		"quarantine: not what it should be": {func(r *rows) { r.set(r.nth(store.TableQuarantine, 0), []byte("x")) }, "store.row-unreadable", -1, "quarantine"},
		"quarantine: a key that is none":    {func(r *rows) { r.set([]byte("qx"), []byte("x")) }, "store.row-unreadable", -1, "quarantine"},
		"quarantine-state: short":           {func(r *rows) { r.set([]byte("Qweb-1"), []byte("x")) }, "store.row-unreadable", -1, "quarantine-state"},
		"rejections: not what it should be": {func(r *rows) { r.set([]byte("r"), []byte("x")) }, "store.row-unreadable", -1, "rejections"},
		"rejections: one more":              {func(r *rows) { r.set([]byte("rx"), []byte("x")) }, "store.row-foreign", -1, "7278"},
		"meta: one more":                    {func(r *rows) { r.set([]byte("mx"), []byte("x")) }, "store.row-foreign", -1, "6d78"},
		"no table: a row":                   {func(r *rows) { r.set([]byte("zz"), []byte("x")) }, "store.row-foreign", -1, "7a7a"},
		"no table: before all":              {func(r *rows) { r.set([]byte{0}, []byte("x")) }, "store.row-foreign", -1, "00"},
	}
	for i, name := range slices.Sorted(maps.Keys(tests)) {
		if i%thin != 0 {
			continue
		}
		test := tests[name]
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := copied(t)
			r := open(t, o)
			test.change(r)
			if test.index == -2 {
				test.index = r.first[byte(store.TableIDs)]
				if strings.HasPrefix(name, "seqs") {
					test.index = r.first[byte(store.TableSeqs)]
				}
			}
			r.close()
			report, err := verifyDir(o.dir, o.identity)
			if err != nil {
				t.Fatal(err)
			}
			named(t, report, test.code, test.index, test.where)
		})
	}
}

var otherID = append([]byte("i"), make([]byte, 16)...)

// resized is note a with the root of note b.
func resized(a, b []byte) []byte {
	la, lb := bytes.Split(a, []byte("\n")), bytes.Split(b, []byte("\n"))
	la[2] = lb[2]
	return bytes.Join(la, []byte("\n"))
}

// anotherGenesis puts a ledger of the same name below the entries, by somebody
// with keys of his own, and links and signs everything anew.
func anotherGenesis(r *rows) {
	node, admin := ledgertest.Key(r.t), ledgertest.Key(r.t)
	envelope, err := ledger.Own(trust.TypeGenesis, ledgertest.Origin, "begins", trust.Genesis{
		Origin: ledgertest.Origin, Organisation: "Example",
		Node:   trust.Node{VKey: checkpoint.VKey(ledgertest.Origin, node.Public().Ed25519()), PublicKey: node.Public().String()},
		Admins: trust.Admins{Threshold: 1, Keys: []trust.Admin{{Name: "admin-1", PublicKey: admin.Public().String()}}},
	}, ledgertest.Begin, node, admin)
	r.check(err)
	r.remake(0, size, func(i uint64, e *entry.Entry) (time.Time, []byte) {
		if i == 0 {
			return e.Time, envelope
		}
		return e.Time, e.Envelope
	})
	r.resign(1, signer(r.t, node))
}
