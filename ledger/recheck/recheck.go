// Package recheck verifies a data directory: the log with package verify, and
// every other table of the store against the log.
//
// It never believes the node. It reads the files itself, or, while a node runs,
// a hard-linked copy of Pebble's immutable files. Each row of an index table is
// one that the log demands: looked up for each entry, and counted, so that a
// row too many is found as well as one that is missing or wrong. The
// checkpoints carry a hash chain, whose end stands in the second place: so no
// signed checkpoint can be taken out.
//
// TestTamperEveryTable changes each table with valid checksums and sees each
// change named.
package recheck

import (
	"context"
	"encoding/json/v2"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"slices"

	"evidence-ledger/ledger/store"
	"evidence-ledger/verify"
	"evidence-ledger/verify/entry"
	"evidence-ledger/verify/event"
	"evidence-ledger/verify/problem"
	"evidence-ledger/verify/syntax"
)

// Dir is what is verified.
type Dir struct {
	Snapshot  *store.Snapshot
	Artifacts *store.Artifacts
	// Second is the content of the second place as it was read before the
	// snapshot was taken, and the error of reading it.
	Second    []byte
	Chain     [32]byte
	SecondErr error
	// Later is what it held after the snapshot was taken.
	Later []byte
	// SecondPath names it in the report.
	SecondPath string
}

// Read takes the second place first and the snapshot after it: the second
// place is never ahead of the store by itself.
func Read(second *store.SecondPlace, artifacts *store.Artifacts, open func() (*store.Snapshot, error)) (*Dir, error) {
	d := &Dir{Artifacts: artifacts, SecondPath: second.Path()}
	d.Chain, d.Second, d.SecondErr = second.Read()
	var err error
	if d.Snapshot, err = open(); err != nil {
		return d, err
	}
	if _, d.Later, err = second.Read(); err != nil {
		d.Later = nil // as when it was read before, or it goes away just now
	}
	return d, nil
}

// Verify checks all of the directory.
func (d *Dir) Verify(ctx context.Context, o verify.Options) (*verify.Report, error) {
	if d.SecondErr == nil {
		o.Known = append(o.Known, verify.Known{Name: "the second place " + d.SecondPath, Note: d.Second})
	}
	c := &comparer{d: d, named: map[[32]byte]bool{}, counts: map[store.Table]uint64{}}
	o.Visit = c.visit
	report, err := verify.Log(ctx, source{d}, o)
	if err != nil {
		return nil, err
	}
	c.finish(report)
	report.Decide(o.Identity != nil)
	return report, nil
}

// source shows a snapshot to package verify.
type source struct{ d *Dir }

func (s source) Entries(from uint64, fn func(uint64, []byte) error) error {
	return s.d.Snapshot.Entries(from, fn)
}

func (s source) Entry(index uint64) ([]byte, error) {
	raw, err := s.d.Snapshot.Entry(index)
	return raw, notExist(err)
}

// Checkpoints leaves out what cannot be read: chain names it.
func (s source) Checkpoints(fn func(uint64, []byte) error) error {
	err := s.d.Snapshot.Rows(store.TableCheckpoints, func(key, value []byte) error {
		row, err := store.DecodeCheckpoint(key, value)
		if err != nil {
			return nil
		}
		return fn(row.Size, row.Note)
	})
	if corrupt := (*store.CorruptError)(nil); errors.As(err, &corrupt) {
		return nil
	}
	return err
}

func (s source) Tile(level int, n uint64) ([]byte, error) {
	data, err := s.d.Snapshot.Tile(level, n)
	return data, notExist(err)
}

func (s source) IndexOf(id string) (uint64, error) {
	index, err := s.d.Snapshot.IndexOfID(id)
	return index, notExist(err)
}

func (s source) Artifact(sha [32]byte) (io.ReadCloser, error) {
	f, err := s.d.Artifacts.Open(sha)
	return f, notExist(err)
}

func notExist(err error) error {
	if errors.Is(err, store.ErrNotFound) {
		return fmt.Errorf("%w: %w", err, fs.ErrNotExist)
	}
	return err
}

