// Package agent turns what collectors observe into signed, numbered events on
// the spool, and has them published.
//
// Its folder holds config.json (see Config), the pinned identity of the node,
// the signing key, the NKEY seed, the spool, and while `run` is running the
// socket over which other commands reach it:
//
//	GET  /status               -> Status
//	POST /once?type=T&wait=30s -> Report
//	POST /retry                -> number of events put back
//
// Invariants:
//
//   - An event is made inside the spool's transaction that takes its number
//     and marks its source record as seen: see package spool.
//   - after is the newest checkpoint that was verified when the event was
//     signed; it is absent while there is none.
//   - One observation that cannot become an event (too large, against its
//     schema) takes no number and stops no other one. It is reported each time.
package agent

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"evidence-ledger/collectors"
	"evidence-ledger/collectors/publish"
	"evidence-ledger/collectors/spool"
	"evidence-ledger/ledger/sign"
	"evidence-ledger/verify/checkpoint"
	"evidence-ledger/verify/event"
	"evidence-ledger/verify/submission"
	"evidence-ledger/verify/syntax"
)

// Agent holds a collector's folder, as one process at a time can.
type Agent struct {
	dir        string
	config     *Config
	identity   *checkpoint.Identity
	key        *sign.Key
	spool      *spool.Spool
	publisher  *publish.Publisher
	collectors []collectors.Collector
	log        *slog.Logger

	running    atomic.Bool // Run has the publisher
	collecting sync.Mutex  // one collection at a time
	mu         sync.Mutex
	collected  map[string]Collected
}

// Collected is what a collector's last turn came to.
type Collected struct {
	At     time.Time `json:"at"`
	Events int       `json:"events"`
	// Problem names what could not be read or made.
	Problem string `json:"problem,omitempty"`
}

// ErrType says that no collector here yields the type, or that it is not among
// the configured ones.
var ErrType = errors.New("nothing here collects this type")

// LoadConfig reads DIR/config.json.
func LoadConfig(dir string) (*Config, error) {
	b, err := os.ReadFile(filepath.Join(dir, configFile))
	if err != nil {
		return nil, fmt.Errorf("the collector's folder: %w", err)
	}
	return ParseConfig(b)
}

// Open opens the folder and holds its spool until Close. The collectors have
// been made from the same configuration.
func Open(dir string, c *Config, all []collectors.Collector, log *slog.Logger) (*Agent, error) {
	a := &Agent{dir: dir, config: c, collectors: all, log: log, collected: map[string]Collected{}}
	var err error
	if a.identity, err = ReadIdentity(filepath.Join(dir, identityFile)); err != nil {
		return nil, err
	}
	if a.key, err = sign.Load(filepath.Join(dir, keyFile)); err != nil {
		return nil, err
	}
	if a.spool, err = spool.Open(filepath.Join(dir, spoolFile), c.SpoolBytes); err != nil {
		return nil, err
	}
	a.publisher, err = publish.New(publish.Config{
		URL: c.Node, TLS: c.tls(dir), Name: c.Name, SeedFile: filepath.Join(dir, seedFile), KeyID: a.key.Public().ID(),
		Identity: a.identity, Spool: a.spool, Log: log,
	})
	if err != nil {
		a.spool.Close()
		return nil, err
	}
	return a, nil
}

// Close lets go of the spool.
func (a *Agent) Close() error { return a.spool.Close() }

// Types returns the types that are both collected here and configured.
func (a *Agent) Types() (types []string) {
	for _, c := range a.collectors {
		for _, t := range c.Types() {
			if a.config.Allows(t) {
				types = append(types, t)
			}
		}
	}
	slices.Sort(types)
	return slices.Compact(types)
}

// Allows tells whether the configuration names the type.
func (c *Config) Allows(typ string) bool {
	return slices.ContainsFunc(c.Types, func(pattern string) bool { return syntax.MatchType(pattern, typ) })
}

// Collect lets the collectors of a type read their sources once ("" means all
// types) and returns how many events it put on the spool. What could not be
// read or made is in the joined error; the rest is taken nevertheless.
func (a *Agent) Collect(ctx context.Context, typ string) (events int, err error) {
	a.collecting.Lock()
	defer a.collecting.Unlock()
	found := false
	var problems []error
	for _, c := range a.collectors {
		if !slices.ContainsFunc(c.Types(), func(t string) bool { return (typ == "" || t == typ) && a.config.Allows(t) }) {
			continue
		}
		found = true
		n, err := a.observe(ctx, c)
		events += n
		problems = append(problems, err)
		a.remember(c, n, err)
	}
	if !found {
		return 0, fmt.Errorf("%w: %q; the configured ones are %v", ErrType, typ, a.Types())
	}
	if events > 0 {
		a.publisher.Wake()
	}
	return events, errors.Join(problems...)
}

func (a *Agent) remember(c collectors.Collector, events int, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	done := Collected{At: time.Now().UTC(), Events: events}
	if err != nil {
		done.Problem = err.Error()
	}
	a.collected[c.Name()] = done
}

const (
	batchDrafts = 256     // a transaction of the spool, covered records included
	batchBytes  = 4 << 20 // of artifacts in it
)

