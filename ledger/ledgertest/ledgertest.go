// Package ledgertest makes real ledgers, collectors and signed events for the
// tests of the packages around it. Nothing in it is faked but the clock.
package ledgertest

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/uuid"

	"evidence-ledger/ledger"
	"evidence-ledger/ledger/recheck"
	"evidence-ledger/ledger/sign"
	"evidence-ledger/ledger/store"
	"evidence-ledger/verify"
	"evidence-ledger/verify/checkpoint"
	"evidence-ledger/verify/event"
	"evidence-ledger/verify/problem"
	"evidence-ledger/verify/trust"
)

const (
	// Origin is the name of every ledger here.
	Origin = "ledger.example.org/evidence"
	// Type is the evidence type of every event here.
	Type = "patch.run.completed"
)

// Begin is when the clock of a new ledger starts.
var Begin = time.Date(2026, 11, 24, 8, 0, 0, 0, time.UTC)

// Clock is a clock that a test sets. Each look at it lets a millisecond pass.
type Clock struct {
	mu      sync.Mutex
	wall    time.Time
	elapsed time.Duration
}

// Pass lets time go by.
func (c *Clock) Pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.wall, c.elapsed = c.wall.Add(d), c.elapsed+d
}

// Set steps the clock: its time changes, and no time has gone by.
func (c *Clock) Set(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.wall = c.wall.Add(d)
}

// Now is the clock's time.
func (c *Clock) Now() time.Time {
	c.Pass(time.Millisecond)
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.wall
}

// Ledger is the clock as a ledger takes it.
func (c *Clock) Ledger() ledger.Clock {
	return ledger.Clock{Now: c.Now, Elapsed: func() time.Duration {
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.elapsed
	}}
}

