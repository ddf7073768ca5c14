package verify_test

import (
	"bytes"
	"cmp"
	"context"
	"encoding/hex"
	"encoding/json/jsontext"
	"encoding/json/v2"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"testing/iotest"

	"evidence-ledger/verify"
	"evidence-ledger/verify/checkpoint"
	"evidence-ledger/verify/entry"
	"evidence-ledger/verify/event"
	"evidence-ledger/verify/syntax"
)

// logCase is a log as somebody keeps it. In a vector it stands on a base,
// whose members hold where it has none.
type logCase struct {
	Base        string          `json:"base,omitzero"`
	Identity    *string         `json:"identity,omitzero"`
	Now         string          `json:"now,omitzero"`
	Entries     []item          `json:"entries,omitzero"`
	Checkpoints []row           `json:"checkpoints,omitzero"`
	Tiles       map[string]item `json:"tiles,omitzero"`
	Artifacts   map[string]item `json:"artifacts,omitzero"`
	Known       []known         `json:"known,omitzero"`
}

// item is something kept: its bytes; N, entry N of the base; {"absent":true};
// {"unreadable":"open"} or {"unreadable":"read"}.
type item struct {
	data       data
	base       *int
	absent     bool
	unreadable string
}

type itemState struct {
	Absent     bool   `json:"absent,omitzero"`
	Unreadable string `json:"unreadable,omitzero"`
}

func (i *item) UnmarshalJSON(raw []byte) error {
	switch jsontext.Value(raw).Kind() {
	case jsontext.KindNumber:
		return json.Unmarshal(raw, &i.base)
	case jsontext.KindBeginObject:
		var s itemState
		err := json.Unmarshal(raw, &s, json.RejectUnknownMembers(true))
		i.absent, i.unreadable = s.Absent, s.Unreadable
		return err
	}
	return i.data.UnmarshalJSON(raw)
}

func (i item) MarshalJSON() ([]byte, error) {
	switch {
	case i.base != nil:
		return json.Marshal(*i.base)
	case i.absent || i.unreadable != "":
		return json.Marshal(itemState{i.absent, i.unreadable})
	}
	return i.data.MarshalJSON()
}

// row is a checkpoint and the size under which it is listed.
type row struct {
	Size uint64 `json:"size"`
	Note data   `json:"note,omitzero"`
	// Unreadable: the list ends here with an error.
	Unreadable bool `json:"unreadable,omitzero"`
}

type known struct {
	Name string `json:"name"`
	Note data   `json:"note"`
}

// logProblem is a problem that a log must give.
type logProblem struct {
	Code  string `json:"code"`
	Index int64  `json:"index"` // -1: of no entry
	Where string `json:"where,omitzero"`
}

// on gives c with what it has not from its base.
func (c logCase) on(base *logCase) *logCase {
	if base == nil {
		return &c
	}
	if c.Identity == nil {
		c.Identity = base.Identity
	}
	c.Now = cmp.Or(c.Now, base.Now)
	if c.Entries == nil {
		c.Entries = base.Entries
	}
	c.Entries = slices.Clone(c.Entries)
	for i, e := range c.Entries {
		if e.base != nil {
			c.Entries[i] = base.Entries[*e.base]
		}
	}
	if c.Checkpoints == nil {
		c.Checkpoints = base.Checkpoints
	}
	c.Tiles, c.Artifacts = over(base.Tiles, c.Tiles), over(base.Artifacts, c.Artifacts)
	return &c
}

func over(base, changes map[string]item) map[string]item {
	out := map[string]item{}
	for _, m := range []map[string]item{base, changes} {
		for k, v := range m {
			out[k] = v
		}
	}
	return out
}

// memory is a log in memory.
type memory struct {
	log *logCase
	ids map[string]uint64
}

func newMemory(c *logCase) *memory {
	m := &memory{c, map[string]uint64{}}
	for i, it := range c.Entries {
		e, err := entry.Parse(it.data)
		if err != nil {
			continue
		}
		if ev, err := event.Parse(e.Envelope, event.Builtin()); err == nil {
			if _, found := m.ids[ev.ID]; !found {
				m.ids[ev.ID] = uint64(i)
			}
		}
	}
	return m
}

