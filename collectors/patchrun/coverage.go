package patchrun

import (
	"hash/fnv"
	"slices"
	"sort"
	"time"
)

// Which dpkg runs does apt's history cover? apt writes Start-Date before it
// starts dpkg and End-Date after, holding dpkg's lock between: a run strictly
// inside a stanza is the stanza's. But times are whole seconds, and in
// `apt-get install x && dpkg -i y.deb` the second run begins in the second in
// which the first one ends. So a run that touches the first or last second
// is covered only where the stanza lists every package that it changes.
//
// A stanza that was interrupted says nothing of its end. It covers runs of its
// own packages as long as they follow each other closely, as apt's do; a
// `dpkg --configure -a` by hand, later, is a run of its own.
//
// A run that is covered is marked as seen under its stanza's key (see
// collectors.Observation): dpkg's log may be kept longer than apt's.
//
// Where a part of the history cannot be read, the runs of that time wait: sent
// now, they would come a second time, as stanzas, once it can be read.

type verdict int

const (
	uncovered verdict = iota
	covered
	undecided // the stanza that may cover it is still going on
	unknown   // a part of the history that may cover it cannot be read
)

const (
	// beforeFirst is how long after the Start-Date of an interrupted stanza its
	// first dpkg run may begin (hooks run between, and may ask questions).
	beforeFirst = 10 * time.Minute
	// betweenRuns is how long after one dpkg run of it the next may begin.
	betweenRuns = 30 * time.Second
)

type span struct {
	key      string
	from, to time.Time
	names    []uint32 // sorted hashes of package names; nil and blind where it is not known
	blind    bool
	state    state
	reach    time.Time // interrupted: until when the next run of it may begin
}

// cover is all that the history covers, in order of from.
type cover struct {
	spans    []span
	furthest []time.Time // furthest[i] is the latest `to` of spans[:i+1]

	latest  time.Time // end of the last stanza read
	missing bool      // something after it could not be read
}

var never = time.Unix(1<<40, 0)

func (c *cover) add(run *Run, state state) {
	if state == lost {
		c.missing = true
		return
	}
	c.gap(run.Start)
	s := span{key: run.Key, from: run.Start, to: run.End, blind: run.Oversize > 0, state: state, reach: run.Start.Add(beforeFirst)}
	switch state {
	case open:
		s.to = never
	case interrupted:
		s.to = s.from.Add(stale)
	}
	for _, p := range run.Packages {
		s.names = append(s.names, hashName(p.Name))
	}
	slices.Sort(s.names)
	c.spans = append(c.spans, s)
	if c.latest = run.End; run.End.Before(run.Start) {
		c.latest = run.Start
	}
}

// gap closes what could not be read with the time at which the history goes on.
func (c *cover) gap(until time.Time) {
	if c.missing {
		c.spans = append(c.spans, span{from: c.latest, to: until, state: lost})
	}
	c.missing = false
}

func (c *cover) close() {
	c.gap(never)
	slices.SortStableFunc(c.spans, func(a, b span) int { return a.from.Compare(b.from) })
	var furthest time.Time
	for _, s := range c.spans {
		if s.to.After(furthest) {
			furthest = s.to
		}
		c.furthest = append(c.furthest, furthest)
	}
}

// of is asked in the log's order: runs of an interrupted stanza extend it. by is
// the key of the stanza that covers the run.
func (c *cover) of(run *Run) (v verdict, by string) {
	result := uncovered
	after := sort.Search(len(c.spans), func(i int) bool { return c.spans[i].from.After(run.End) })
	for i := after - 1; i >= 0 && !c.furthest[i].Before(run.Start); i-- {
		switch v := c.spans[i].of(run); v {
		case covered:
			return covered, c.spans[i].key
		case uncovered:
		default:
			result = max(result, v)
		}
	}
	return result, ""
}

func (s *span) of(run *Run) verdict {
	if run.Start.Before(s.from) && s.state != lost {
		return uncovered
	}
	switch s.state {
	case lost:
		if run.Start.After(s.to) {
			return uncovered
		}
		return unknown
	case open:
		return undecided
	case interrupted:
		if run.Start.After(s.reach) || !s.lists(run) {
			return uncovered
		}
		s.reach = run.End.Add(betweenRuns)
		return covered
	}
	if run.End.After(s.to) {
		return uncovered
	}
	if run.Start.After(s.from) && run.End.Before(s.to) || s.lists(run) {
		return covered
	}
	return uncovered
}

// lists tells whether the stanza has every package that the run changes.
// Triggers run for packages that it does not name.
func (s *span) lists(run *Run) bool {
	if s.blind {
		return true
	}
	for _, p := range run.Packages {
		if p.Action == "trigger" {
			continue
		}
		if _, found := slices.BinarySearch(s.names, hashName(p.Name)); !found {
			return false
		}
	}
	return true
}

func hashName(name string) uint32 {
	h := fnv.New32a()
	h.Write([]byte(name))
	return h.Sum32()
}
