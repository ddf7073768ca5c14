package verify

import (
	"encoding/hex"
	"fmt"

	"golang.org/x/mod/sumdb/tlog"

	"evidence-ledger/verify/checkpoint"
	"evidence-ledger/verify/entry"
	"evidence-ledger/verify/problem"
)

// roots computes the tree's root at each size and finds out which entry was
// changed.
//
// Entry i+1 names the leaf hash of entry i. Where that is not the hash of entry
// i as it is now, one of both was changed. So two trees are kept from there on:
// under the claimed reading entry i had the hash that its successor names,
// under the actual reading it always was what it is now. The next signed
// checkpoint fits one of them, and so names the entry that was changed. An
// entry that cannot be read at all is taken from its successor's claim.
type roots struct {
	claimed, actual *checkpoint.Tree
	forked          bool
	held            *held // the newest entry, until its successor is seen
	suspects        []*suspect
	named           map[tlog.Hash]bool // what entries that were changed had as hash
	lastGood        uint64             // the newest size at which a signed root fitted
	isWrong, isLost bool
}

type held struct {
	index uint64
	leaf  *tlog.Hash // nil: unreadable
}

// suspect is a link that does not hold: entry index, or its successor.
type suspect struct {
	index         uint64
	leaf, claimed tlog.Hash
	link          *problem.Problem   // at the successor
	followers     []*problem.Problem // links of the stream to the same entry
}

func newRoots() roots { return roots{claimed: &checkpoint.Tree{}, named: map[tlog.Hash]bool{}} }

func (r *roots) hold(index uint64, leaf *tlog.Hash) { r.held = &held{index, leaf} }

// settle adds the held entry. It returns the new size, 0 where none was held,
// and the tiles that are full now.
func (r *roots) settle(previous *[32]byte) (size uint64, tiles []checkpoint.FullTile) {
	h := r.held
	if h == nil {
		return 0, nil
	}
	r.held = nil
	claim := h.leaf
	if previous != nil {
		claim = (*tlog.Hash)(previous)
	}
	switch {
	case claim == nil: // unreadable, and nobody says what it was
		r.isLost = true
		claim = &tlog.Hash{}
	case h.leaf != nil && *h.leaf != *claim:
		r.fork()
		r.suspects = append(r.suspects, &suspect{index: h.index, leaf: *h.leaf, claimed: *claim})
	}
	tiles = r.claimed.Add(*claim)
	if r.forked {
		leaf := *claim
		if h.leaf != nil {
			leaf = *h.leaf
		}
		r.actual.Add(leaf)
	}
	return h.index + 1, tiles
}

func (r *roots) fork() {
	if !r.forked {
		r.forked, r.actual = true, r.claimed.Clone()
	}
}

// defers keeps a chain problem back while it may be only the echo of a changed
// entry before it: judge decides, or has decided.
func (r *roots) defers(p *problem.Problem, e *entry.Entry) bool {
	if p.Code == "entry.previous" && r.named[e.Previous] || p.Code == "entry.stream-previous" && r.named[e.StreamPrevious] {
		return true
	}
	for _, s := range r.suspects {
		switch {
		case p.Code == "entry.previous" && s.index+1 == e.Index && s.link == nil:
			s.link = p
			return true
		case p.Code == "entry.stream-previous" && tlog.Hash(e.StreamPrevious) == s.claimed:
			s.followers = append(s.followers, p)
			return true
		}
	}
	return false
}

type rootVerdict struct {
	fits     bool
	problems []*problem.Problem
}

// judge compares a signed root with both readings, and so decides the suspects.
func (r *roots) judge(signed tlog.Hash) (v rootVerdict) {
	switch {
	case r.isLost:
		return rootVerdict{}
	case signed == r.claimed.Root():
		v.fits = true
		for _, s := range r.suspects {
			v.problems = append(v.problems, s.changed())
			r.named[s.claimed] = true
		}
	case r.forked && signed == r.actual.Root():
		v.fits = true
		for _, s := range r.suspects {
			v.problems = append(v.problems, s.links()...)
		}
		r.claimed = r.actual.Clone()
	default:
		return rootVerdict{}
	}
	r.forked, r.suspects = false, nil
	return v
}

func (s *suspect) changed() *problem.Problem {
	p := problem.New("entry.changed", "", "the entry was changed: it is not what the entry after it and the signed checkpoint commit to").
		With("is", hex.EncodeToString(s.leaf[:])).With("expected", hex.EncodeToString(s.claimed[:]))
	p.Index = int64(s.index)
	return p
}

func (s *suspect) links() []*problem.Problem {
	if s.link == nil {
		return s.followers
	}
	return append([]*problem.Problem{s.link}, s.followers...)
}

// unsettled gives the broken links that no signed checkpoint decided.
func (r *roots) unsettled() (out []*problem.Problem) {
	for _, s := range r.suspects {
		out = append(out, s.links()...)
	}
	return out
}

func (r *roots) good(size uint64) { r.lastGood = size }

// wrong tells, once, that a signed root fits neither reading.
func (r *roots) wrong() bool {
	first := !r.isWrong
	r.isWrong = true
	return first
}

func (r *roots) lost() bool { return r.isLost || r.isWrong || r.forked }

// unknown tells that the root cannot be computed: an entry is gone, and nothing
// says what its hash was.
func (r *roots) unknown() bool { return r.isLost }

func (r *roots) root() tlog.Hash { return r.claimed.Root() }

// fits tells whether a root is that of the log under either reading.
func (r *roots) fits(root tlog.Hash) bool {
	return root == r.claimed.Root() || r.forked && root == r.actual.Root()
}

// rootProblem says where a signed root stopped to fit.
func (r *roots) rootProblem(size uint64, signed *checkpoint.Signed) *problem.Problem {
	p := problem.New("log.root", fmt.Sprintf("checkpoint %d", size), "the root of the first %d entries is not the signed one: entry %d was changed, or all from entry %d on were made anew", size, size-1, r.lastGood).
		With("is", r.claimed.Root().String()).With("expected", signed.Root.String()).With("note", string(signed.Note))
	p.Index = int64(size - 1)
	return p
}