// comparer holds the index tables against the log.
type comparer struct {
	named  map[[32]byte]bool // artifacts, see strays
	d      *Dir
	counts map[store.Table]uint64 // rows that the log demands and the store has
}

// visit looks each index row of one entry up.
func (c *comparer) visit(v verify.Visited, r *verify.Report) {
	for _, a := range v.Event.Subject {
		if len(c.named) < maxNamed {
			c.named[a.SHA256] = true
		}
	}
	s := c.d.Snapshot
	c.compare(r, v.Index, store.TableIDs, "id "+v.Event.ID, func() (uint64, error) { return s.IndexOfID(v.Event.ID) })
	c.compare(r, v.Index, store.TableStreams, fmt.Sprintf("stream %s number %d", v.Stream, v.Number), func() (uint64, error) { return s.IndexOfNumber(v.Stream, v.Number) })
	if !v.Event.Own() {
		keyID := v.Event.Envelope.Signatures[0].KeyID
		c.compare(r, v.Index, store.TableSeqs, fmt.Sprintf("key %s type %s seq %d", keyID, v.Event.Type, v.Event.Seq), func() (uint64, error) { return s.IndexOfSeq(keyID, v.Event.Type, v.Event.Seq) })
	}
}

func (c *comparer) compare(r *verify.Report, index uint64, table store.Table, row string, get func() (uint64, error)) {
	got, err := get()
	if !errors.Is(err, store.ErrNotFound) {
		c.counts[table]++
	}
	where := fmt.Sprintf("table %s: %s", table, row)
	var p *problem.Problem
	switch {
	case errors.Is(err, store.ErrNotFound):
		p = problem.New("store.row-missing", where, "the row is missing; it belongs to entry %d", index)
	case err != nil:
		p = problem.New("store.row-unreadable", where, "%v", err)
	case got != index:
		p = problem.New("store.row-wrong", where, "the row leads to entry %d, it belongs to entry %d", got, index)
	default:
		return
	}
	p.Index = int64(index)
	r.Add(p)
}

// finish counts the rows, follows the chain of the checkpoints, and looks for
// what lies in no table.
func (c *comparer) finish(r *verify.Report) {
	for _, table := range []store.Table{store.TableIDs, store.TableStreams, store.TableSeqs} {
		c.count(r, table)
	}
	c.tiles(r)
	c.chain(r)
	c.quarantine(r)
	c.strays(r)
	c.rejections(r)
	err := c.d.Snapshot.Foreign(func(key []byte) error {
		r.Add(problem.New("store.row-foreign", fmt.Sprintf("key %x", key), "no table of the format has such a row"))
		return nil
	})
	c.unreadable(r, "foreign rows", err)
}

// count names the rows that no entry demands.
func (c *comparer) count(r *verify.Report, table store.Table) {
	rows := uint64(0)
	err := c.d.Snapshot.Rows(table, func(_, _ []byte) error { rows++; return nil })
	c.unreadable(r, table.String(), err)
	if err != nil || rows == c.counts[table] {
		return
	}
	err = c.d.Snapshot.Rows(table, func(key, value []byte) error {
		if demanded, row := c.demanded(table, key, value); !demanded {
			r.Add(problem.New("store.row-extra", fmt.Sprintf("table %s: %s", table, row), "no entry of the log demands this row"))
		}
		return nil
	})
	c.unreadable(r, table.String(), err)
}

// demanded tells whether the entry to which a row leads has what the row says.
// Of an entry that cannot be read, which is named elsewhere, nobody knows.
func (c *comparer) demanded(table store.Table, key, value []byte) (bool, string) {
	switch table {
	case store.TableIDs:
		row, err := store.DecodeID(key, value)
		ev, _, _, unreadable := c.entry(row.Index)
		return unreadable || err == nil && ev != nil && ev.ID == row.ID, row.String()
	case store.TableStreams:
		row, err := store.DecodeStream(key, value)
		ev, stream, number, unreadable := c.entry(row.Index)
		return unreadable || err == nil && ev != nil && stream == row.Stream && number == row.Number, row.String()
	default:
		row, err := store.DecodeSeq(key, value)
		ev, _, _, unreadable := c.entry(row.Index)
		return unreadable || err == nil && ev != nil && !ev.Own() && ev.Type == row.Type && ev.Seq == row.Seq && ev.Envelope.Signatures[0].KeyID == row.KeyID, row.String()
	}
}

