// Package patchrun collects patch.run.completed: what apt and dpkg installed,
// upgraded and removed on this server, from their own logs.
//
// One event is one stanza of apt's history.log, or one run in dpkg.log that no
// stanza covers (somebody called dpkg by hand, or apt was not there yet). The
// event's artifact is the stanza, or the run's lines, as they stand in the log,
// without what names a person (personal.go). History.log has one blank-line
// separated stanza a run:
//
//	Start-Date: 2019-07-11  12:25:24
//	Commandline: apt-get install -y docker-ce
//	Requested-By: alice (1005)
//	Install: docker-ce:amd64 (5:18.09.7), pigz:amd64 (2.3.4-1, automatic)
//	Error: Sub-process /usr/bin/dpkg returned an error code (1)
//	End-Date: 2019-07-11  12:26:07
//
// and dpkg.log one line a step:
//
//	2019-07-11 12:25:25 startup archives unpack
//	2019-07-11 12:25:25 install pigz:amd64 <none> 2.3.4-1
//	2019-07-11 12:25:26 status unpacked pigz:amd64 2.3.4-1
//
// Invariants:
//
//   - No run is lost: what cannot be read is named, by file and line, in the
//     error of every Collect; what may still be going on is left for the next
//     time; and a dpkg run counts as covered only where it surely is
//     (coverage.go).
//   - No run comes twice: its key is taken over its own bytes (without
//     Requested-By and without what apt adds at the end), so that neither
//     rotation nor compression nor a longer log changes it. The key is taken
//     before personal data are cut out; it stays on this machine. Equal records
//     of one second are counted, each file by itself. A dpkg run that a stanza
//     covers is marked as seen once the stanza is, and so does not turn into a
//     run of its own when the stanza's log is removed first (TestRemoval).
//   - Times in both logs are local, without a zone: they are read in the
//     configured one. In the hour that comes twice when summer time ends, the
//     first reading that does not run backwards is taken.
//   - Memory does not grow with the logs but for some 250 bytes a stanza and four
//     a package name (coverage.go), and a key for each record that is new; a
//     record is held up to 4 MiB.
package patchrun

import (
	"context"
	"encoding/json/v2"
	"errors"
	"fmt"
	"iter"
	"os"
	"strings"
	"time"

	"evidence-ledger/collectors"
)

// Type is the evidence type of every observation.
const Type = "patch.run.completed"

// stale is the age at which a last stanza without End-Date no longer counts as
// a run that is still going on.
const stale = 24 * time.Hour

// Config says what is read and how it is understood.
type Config struct {
	// History are the patterns of apt's history logs, rotated ones included;
	// /var/log/apt/history.log* where it is nil.
	History []string
	// Dpkg are the patterns of dpkg's logs; /var/log/dpkg.log* where it is nil.
	Dpkg []string
	// Zone is the zone of the times in the logs; the host's where it is nil.
	Zone *time.Location
	// Scope goes into every observation; {"host": <hostname>} where it is nil. It
	// is no part of the configuration's hash: a hundred servers that are set up
	// alike show one hash.
	Scope map[string]string
	// Now is the clock; time.Now where it is nil.
	Now func() time.Time
}

// Collector is a collectors.Collector.
type Collector struct{ config Config }

// New fills in the defaults.
func New(config Config) (*Collector, error) {
	if config.History == nil {
		config.History = []string{"/var/log/apt/history.log*"}
	}
	if config.Dpkg == nil {
		config.Dpkg = []string{"/var/log/dpkg.log*"}
	}
	if config.Zone == nil {
		config.Zone = time.Local
	}
	if config.Now == nil {
		config.Now = time.Now
	}
	if config.Scope == nil {
		host, err := os.Hostname()
		if err != nil {
			return nil, fmt.Errorf("patchrun: the name of this host: %w", err)
		}
		config.Scope = map[string]string{"host": host}
	}
	return &Collector{config}, nil
}

// Name is part of collectors.Collector.
func (c *Collector) Name() string { return "patchrun" }