var errDisk = errors.New("the disk does not answer")

func (m *memory) Entries(from uint64, fn func(uint64, []byte) error) error {
	for i := from; i < uint64(len(m.log.Entries)); i++ {
		it := m.log.Entries[i]
		if it.absent {
			continue
		}
		if it.unreadable != "" {
			return errDisk
		}
		if err := fn(i, it.data); err != nil {
			return err
		}
	}
	return nil
}

func (m *memory) Entry(index uint64) ([]byte, error) {
	if index >= uint64(len(m.log.Entries)) {
		return nil, fs.ErrNotExist
	}
	return m.log.Entries[index].get()
}

func (i item) get() ([]byte, error) {
	switch {
	case i.absent:
		return nil, fs.ErrNotExist
	case i.unreadable != "":
		return nil, errDisk
	}
	return i.data, nil
}

func (m *memory) Checkpoints(fn func(uint64, []byte) error) error {
	for _, r := range m.log.Checkpoints {
		if r.Unreadable {
			return errDisk
		}
		if err := fn(r.Size, r.Note); err != nil {
			return err
		}
	}
	return nil
}

func (m *memory) Tile(level int, n uint64) ([]byte, error) {
	it, ok := m.log.Tiles[fmt.Sprintf("tile/%d/%03d", level, n)]
	if !ok {
		return nil, fs.ErrNotExist
	}
	return it.get()
}

func (m *memory) IndexOf(id string) (uint64, error) {
	if i, ok := m.ids[id]; ok {
		return i, nil
	}
	return 0, fs.ErrNotExist
}

func (m *memory) Artifact(sha [32]byte) (io.ReadCloser, error) {
	it, ok := m.log.Artifacts[hex.EncodeToString(sha[:])]
	if !ok {
		return nil, fs.ErrNotExist
	}
	if it.unreadable == "read" {
		return io.NopCloser(iotest.ErrReader(errDisk)), nil
	}
	b, err := it.get()
	if err != nil {
		return nil, err
	}
	return io.NopCloser(bytes.NewReader(b)), nil
}

// verify runs the verifier over c.
func (c *logCase) verify() (*verify.Report, error) {
	var o verify.Options
	if c.Identity != nil && *c.Identity != "" {
		id, err := checkpoint.ParseIdentity(*c.Identity)
		if err != nil {
			return nil, err
		}
		o.Identity = id
	}
	now, err := syntax.Time(c.Now)
	if err != nil {
		return nil, err
	}
	o.Now = now
	for _, k := range c.Known {
		o.Known = append(o.Known, verify.Known{Name: k.Name, Note: k.Note})
	}
	return verify.Log(context.Background(), newMemory(c), o)
}

func found(r *verify.Report) []logProblem {
	out := []logProblem{}
	for _, p := range r.Problems {
		out = append(out, logProblem{p.Code, p.Index, p.Where})
	}
	slices.SortFunc(out, compareProblems)
	return out
}

func compareProblems(a, b logProblem) int {
	return cmp.Or(cmp.Compare(a.Index, b.Index), cmp.Compare(a.Code, b.Code), cmp.Compare(a.Where, b.Where))
}

// runLog verifies the log of a vector and compares all that is found.
func runLog(bases map[string]*logCase, v *vector) error {
	c := read[logCase](v.In)
	r, err := c.on(bases[c.Base]).verify()
	if err != nil {
		return err
	}
	got, want := found(r), slices.Clone(v.Problems)
	slices.SortFunc(want, compareProblems)
	if !slices.Equal(got, want) {
		text := ""
		for _, p := range r.Problems {
			text += "\n\t" + p.Error()
		}
		return fmt.Errorf("got %v, expected %v%s", got, want, text)
	}
	if string(r.Verdict) != v.Verdict {
		return fmt.Errorf("the verdict is %s, expected %s", r.Verdict, v.Verdict)
	}
	if _, err := r.JSON(); err != nil {
		return fmt.Errorf("the report has no JSON form: %w", err)
	}
	return nil
}