func (c *comparer) entry(index uint64) (ev *event.Event, stream string, number uint64, unreadable bool) {
	raw, err := c.d.Snapshot.Entry(index)
	if err != nil {
		return nil, "", 0, !errors.Is(err, store.ErrNotFound)
	}
	ev, stream, number = parse(raw)
	return ev, stream, number, false
}

// tiles: verify compared every full tile that the log has; here are those that
// it does not have.
func (c *comparer) tiles(r *verify.Report) {
	err := c.d.Snapshot.Rows(store.TableTiles, func(key, value []byte) error {
		row, err := store.DecodeTile(key, value)
		full := uint64(0)
		if err == nil && row.Level < 7 {
			full = r.Size >> (8 * (row.Level + 1))
		}
		if err != nil || row.Number >= full {
			r.Add(problem.New("store.row-extra", fmt.Sprintf("table %s: %s", store.TableTiles, row), "a log of %d entries has no such full tile", r.Size))
		}
		return nil
	})
	c.unreadable(r, store.TableTiles.String(), err)
}

// chain follows the hash over all signed checkpoints to the second place.
func (c *comparer) chain(r *verify.Report) {
	var chain, atSecond [32]byte
	second, broken := false, false
	behind := 0 // checkpoints since that of the second place; -1 before it
	if c.d.Later != nil {
		behind = -1
	}
	err := c.d.Snapshot.Rows(store.TableCheckpoints, func(key, value []byte) error {
		row, err := store.DecodeCheckpoint(key, value)
		if err != nil {
			c.unreadable(r, store.TableCheckpoints.String()+": "+store.RowName(key), err)
			return nil
		}
		chain = store.NextChain(chain, row.Note)
		if row.Chain != chain && !broken {
			broken = true
			r.Add(problem.New("store.checkpoint-chain", row.String(), "a signed checkpoint at or before this one was changed, taken out or put in: the chain over all of them does not fit").
				With("is", fmt.Sprintf("%x", row.Chain)).With("expected", fmt.Sprintf("%x", chain)))
		}
		if string(row.Note) == string(c.d.Second) {
			second, atSecond = true, chain
		}
		if behind >= 0 && c.d.Later != nil {
			behind++
		}
		if string(row.Note) == string(c.d.Later) {
			behind = 0
		}
		return nil
	})
	c.unreadable(r, store.TableCheckpoints.String(), err)
	where := c.d.SecondPath
	switch {
	case errors.Is(c.d.SecondErr, store.ErrNotFound):
		r.Add(problem.New("store.second-missing", where, "the second place of the newest checkpoint is gone"))
	case c.d.SecondErr != nil:
		r.Add(problem.New("store.second-unreadable", where, "%v", c.d.SecondErr))
	case !second:
		r.Add(problem.New("store.second-unknown", where, "the store does not have the checkpoint of the second place").With("note", string(c.d.Second)))
	case !broken && atSecond != c.d.Chain:
		r.Add(problem.New("store.second-chain", where, "the second place was written over other signed checkpoints than the store has").
			With("is", fmt.Sprintf("%x", c.d.Chain)).With("expected", fmt.Sprintf("%x", atSecond)))
	case behind == 1:
		r.Note("the second place %s is one checkpoint behind: the node ended between both, or is between them now", where)
	case behind > 1:
		r.Add(problem.New("store.second-behind", where, "the second place is %d checkpoints behind the store: it is written after each, so an older one was put there", behind).
			With("note", string(c.d.Later)))
	}
}

