package verify

import (
	"encoding/hex"
	"errors"
	"fmt"
	"iter"
	"sync/atomic"

	"golang.org/x/mod/sumdb/tlog"

	"evidence-ledger/verify/checkpoint"
	"evidence-ledger/verify/entry"
	"evidence-ledger/verify/event"
	"evidence-ledger/verify/problem"
	"evidence-ledger/verify/trust"
)

// logVerifier walks the log once, in order. Its memory does not grow with the
// log's size.
type logVerifier struct {
	src     Source
	o       Options
	report  *Report
	failure error // of the machine, which ends the run

	size        uint64 // entries seen, readable or not
	gap         bool   // the entry before could not be read
	lost        uint64 // entries of which nobody knows the stream
	chain       *entry.Chain
	seen        map[string]uint64 // entries of each stream
	state       *trust.State
	shared      *atomic.Pointer[trust.State]
	numbers     numbers
	roots       roots
	checkpoints *checkpointReader
	known       map[uint64][]knownRoot
	admins      map[string]string
}

// knownRoot is a root that the log must have had at some size. Of a note nobody
// has verified the signature yet: its key may come in only later in the log.
type knownRoot struct {
	name string
	root tlog.Hash
	note []byte // nil: the identity line's floor
}

func newLogVerifier(src Source, o Options) *logVerifier {
	return &logVerifier{
		src: src, o: o, report: &Report{},
		chain: entry.NewChain(), seen: map[string]uint64{}, shared: &atomic.Pointer[trust.State]{},
		numbers: numbers{}, roots: newRoots(),
		checkpoints: readCheckpoints(src), known: map[uint64][]knownRoot{}, admins: map[string]string{},
	}
}

// entry takes the next entry in.
func (v *logVerifier) entry(r *read) error {
	if r.index != v.size {
		v.missing(v.size, r.index)
	}
	for _, err := range r.problems {
		v.report.Add(problem.Of(err))
	}
	if r.unreadable != nil {
		v.add(r.index, problem.New("log.unreadable", "", "%v", r.unreadable))
	}
	v.link(r)
	v.size = r.index + 1
	if r.event == nil {
		return r.failure
	}
	v.judge(r)
	v.report.Artifacts += r.artifacts
	v.report.count(r.index, r.event, r.entry.Stream, r.entry.Time, v.signerName)
	if v.o.Visit != nil {
		v.o.Visit(Visited{Index: r.index, Leaf: r.entry.Leaf(), Event: r.event, Time: r.entry.Time, Stream: r.entry.Stream, Number: r.entry.Number}, v.report)
	}
	return errors.Join(r.failure, v.failure)
}

// missing names the entries from..to-1, which the source does not have though
// it has later ones.
func (v *logVerifier) missing(from, to uint64) {
	p := problem.New("log.missing", "", "%s missing: the log goes on with entry %d", spanIs("entry", "entries", from, to-1), to)
	v.add(from, p)
	for i := from; i < to; i++ {
		// Two that are missing lose the tree. From there on the rest needs no
		// walk, which a forged index could make endless.
		if i == from+2 {
			v.lost += to - 1 - i
			v.report.Unreadable += to - 1 - i
			i = to - 1
		}
		v.link(&read{index: i})
		v.size = i + 1
	}
}

func spanIs(one, many string, from, to uint64) string {
	if from == to {
		return fmt.Sprintf("%s %d is", one, from)
	}
	return fmt.Sprintf("%s %d to %d are", many, from, to)
}

// link puts the entry into chain and tree. A broken link says that one of two
// neighbours was changed; roots finds out which, as soon as a signed checkpoint
// covers both.
func (v *logVerifier) link(r *read) {
	if r.entry == nil {
		v.settle(nil)
		v.roots.hold(r.index, r.rawLeaf())
		v.gap = true
		v.lost++
		if r.raw == nil {
			v.report.Unreadable++
		}
		return
	}
	v.settle(&r.entry.Previous)
	leaf := r.entry.Leaf()
	v.roots.hold(r.index, &leaf)
	if err := v.follows(r); err != nil {
		p := problem.Of(problem.At(r.index, err))
		if !v.echoes(p, r.entry) && !v.roots.defers(p, r.entry) {
			v.report.Add(p)
		}
		v.chain.Skip(r.entry)
	}
	v.seen[r.entry.Stream]++
}