// Version is part of collectors.Collector.
func (c *Collector) Version() string { return "1.1.0" }

// Types is part of collectors.Collector.
func (c *Collector) Types() []string { return []string{Type} }

// Config is part of collectors.Collector.
func (c *Collector) Config() []byte {
	b, err := json.Marshal(struct {
		History []string `json:"history"`
		Dpkg    []string `json:"dpkg"`
		Zone    string   `json:"zone"`
	}{c.config.History, c.config.Dpkg, c.config.Zone.String()}, json.Deterministic(true))
	if err != nil { // a pattern that is not UTF-8
		return fmt.Appendf(nil, "%q %q %q", c.config.History, c.config.Dpkg, c.config.Zone)
	}
	return b
}

// Collect is part of collectors.Collector. It reads apt's history twice: once to
// learn which times it covers, once, side by side with dpkg's logs, to emit.
func (c *Collector) Collect(ctx context.Context, seen func(key string) bool, emit func(collectors.Observation) error) error {
	// dpkg's logs are opened first: whatever stands in them then, its stanza
	// has begun in the history opened after.
	dpkg, err := snapshot(c.config.Dpkg)
	if err != nil {
		return fmt.Errorf("patchrun: %w", err)
	}
	defer closeAll(dpkg)
	history, err := snapshot(c.config.History)
	if err != nil {
		return fmt.Errorf("patchrun: %w", err)
	}
	defer closeAll(history)
	if len(dpkg)+len(history) == 0 {
		return fmt.Errorf("patchrun: %w: no file matches %s", collectors.ErrNoSource,
			strings.Join(append(c.config.History, c.config.Dpkg...), ", "))
	}
	pass := &pass{c: c, ctx: ctx, seen: seen, emit: emit, done: map[string]bool{}, now: c.config.Now()}
	if err := pass.learn(history); err != nil {
		return err
	}
	err = pass.merge(pass.stanzas(history), pass.runs(dpkg))
	return errors.Join(append(pass.errs, err)...)
}

// pass is one Collect.
type pass struct {
	c    *Collector
	ctx  context.Context
	seen func(string) bool
	emit func(collectors.Observation) error
	now  time.Time
	// done are the keys of this pass: a file and its compressed copy may be
	// there at the same time. The value tells whether the record was emitted.
	done map[string]bool
	cover
	waiting int // dpkg runs whose stanza may be in a part of the history that cannot be read
	errs    []error
}

// learn reads the history for what it covers.
func (p *pass) learn(history []*source) error {
	for run, state := range p.each(history, nil) {
		p.cover.add(run, state)
		if p.ctx.Err() != nil {
			return p.ctx.Err()
		}
	}
	p.cover.close()
	return nil
}

// state is what is known of a stanza from what stands after it.
type state int

const (
	complete    state = iota
	interrupted       // no End-Date, and others follow or it is old
	open              // no End-Date, and it may still be going on
	lost              // not readable: run is nil
)

// each yields the stanzas of all files, each once it is known whether another
// one follows. report gets what could not be read.
func (p *pass) each(history []*source, report func(error)) iter.Seq2[*Run, state] {
	return func(yield func(*Run, state) bool) {
		var held *Run
		release := func(last bool) bool {
			run := held
			held = nil
			switch {
			case run == nil:
				return true
			case !run.End.IsZero():
				return yield(run, complete)
			case last && p.now.Sub(run.Start).Abs() <= stale:
				return yield(run, open)
			}
			return yield(run, interrupted)
		}
		for _, s := range history {
			faults := &Faults{Path: s.path}
			r, err := s.reader()
			if err != nil {
				faults.stop(0, err)
				if !release(false) || !yield(nil, lost) {
					return
				}
				tell(report, faults)
				continue
			}
			for run := range ParseHistory(r, p.c.config.Zone, faults) {
				if !release(false) {
					return
				}
				if held = run; run == nil && !yield(nil, lost) {
					return
				}
			}
			tell(report, faults)
		}
		release(true)
	}
}