// Key makes a new Ed25519 key.
func Key(t testing.TB) *sign.Key {
	t.Helper()
	_, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	k, err := sign.New(private)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// Ledger is an open ledger with all that it takes to write it.
type Ledger struct {
	*ledger.Ledger
	Dir       string
	FS        vfs.FS
	Store     *store.Store
	Artifacts *store.Artifacts
	Second    *store.SecondPlace
	Node      *sign.Key
	Admin     *sign.Key
	Clock     *Clock
	Identity  *checkpoint.Identity

	t testing.TB
}

// Create makes a ledger in dir. A nil fsys is the machine's file system.
func Create(t testing.TB, dir string, fsys vfs.FS) *Ledger {
	t.Helper()
	if fsys == nil {
		fsys = vfs.Default
	}
	l := &Ledger{Dir: dir, FS: fsys, Node: Key(t), Admin: Key(t), Clock: &Clock{wall: Begin}, t: t}
	var err error
	if l.Store, err = store.Create(dir, store.Options{FS: fsys}); err != nil {
		t.Fatal(err)
	}
	l.Ledger, err = ledger.Create(l.Config(), trust.Genesis{
		Origin: Origin, Organisation: "Example",
		Node:   trust.Node{VKey: checkpoint.VKey(Origin, l.Node.Public().Ed25519()), PublicKey: l.Node.Public().String()},
		Admins: trust.Admins{Threshold: 1, Keys: []trust.Admin{{Name: "admin-1", PublicKey: l.Admin.Public().String()}}},
	}, []*sign.Key{l.Admin})
	if err != nil {
		t.Fatal(err)
	}
	head := l.Head()
	l.Identity = &checkpoint.Identity{Origin: Origin, VKey: l.State().Genesis().Node.VKey, Genesis: head.Root}
	return l
}

// Config is what the ledger is opened with.
func (l *Ledger) Config() ledger.Config {
	l.Artifacts = store.NewArtifacts(l.FS, l.Dir)
	l.Second = store.NewSecondPlace(l.FS, store.SecondPlaceFolder(l.FS, l.Dir))
	return ledger.Config{Store: l.Store, Artifacts: l.Artifacts, Second: l.Second, Node: l.Node, Clock: l.Clock.Ledger()}
}

// Close closes the store.
func (l *Ledger) Close() {
	l.t.Helper()
	if err := l.Store.Close(); err != nil {
		l.t.Fatal(err)
	}
}

// Open opens the ledger of l.Dir anew, after Close or after a crash.
func (l *Ledger) Open() error {
	var err error
	if l.Store, err = store.Open(l.Dir, store.Options{FS: l.FS}); err != nil {
		return err
	}
	opened, err := ledger.Open(l.Config())
	if err != nil {
		if err := l.Store.Close(); err != nil {
			l.t.Fatal(err)
		}
		return err
	}
	l.Ledger = opened
	return nil
}

// Must appends candidates, each of which must become an entry.
func (l *Ledger) Must(candidates ...*ledger.Candidate) []ledger.Outcome {
	l.t.Helper()
	out, err := l.Append(candidates)
	if err != nil {
		l.t.Fatal(err)
	}
	for i, o := range out {
		if o.Err != nil {
			l.t.Fatalf("candidate %d: %v", i, o.Err)
		}
	}
	return out
}

// Verify verifies the open ledger as `ledger verify` does while a node runs.
func (l *Ledger) Verify() *verify.Report {
	l.t.Helper()
	d, err := recheck.Read(l.Second, l.Artifacts, func() (*store.Snapshot, error) { return l.Store.Snapshot(), nil })
	if err != nil {
		l.t.Fatal(err)
	}
	defer d.Snapshot.Close()
	report, err := d.Verify(context.Background(), verify.Options{Identity: l.Identity, Now: l.Clock.Now()})
	if err != nil {
		l.t.Fatal(err)
	}
	return report
}

// Verified fails the test unless the open ledger verifies with this many
// entries.
func (l *Ledger) Verified(size uint64) {
	l.t.Helper()
	r := l.Verify()
	if r.Verdict != verify.Verified || r.Size != size || r.ExitCode() != 0 {
		l.t.Fatalf("%s with %d entries, want %d: %v", r.Verdict, r.Size, size, r.Problems)
	}
}

// Enrolment makes the action that lets a collector in, on top of a state.
func Enrolment(t testing.TB, s *trust.State, admin *sign.Key, c *Collector, at time.Time) []byte {
	t.Helper()
	possession, err := c.Key.Sign(trust.PossessionMessage(s.Origin(), c.Name, c.Key.Public().ID()))
	if err != nil {
		t.Fatal(err)
	}
	envelope, err := ledger.Own(trust.TypeEnrolled, s.Origin(), c.Name+" may publish", trust.Enrolled{
		Basis: fmt.Sprintf("%x", s.Basis()), Name: c.Name, PublicKey: c.Key.Public().String(), NKey: c.NKey,
		Possession: base64.StdEncoding.EncodeToString(possession), Types: c.Types,
	}, at, admin)
	if err != nil {
		t.Fatal(err)
	}
	return envelope
}

// Enrol lets a new collector in.
func (l *Ledger) Enrol(name string, types ...string) *Collector {
	l.t.Helper()
	c := NewCollector(l.t, name, types...)
	l.Must(ledger.NewCandidate(Enrolment(l.t, l.State(), l.Admin, c, l.Clock.Now()), nil))
	return c
}

// Collector makes events, numbered and signed.
type Collector struct {
	Name  string
	Key   *sign.Key
	Types []string
	NKey  string

	t    testing.TB
	seq  uint64
	prev [32]byte
}

// NewCollector makes one with a new key.
func NewCollector(t testing.TB, name string, types ...string) *Collector {
	return &Collector{Name: name, Key: Key(t), Types: types, t: t}
}

// Made is an event as its collector sends it.
type Made struct {
	*event.Event
	Payload  []byte
	Envelope []byte
	Artifact store.Artifact
}

// Draft is the next event before it is signed, with its artifact's bytes. Its
// number is taken.
func (c *Collector) Draft(text string) (*event.Event, []byte) {
	c.seq++
	data := fmt.Appendf(nil, "%s number %d: %s\n", c.Name, c.seq, text)
	id, err := uuid.NewV7()
	if err != nil {
		c.t.Fatal(err)
	}
	ev := &event.Event{
		Type: Type, Version: 1, Subject: []event.Artifact{{Name: "history.log", SHA256: sha256.Sum256(data)}},
		ID: id.String(), Ledger: Origin, ObservedAt: Begin, Summary: text,
		Data:      fmt.Appendf(nil, `{"tool":"apt","packages":[{"name":"openssl","to":"3.0.%d"}]}`, c.seq),
		Collector: c.Name, Seq: c.seq, Prev: c.prev,
		Method:  &event.Method{Name: "patchrun", Version: "1.0.0", Config: sha256.Sum256([]byte("config"))},
		Scope:   map[string]string{"host": c.Name + ".example"},
		Outcome: "pass",
	}
	return ev, data
}

// Sign signs a draft; the next event follows it.
func (c *Collector) Sign(ev *event.Event, artifact []byte) *Made {
	payload, err := ev.Payload()
	if err != nil {
		c.t.Fatal(err)
	}
	m := c.SignPayload(payload, artifact)
	ev.Envelope, err = event.ParseEnvelope(m.Envelope)
	if err != nil {
		c.t.Fatal(err)
	}
	m.Event = ev
	return m
}

// SignPayload signs bytes that need not be a statement.
func (c *Collector) SignPayload(payload, artifact []byte) *Made {
	envelope, err := ledger.Sign(payload, c.Key)
	if err != nil {
		c.t.Fatal(err)
	}
	c.prev = sha256.Sum256(payload)
	return &Made{Payload: payload, Envelope: envelope, Artifact: store.Artifact{SHA256: sha256.Sum256(artifact), Data: artifact}}
}

// Event makes the next event.
func (c *Collector) Event(text string) *Made {
	c.t.Helper()
	return c.Sign(c.Draft(text))
}

// Candidate is the event on its way into the log; refused, it is quarantined.
func (m *Made) Candidate() *ledger.Candidate {
	c := ledger.NewCandidate(m.Envelope, nil)
	c.Artifacts = []store.Artifact{m.Artifact}
	c.Quarantine = func(p *problem.Problem, signed bool) store.Quarantined {
		q := store.Quarantined{Collector: "unknown", Time: "2026-11-24T08:00:00.000000Z", Code: p.Code, Where: p.Where, Text: p.Text, Signed: signed, Body: m.Envelope}
		if c.Event != nil {
			q.Collector, q.ID = c.Event.Collector, c.Event.ID
		}
		return q
	}
	return c
}