// echoes tells whether a stream's number is wrong only by what was named
// before: it is right by the entries that were there, but one of them had a
// wrong header or could not be read.
func (v *logVerifier) echoes(p *problem.Problem, e *entry.Entry) bool {
	seen := v.seen[e.Stream]
	return p.Code == "entry.stream-number" && seen <= e.Number && e.Number <= seen+v.lost
}

// follows checks the entry against the chain. Behind an entry that could not
// be read only the index is known.
func (v *logVerifier) follows(r *read) error {
	if !v.gap {
		if r.entry.Index == r.index && v.chain.Size() != r.index {
			// Right by its place: only the entry before had a wrong index.
			v.chain = entry.Restore(r.index, v.chain.Last(), v.chain.Time(), v.chain.Streams())
		}
		return v.chain.Add(r.entry)
	}
	v.gap = false
	if r.entry.Index != r.index {
		return problem.New("entry.index", "index", "the index is %d, expected %d", r.entry.Index, r.index)
	}
	v.chain.Skip(r.entry)
	return nil
}

// settle adds the entry that was held to the tree, now that it is known what
// the entry after it says of it (nil: nothing), and compares what is due.
func (v *logVerifier) settle(previous *[32]byte) {
	size, tiles := v.roots.settle(previous)
	if size == 0 {
		return
	}
	for _, t := range tiles {
		v.checkTile(t)
	}
	v.checkRoots(size)
}

func (v *logVerifier) checkTile(t checkpoint.FullTile) {
	if v.roots.lost() {
		return
	}
	path := checkpoint.TilePath(t.Tile)
	stored, err := v.src.Tile(t.Tile.L, uint64(t.Tile.N))
	v.report.Tiles++
	switch {
	case notFound(err):
		v.report.Add(problem.New("tile.missing", path, "the tile is not there"))
	case err != nil:
		v.report.Add(problem.New("tile.unreadable", path, "%v", err))
	case len(stored) != len(t.Data):
		v.report.Add(problem.New("tile.changed", path, "the tile has %d bytes, expected %d", len(stored), len(t.Data)))
	default:
		for i := 0; i < len(stored); i += tlog.HashSize {
			if is, want := stored[i:i+tlog.HashSize], t.Data[i:i+tlog.HashSize]; string(is) != string(want) {
				v.report.Add(problem.New("tile.changed", path, "hash %d of the tile is not that of the entries", i/tlog.HashSize).
					With("is", hex.EncodeToString(is)).With("expected", hex.EncodeToString(want)))
				break
			}
		}
	}
}

// judge checks authority, identity and the collector's own count.
func (v *logVerifier) judge(r *read) {
	ev := r.event
	if r.index == 0 || r.entry.Stream == "trust" { // whatever entry 0 is, it must be the genesis
		v.trust(r)
	} else if err := v.authority(r); err != nil {
		v.found(r.index, err)
	}
	if err := v.once(r.index, ev.ID); err != nil {
		v.found(r.index, err)
	}
	if ev.Own() {
		return
	}
	if err := v.numbers.add(r.index, r.entry.Time, ev); err != nil {
		v.found(r.index, err)
	}
}

// trust takes in an action. After a genesis that does not hold nobody can be
// judged: finish says so.
func (v *logVerifier) trust(r *read) {
	next, err := (*trust.State)(nil), error(nil)
	switch {
	case r.index == 0:
		if next, err = trust.Begin(r.event); err == nil {
			err = v.checkIdentity(r, next)
		}
	case v.state != nil:
		next, err = v.state.Next(r.index, r.event)
	}
	if err != nil {
		v.found(r.index, err)
	}
	if next == nil {
		return
	}
	v.state = next
	v.shared.Store(next)
	for keyID, name := range next.Names() { // those that left stay
		v.admins[keyID] = name
	}
	if r.index == 0 {
		v.begin()
	}
}

func (v *logVerifier) checkIdentity(r *read, s *trust.State) error {
	id := v.o.Identity
	if id == nil {
		return nil
	}
	if s.Origin() != id.Origin {
		return problem.New("identity.origin", "predicate.data.origin", "this is ledger %q, the identity line names %q", s.Origin(), id.Origin)
	}
	if got := s.Genesis().Node.VKey; got != id.VKey {
		return problem.New("identity.vkey", "predicate.data.node.vkey", "the node's key is not that of the identity line").With("is", got).With("expected", id.VKey)
	}
	if leaf := r.entry.Leaf(); leaf != tlog.Hash(id.Genesis) {
		return problem.New("identity.genesis", "", "entry 0 is not the genesis of the identity line: this is another ledger of the same name, or a changed one").
			With("is", hex.EncodeToString(leaf[:])).With("expected", hex.EncodeToString(id.Genesis[:]))
	}
	return nil
}

