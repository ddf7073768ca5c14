// Package collectors holds what every collector is: something that reads one
// kind of source on a server and says what it saw.
//
// A collector knows neither keys nor numbers nor the network. It emits
// observations; the runner signs each one, numbers it, and puts it on the spool
// (collectors/spool), from where it goes out until the node's receipt for it
// has been verified (collectors/publish).
//
// Invariants that hold between a collector and whoever runs it:
//
//   - Collect only reads. It changes no file of the server, starts no program
//     that does, and remembers nothing itself: what was sent already it learns
//     from seen, so that a lost or restored memory lives in one place.
//   - One source record is one Key, for ever: also after the file was rotated or
//     compressed, also under a newer version of the collector.
//   - An error never hides what could be read: everything else is emitted, and
//     the errors come back joined.
package collectors

import (
	"context"
	"errors"
	"time"

	"evidence-ledger/verify/event"
)

// ErrNoSource is wrapped by Collect's error where none of the configured sources
// exists on this machine: nothing is wrong with a server that has no apt, but
// whoever counts on its evidence must hear of it.
var ErrNoSource = errors.New("nothing to read on this machine")

// Artifact is the raw thing that was observed.
type Artifact struct {
	// Name is what the statement's subject calls it, as "history.log". It names
	// no person and no folder of one.
	Name string
	// MediaType is "text/plain", "application/json" and so on.
	MediaType string
	// Data are its bytes; the subject holds their SHA-256. A collector that
	// leaves something out of a source (a person's name) does so here, before
	// anything is hashed, and says so in its README.
	Data []byte
}

// Observation is one event before it has a number and a signature, or, where
// CoveredBy is set, no event but the word that one is not needed.
type Observation struct {
	// Type is the evidence type, one of the collector's Types.
	Type string
	// Key is the stable identity of the source record: 64 lower-case hex digits,
	// a SHA-256 over what identifies it. One record that is too long for one
	// event comes as several observations with the same Key (and the same
	// artifacts), told apart by the member "part" {"k","n"} of their Data, all
	// emitted one after the other; a record is seen once all of them are
	// on the spool.
	Key string
	// CoveredBy is the Key of another record that speaks for this one, "" as a
	// rule. Where it is set, Key is the only other field that is: the runner makes
	// no event, takes no number, and marks Key as seen, but only once the record
	// that covers it has been seen itself, at the latest by the same transaction.
	// So the record does not become an event when the other source, which says
	// what covers it, is gone.
	CoveredBy string
	// ObservedAt is when the collector read it, in UTC.
	ObservedAt time.Time
	// Period is what the evidence speaks about, half-open; nil where it speaks
	// about the moment of observation alone.
	Period *event.Period
	// Scope has 1 to 8 members, as host and system.
	Scope map[string]string
	// Outcome is pass, fail or info.
	Outcome string
	// Summary is one line for people that names nobody.
	Summary string
	// Data is a JSON object: the type's own fields, by its schema.
	Data []byte
	// Artifacts has at least one element. Other observations may share its
	// bytes: who receives them does not write to them.
	Artifacts []Artifact
}

// Collector reads one kind of source.
type Collector interface {
	// Name goes into method.name, as "patchrun".
	Name() string
	// Version goes into method.version, as "1.0.0". It changes whenever the same
	// source would yield other observations.
	Version() string
	// Types are the evidence types that Collect may emit.
	Types() []string
	// Config is the configuration that decides what is read and how it is
	// understood. The SHA-256 of these bytes is method.config, so the same
	// configuration gives the same bytes in every run.
	Config() []byte
	// Collect reads the sources once and calls emit for each observation, the
	// oldest first. It skips a record whose key is seen, without reading more
	// of it than it needs to know the key. A record that another one surely covers
	// it emits too, with CoveredBy, after that one: also where that one was
	// seen long ago.
	//
	// An error of emit ends Collect, which returns it. An error of one source (a
	// file that cannot be read, a line that cannot be understood) does not: the
	// others are read, and all errors come back by errors.Join, each naming
	// file and line. What was not emitted is not seen and so is tried again the
	// next time. When ctx ends, Collect returns soon, with ctx's error.
	//
	// seen and emit are called from the goroutine that called Collect.
	Collect(ctx context.Context, seen func(key string) bool, emit func(Observation) error) error
}