// batch gathers observations into records for one transaction.
type batch struct {
	agent    *Agent
	of       collectors.Collector
	method   *event.Method
	after    *event.After
	note     string // that after names
	records  []spool.Record
	drafts   int
	bytes    int
	events   int
	problems []error
}

func (a *Agent) observe(ctx context.Context, c collectors.Collector) (int, error) {
	after, note, err := a.after()
	if err != nil {
		return 0, err
	}
	b := &batch{agent: a, of: c, after: after, note: note, method: &event.Method{Name: c.Name(), Version: c.Version(), Config: sha256.Sum256(c.Config())}}
	seen := func(key string) bool {
		seen, err := a.spool.Seen(c.Name(), key)
		return err == nil && seen // where the spool cannot be read, Add says so
	}
	if err := c.Collect(ctx, seen, b.emit); err != nil {
		b.problems = append(b.problems, fmt.Errorf("%s: %w", c.Name(), err))
	}
	if err := b.flush(); err != nil && !slices.ContainsFunc(b.problems, func(e error) bool { return errors.Is(e, spool.ErrFull) }) {
		b.problems = append(b.problems, err)
	}
	return b.events, errors.Join(b.problems...)
}

// after is the newest verified checkpoint and its note, or nil.
func (a *Agent) after() (*event.After, string, error) {
	stored, err := a.spool.Checkpoint()
	if err != nil || stored == nil {
		return nil, "", err
	}
	u, err := checkpoint.ParseUnverified(stored) // the spool holds only verified ones
	if err != nil {
		return nil, "", err
	}
	return &event.After{Size: u.Size, Root: u.Root}, string(stored), nil
}

func (b *batch) emit(o collectors.Observation) error {
	mark := o.CoveredBy != ""
	if !mark && (!slices.Contains(b.of.Types(), o.Type) || !b.agent.config.Allows(o.Type)) {
		return nil
	}
	same := false
	if n := len(b.records); n > 0 {
		same = b.records[n-1].Key == o.Key && b.records[n-1].CoveredBy == ""
	}
	if !same || mark {
		// A record's parts stay in one transaction: only between records.
		if b.drafts >= batchDrafts || b.bytes >= batchBytes {
			if err := b.flush(); err != nil {
				return err
			}
		}
		b.records = append(b.records, spool.Record{Source: b.of.Name(), Key: o.Key, CoveredBy: o.CoveredBy})
	}
	b.drafts++
	if mark {
		return nil
	}
	r := &b.records[len(b.records)-1]
	r.Drafts = append(r.Drafts, spool.Draft{Type: o.Type, Make: func(seq uint64, prev [32]byte) (*spool.Item, error) {
		return b.make(o, seq, prev)
	}})
	for _, artifact := range o.Artifacts {
		b.bytes += len(artifact.Data)
	}
	return nil
}

// flush returns an error only where going on makes no sense.
func (b *batch) flush() error {
	if len(b.records) == 0 {
		return nil
	}
	added, err := b.agent.spool.Add(b.agent.key.Public().ID(), b.records...)
	b.records, b.drafts, b.bytes = nil, 0, 0
	b.events += len(added)
	if err == nil {
		return nil
	}
	if added == nil || errors.Is(err, spool.ErrFull) {
		return err
	}
	b.problems = append(b.problems, err)
	return nil
}

// make signs one observation as the event with this number.
func (b *batch) make(o collectors.Observation, seq uint64, prev [32]byte) (*spool.Item, error) {
	a := b.agent
	id, err := uuid.NewV7()
	if err != nil {
		return nil, err
	}
	ev := &event.Event{
		Type: o.Type, Version: 1, ID: id.String(), Ledger: a.identity.Origin, Collector: a.config.Name, Seq: seq, Prev: prev,
		ObservedAt: o.ObservedAt, Period: o.Period, After: b.after, Method: b.method,
		Scope: o.Scope, Outcome: o.Outcome, Summary: o.Summary, Data: o.Data,
	}
	item := &spool.Item{ID: ev.ID, Checkpoint: b.note, AddedAt: time.Now().UTC()}
	for _, artifact := range o.Artifacts {
		sum := sha256.Sum256(artifact.Data)
		ev.Subject = append(ev.Subject, event.Artifact{Name: artifact.Name, SHA256: sum})
		item.Artifacts = append(item.Artifacts, submission.Artifact{
			Name: artifact.Name, MediaType: artifact.MediaType, SHA256: fmt.Sprintf("%x", sum), Data: artifact.Data})
	}
	payload, err := ev.Payload()
	if err != nil {
		return nil, err
	}
	sig, err := a.key.Sign(event.PAE(payload))
	if err != nil {
		return nil, err
	}
	item.Payload = sha256.Sum256(payload)
	item.Envelope = event.Wrap(payload, []event.Signature{{KeyID: a.key.Public().ID(), Sig: sig}})
	body := (&submission.Submission{Envelope: item.Envelope, Artifacts: item.Artifacts, Checkpoint: item.Checkpoint}).Body()
	if len(body) > submission.MaxBody {
		return nil, fmt.Errorf("with its artifacts the submission has %d bytes, at most %d can be sent", len(body), submission.MaxBody)
	}
	return item, nil
}