func tell(report func(error), faults *Faults) {
	if err := faults.Err(); err != nil && report != nil {
		report(err)
	}
}

// stanzas yields the stanzas that can be reported.
func (p *pass) stanzas(history []*source) iter.Seq[*Run] {
	return func(yield func(*Run) bool) {
		for run, state := range p.each(history, p.report) {
			if state == interrupted {
				run.Error = strings.TrimPrefix(run.Error+"; the log has no End-Date: the run was interrupted", "; ")
			}
			if (state == complete || state == interrupted) && !yield(run) {
				return
			}
		}
	}
}

// runs yields the dpkg runs that a stanza covers, and those that are over and
// that none covers.
func (p *pass) runs(dpkg []*source) iter.Seq[*Run] {
	return func(yield func(*Run) bool) {
		for _, s := range dpkg {
			faults := &Faults{Path: s.path}
			r, err := s.reader()
			if err != nil {
				faults.stop(0, err)
				tell(p.report, faults)
				continue
			}
			if !p.decided(ParseDpkg(r, p.c.config.Zone, faults), yield) {
				return
			}
			tell(p.report, faults)
		}
	}
}

// decided passes on the runs of one file of which it is known whether a stanza
// covers them; the last one only once it is over, or as a mark: where lines are
// added to it, it is another run, and asked about anew.
func (p *pass) decided(runs iter.Seq[*Run], yield func(*Run) bool) bool {
	var held *Run
	release := func(last bool) bool {
		run := held
		held = nil
		if run == nil {
			return true
		}
		v, by := p.cover.of(run)
		run.coveredBy = by
		switch {
		case v == covered:
			return yield(run)
		case last && p.now.Sub(run.End).Abs() <= quiet, v == undecided:
			return true
		case v == unknown:
			p.waiting++
			return true
		}
		return yield(run)
	}
	for run := range runs {
		if !release(false) {
			return false
		}
		held = run
	}
	return release(true)
}

func (p *pass) report(err error) { p.errs = append(p.errs, fmt.Errorf("patchrun: %w", err)) }

// merge emits both sequences as one, the older record first.
func (p *pass) merge(stanzas, runs iter.Seq[*Run]) error {
	nextStanza, stopStanzas := iter.Pull(stanzas)
	defer stopStanzas()
	nextRun, stopRuns := iter.Pull(runs)
	defer stopRuns()
	stanza, moreStanzas := nextStanza()
	run, moreRuns := nextRun()
	for moreStanzas || moreRuns {
		if err := p.ctx.Err(); err != nil {
			return err
		}
		if !moreRuns || moreStanzas && !run.Start.Before(stanza.Start) {
			if err := p.send(stanza); err != nil {
				return err
			}
			stanza, moreStanzas = nextStanza()
			continue
		}
		if err := p.send(run); err != nil {
			return err
		}
		run, moreRuns = nextRun()
	}
	if p.waiting > 0 {
		p.report(fmt.Errorf("%d dpkg runs wait: the part of apt's history that may cover them cannot be read", p.waiting))
	}
	return nil
}

// send emits one run unless it is known. An error of emit ends the pass.
func (p *pass) send(run *Run) error {
	if _, dealt := p.done[run.Key]; dealt || p.seen(run.Key) {
		return nil
	}
	if run.coveredBy != "" {
		return p.mark(run)
	}
	p.done[run.Key] = false
	observations, err := p.c.observe(run, p.c.config.Now())
	if err != nil {
		p.report(err)
		return nil
	}
	for _, o := range observations {
		if err := p.emit(o); err != nil {
			return err
		}
	}
	p.done[run.Key] = true
	return nil
}

// mark says that a dpkg run needs no event, unless its stanza is not emitted: it
// may be too long, or (where the clock was set back) come later in this pass.
func (p *pass) mark(run *Run) error {
	if !p.done[run.coveredBy] && !p.seen(run.coveredBy) {
		return nil
	}
	p.done[run.Key] = true
	return p.emit(collectors.Observation{Key: run.Key, CoveredBy: run.coveredBy})
}