// begin reads what needs the genesis: its names, and the known checkpoints.
func (v *logVerifier) begin() {
	g := v.state.Genesis()
	v.report.Origin, v.report.Organisation = g.Origin, g.Organisation
	if id := v.o.Identity; id != nil && id.Floor != nil {
		v.known[id.Floor.Size] = append(v.known[id.Floor.Size], knownRoot{name: "the identity line", root: id.Floor.Root})
	}
	for _, k := range v.o.Known {
		unverified, err := checkpoint.ParseUnverified(k.Note)
		if err != nil {
			v.badNote(k.Name, err)
			continue
		}
		v.known[unverified.Size] = append(v.known[unverified.Size], knownRoot{k.Name, unverified.Root, k.Note})
	}
}

func (v *logVerifier) badNote(name string, err error) {
	p := *problem.Of(err)
	p.Code, p.Where, p.Text = "log.known-note", name, fmt.Sprintf("the note is not a checkpoint of this ledger: %s", p.Text)
	v.report.Add(&p)
}

// vouched verifies a known note by the node's key for its size.
func (v *logVerifier) vouched(k knownRoot) bool {
	if k.note == nil {
		return true
	}
	if _, err := v.open(k.note); err != nil {
		v.badNote(k.name, err)
		return false
	}
	return true
}

func (v *logVerifier) open(note []byte) (*checkpoint.Signed, error) {
	return Checkpoint(note, v.state)
}

func (v *logVerifier) authority(r *read) error {
	if v.state == nil {
		return nil // finish says so
	}
	if !r.signed {
		if err := v.state.CheckSignature(r.event); err != nil {
			return err
		}
	}
	return v.state.Authorize(r.event, r.entry.Time)
}

// once: an event id occurs once in a log. The source's index need not be
// right; a repeated id shows in the bytes of the earlier entry.
func (v *logVerifier) once(index uint64, id string) error {
	first, err := v.src.IndexOf(id)
	if err != nil || first >= index {
		return nil // a wrong index is found where the index is compared
	}
	raw, err := v.src.Entry(first)
	if err != nil {
		return nil // the entry is named as unreadable elsewhere
	}
	e, err := entry.Parse(raw)
	if err != nil {
		return nil
	}
	if earlier, err := event.Parse(e.Envelope, v.o.Schemas); err == nil && earlier.ID == id {
		return problem.New("event.id-repeated", "predicate.event.id", "event %s stands in the log already, as entry %d", id, first)
	}
	return nil
}

func (v *logVerifier) signerName(keyID string) string {
	if v.state == nil {
		return "unknown"
	}
	if name := v.admins[keyID]; name != "" {
		return name
	}
	for _, e := range v.state.Enrolments() {
		if e.Key.ID() == keyID {
			v.admins[keyID] = e.Name
			return e.Name
		}
	}
	return "unknown"
}

// checkRoots compares the root of the first size entries with every checkpoint
// of that size that is signed or known.
func (v *logVerifier) checkRoots(size uint64) {
	if v.state == nil {
		return
	}
	for _, k := range v.known[size] {
		if !v.vouched(k) {
			continue
		}
		if v.roots.unknown() {
			v.notChecked("the checkpoint of %d entries in %s: an entry before it cannot be read", size, k.name)
		} else if !v.roots.fits(k.root) {
			v.report.Add(problem.New("log.fork", k.name, "the log of %d entries has another root than this checkpoint: two histories were signed, or entries were changed", size).
				With("is", v.roots.root().String()).With("expected", k.root.String()).With("note", string(k.note)))
		}
	}
	delete(v.known, size)
	for {
		at, note, ok := v.checkpoints.peek()
		if !ok || at > size {
			return
		}
		v.checkpoints.take()
		v.checkRoot(size, at, note)
	}
}