// quarantine lies outside the log's guarantees: what a record says is not
// judged. Only its form is looked at, and that none was taken out since.
func (c *comparer) quarantine(r *verify.Report) {
	kept, counted := map[string]store.QuarantineState{}, map[string]store.QuarantineState{}
	total := uint64(0)
	c.form(r, store.TableQuarantine, func(key, value []byte) error {
		total++
		q, err := store.DecodeQuarantined(key, value)
		k := kept[q.Collector]
		k.Records, k.Bytes = k.Records+1, k.Bytes+uint64(len(value))
		kept[q.Collector] = k
		return err
	})
	c.form(r, store.TableQuarantineState, func(key, value []byte) error {
		collector, state, err := store.DecodeQuarantineState(key, value)
		counted[collector] = store.QuarantineState{Records: state.Records, Bytes: state.Bytes}
		return err
	})
	for collector := range kept {
		if _, ok := counted[collector]; !ok {
			counted[collector] = store.QuarantineState{}
		}
	}
	for _, collector := range slices.Sorted(maps.Keys(counted)) {
		if is, want := kept[collector], counted[collector]; is != want {
			r.Add(problem.New("store.quarantine-count", "table quarantine: "+collector, "%d records with %d bytes are there, %d with %d were counted: some were taken out, put in or changed", is.Records, is.Bytes, want.Records, want.Bytes))
		}
	}
	if total > 0 {
		r.Note("%d refused submissions lie in quarantine, outside the log's guarantees: `ledger quarantine list`", total)
	}
}

// rejections are counts that the next ledger.rejections entry will hold.
func (c *comparer) rejections(r *verify.Report) {
	c.form(r, store.TableRejections, func(_, value []byte) error {
		if len(value) == 0 {
			return nil
		}
		var counts struct {
			From       string                       `json:"from"`
			Collectors map[string]map[string]uint64 `json:"collectors"`
		}
		if err := json.Unmarshal(value, &counts, json.RejectUnknownMembers(true)); err != nil {
			return err
		}
		_, err := syntax.Micros(counts.From)
		return err
	})
}

// maxNamed bounds the memory for artifacts that entries name.
const maxNamed = 1 << 20

// strays counts artifacts that no entry names: an append that was interrupted
// leaves them, and so does whoever cuts off the end of a log.
func (c *comparer) strays(r *verify.Report) {
	if r.Unreadable > 0 {
		r.NotChecked = append(r.NotChecked, "whether artifacts lie there that no entry names: not every entry can be read")
		return
	}
	if len(c.named) >= maxNamed {
		r.NotChecked = append(r.NotChecked, fmt.Sprintf("whether artifacts lie there that no entry names: there are over %d", maxNamed))
		return
	}
	strays, first := 0, ""
	if err := c.d.Artifacts.Walk(func(path string, sha [32]byte) error {
		if !c.named[sha] {
			if strays == 0 {
				first = path
			}
			strays++
		}
		return nil
	}); err != nil {
		r.NotChecked = append(r.NotChecked, fmt.Sprintf("whether artifacts lie there that no entry names: %v", err))
	}
	if strays > 0 {
		r.Note("artifacts that no entry names: %d, the first is %s: an append was interrupted, or entries were cut off", strays, first)
	}
}

// form names the rows of a table that are not of its form.
func (c *comparer) form(r *verify.Report, table store.Table, decode func(key, value []byte) error) {
	err := c.d.Snapshot.Rows(table, func(key, value []byte) error {
		if err := decode(key, value); err != nil {
			c.unreadable(r, table.String()+": "+store.RowName(key), err)
		}
		return nil
	})
	c.unreadable(r, table.String(), err)
}

func (c *comparer) unreadable(r *verify.Report, table string, err error) {
	if err != nil {
		r.Add(problem.New("store.row-unreadable", "table "+table, "%v", err))
	}
}

func parse(raw []byte) (*event.Event, string, uint64) {
	e, err := entry.Parse(raw)
	if err != nil {
		return nil, "", 0
	}
	ev, err := event.Parse(e.Envelope, event.Builtin())
	if err != nil {
		return nil, "", 0
	}
	return ev, e.Stream, e.Number
}