func (v *logVerifier) checkRoot(size, at uint64, note []byte) {
	v.report.Checkpoints++
	where := fmt.Sprintf("checkpoint %d", at)
	signed, err := v.open(note)
	if err != nil {
		p := *problem.Of(err)
		p.Where = where
		v.report.Add(&p)
		return
	}
	if signed.Size != at {
		v.report.Add(problem.New("checkpoint.row", where, "the note listed under size %d is of size %d", at, signed.Size))
		return
	}
	verdict := v.roots.judge(signed.Root)
	for _, p := range verdict.problems {
		v.report.Add(p)
	}
	if verdict.fits {
		v.report.Checkpoint = string(note)
		v.roots.good(size)
		return
	}
	if v.roots.unknown() {
		if v.roots.wrong() {
			v.notChecked("the signed checkpoints from %d entries on: an entry before cannot be read", size)
		}
		return
	}
	if v.roots.wrong() {
		v.report.Add(v.roots.rootProblem(size, signed))
	}
}

// finish settles the last entry and compares what is left over.
func (v *logVerifier) finish() {
	v.settle(nil)
	for _, p := range v.roots.unsettled() {
		v.report.Add(p)
	}
	v.report.Size, v.report.Root = v.size, v.roots.root().String()
	if v.state == nil {
		v.notChecked("authority, checkpoints: the genesis does not hold")
	} else {
		v.heads()
	}
	v.numbers.close(v.o.Now, v.report)
	if err := v.checkpoints.failure; err != nil {
		v.report.Add(problem.New("log.checkpoints-unreadable", "", "the signed checkpoints cannot be read to their end: %v", err))
	}
}

func (v *logVerifier) notChecked(format string, args ...any) {
	v.report.NotChecked = append(v.report.NotChecked, fmt.Sprintf(format, args...))
}

// heads: the newest signed checkpoint covers the last entry, none goes beyond.
func (v *logVerifier) heads() {
	if at, note, ok := v.checkpoints.peek(); ok {
		v.report.Add(problem.New("log.truncated", fmt.Sprintf("checkpoint %d", at), "%s missing: a checkpoint of %d entries was signed, the log ends after %d", spanIs("entry", "entries", v.size, at-1), at, v.size).
			With("note", string(note)))
	} else if v.checkpoints.last < v.size {
		p := problem.New("log.unsigned", "", "%s under no signed checkpoint: the newest is of %d entries", spanIs("entry", "entries", v.checkpoints.last, v.size-1), v.checkpoints.last)
		v.add(v.checkpoints.last, p)
	}
	for size, roots := range v.known {
		for _, k := range roots {
			if size == 0 || !v.vouched(k) {
				continue
			}
			if size <= v.size { // passed over with entries that are missing
				v.notChecked("the checkpoint of %d entries in %s: an entry before it cannot be read", size, k.name)
				continue
			}
			v.report.Add(problem.New("log.rollback", k.name, "%s missing: it holds a signed checkpoint of %d entries, the log ends after %d", spanIs("entry", "entries", v.size, size-1), size, v.size).
				With("note", string(k.note)))
		}
	}
}

func (v *logVerifier) add(index uint64, p *problem.Problem) {
	p.Index = int64(index)
	v.report.Add(p)
}

// found reports a problem; any other error ends the run.
func (v *logVerifier) found(index uint64, err error) {
	p := problem.Of(err)
	if p == nil {
		v.failure = err
		return
	}
	if p.Index == problem.NoIndex {
		p = problem.Of(problem.At(index, err))
	}
	v.report.Add(p)
}

// checkpointReader pulls the signed checkpoints one by one beside the entries.
type checkpointReader struct {
	next    func() (uint64, []byte, bool)
	stop    func()
	size    uint64
	note    []byte
	ok      bool
	last    uint64 // the largest size taken
	failure error
}

func readCheckpoints(src Source) *checkpointReader {
	r := &checkpointReader{}
	r.next, r.stop = iter.Pull2(func(yield func(uint64, []byte) bool) {
		err := src.Checkpoints(func(size uint64, note []byte) error {
			if !yield(size, append([]byte(nil), note...)) {
				return errStop
			}
			return nil
		})
		if err != nil && err != errStop {
			r.failure = err
		}
	})
	r.size, r.note, r.ok = r.next()
	return r
}

var errStop = fmt.Errorf("stop")

func (r *checkpointReader) peek() (size uint64, note []byte, ok bool) { return r.size, r.note, r.ok }

func (r *checkpointReader) take() {
	r.last = r.size
	r.size, r.note, r.ok = r.next()
}
