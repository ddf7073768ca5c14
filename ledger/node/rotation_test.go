package node_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"evidence-ledger/collectors/publish"
	"evidence-ledger/collectors/spool"
	"evidence-ledger/ledger"
	"evidence-ledger/ledger/action"
	"evidence-ledger/ledger/bus"
	"evidence-ledger/ledger/ledgertest"
	"evidence-ledger/ledger/node"
	"evidence-ledger/ledger/sign"
	"evidence-ledger/verify"
	"evidence-ledger/verify/checkpoint"
	"evidence-ledger/verify/entry"
	"evidence-ledger/verify/event"
	"evidence-ledger/verify/problem"
	"evidence-ledger/verify/submission"
	"evidence-ledger/verify/trust"
)

// signed is an action on top of a state, signed by these keys.
func signed(t *testing.T, s *trust.State, typ string, data any, keys ...*sign.Key) []byte {
	t.Helper()
	f, err := action.Propose(s, typ, "an action", data, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range keys {
		if err := f.Sign(k); err != nil {
			t.Fatal(err)
		}
	}
	return f.Envelopes()[0]
}

// rotation is the action that rotates a node to the next key.
func rotation(t *testing.T, s *trust.State, next *sign.Key, keys ...*sign.Key) []byte {
	t.Helper()
	data, err := node.Rotation(s, next)
	if err != nil {
		t.Fatal(err)
	}
	return signed(t, s, trust.TypeRotated, data, keys...)
}

// revocation ends what a key may do.
func revocation(t *testing.T, s *trust.State, c *ledgertest.Collector, keys ...*sign.Key) []byte {
	t.Helper()
	return signed(t, s, trust.TypeRevoked, &trust.Revoked{Basis: action.Basis(s), Name: c.Name, KeyID: c.Key.Public().ID(), Reason: "retired"}, keys...)
}

// publishing is a station's spool with the publisher that a collector has.
type publishing struct {
	*station
	t     *testing.T
	spool *spool.Spool
	*publish.Publisher
}

func (r *running) publishing(s *station) *publishing {
	r.t.Helper()
	p := &publishing{station: s, t: r.t}
	var err error
	if p.spool, err = spool.Open(filepath.Join(s.dir, "test.spool"), 1<<26); err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { p.spool.Close() })
	p.again(r.NATS(), r.identity)
	return p
}

// again makes the publisher anew from what lies on the spool.
func (p *publishing) again(url string, id *checkpoint.Identity) {
	p.t.Helper()
	var err error
	p.Publisher, err = publish.New(publish.Config{
		URL: url, Name: p.Name, SeedFile: filepath.Join(p.dir, "nkey.seed"), KeyID: p.Key.Public().ID(),
		Identity: id, Spool: p.spool, Log: slog.New(slog.DiscardHandler), Patience: time.Second,
	})
	if err != nil {
		p.t.Fatal(err)
	}
}

// observe puts one event on the spool, after the newest verified checkpoint.
func (p *publishing) observe(text string) *ledgertest.Made {
	p.t.Helper()
	note, err := p.spool.Checkpoint()
	if err != nil {
		p.t.Fatal(err)
	}
	ev, data := p.Draft(text)
	if note != nil {
		c, err := checkpoint.ParseUnverified(note)
		if err != nil {
			p.t.Fatal(err)
		}
		ev.After = &event.After{Size: c.Size, Root: c.Root}
	}
	m := p.Collector.Sign(ev, data)
	_, err = p.spool.Add(p.Key.Public().ID(), spool.Record{Source: "test", Key: m.ID, Drafts: []spool.Draft{{
		Type: ledgertest.Type,
		Make: func(seq uint64, prev [32]byte) (*spool.Item, error) {
			if seq != m.Seq || prev != m.Prev {
				return nil, errors.New("the spool counts otherwise")
			}
			return &spool.Item{ID: m.ID, Payload: sha256.Sum256(m.Payload), Envelope: m.Envelope,
				Artifacts: []submission.Artifact{artifact(m)}, Checkpoint: string(note)}, nil
		},
	}}})
	if err != nil {
		p.t.Fatal(err)
	}
	p.Wake()
	return m
}

func (p *publishing) newest() spool.Newest {
	p.t.Helper()
	all, err := p.spool.Receipts()
	if err != nil {
		p.t.Fatal(err)
	}
	return all[ledgertest.Type]
}

// drain publishes all there is.
func (p *publishing) drain() {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), 30*time.Second)
	defer cancel()
	if err := p.Drain(ctx); err != nil {
		p.t.Fatalf("%v: %+v", err, p.Status())
	}
}

// until waits for what must come.
func until(t *testing.T, what string, true func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !true(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("it does not come that %s", what)
		}
	}
}

func code(err error) string {
	if p := problem.Of(err); p != nil {
		return p.Code
	}
	return ""
}

// TestRotation: the node's key is rotated while it runs and a collector
// publishes. Nothing is refused; old receipts and checkpoints verify; collectors
// and verifiers follow with the identity line that they have.
func TestRotation(t *testing.T) {
	r := start(t)
	p := r.publishing(r.newStation("web-1", "patch.*"))
	state := r.Ledger().State()

	// Nobody but the quorum rotates, and only to a key that the node has made.
	next := ledgertest.Key(t)
	if _, err := node.AppendTrust(r.config, rotation(t, state, next, r.admin)); err == nil || !strings.Contains(err.Error(), "next key") {
		t.Errorf("to a key that the node does not have: %v", err)
	}
	next, err := node.PrepareKey(r.config)
	if err != nil {
		t.Fatal(err)
	}
	if same, err := node.PrepareKey(r.config); err != nil || same.Public().ID() != next.Public().ID() {
		t.Errorf("prepared twice: %v", err)
	}
	old, err := sign.Load(filepath.Join(r.config.Dir, "node.key"))
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		envelope []byte
		code     string
	}{
		"the node alone":      {rotation(t, state, next, old), "trust.quorum"},
		"the new key alone":   {rotation(t, state, next, next), "trust.signer"},
		"somebody and admins": {rotation(t, state, next, r.admin, ledgertest.Key(t)), "trust.signer"},
		"back to its own key": {rotation(t, state, old, r.admin), "trust.keys-distinct"},
	} {
		if _, err := node.AppendTrust(r.config, c.envelope); code(err) != c.code {
			t.Errorf("%s: %v, want %s", name, err, c.code)
		}
	}

	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	first := p.observe("before")
	until(t, "the first receipt is there", func() bool { return p.newest().Count == 1 })
	receipt, before := p.newest().Receipt, r.Ledger().Head().Note
	for range 30 {
		p.observe("before")
	}
	index, err := node.AppendTrust(r.config, rotation(t, state, next, r.admin, old))
	if err != nil {
		t.Fatal(err)
	}
	for range 30 {
		p.observe("after")
	}
	until(t, "all are in", func() bool { return p.spool.Stats().Pending == 0 && p.newest().Count == 61 })
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if s := p.Status(); s.BadReceipts+s.OddRefusals > 0 || p.spool.Stats().Refused > 0 {
		t.Errorf("%+v", s)
	}
	quarantined(t, r, nil)

	// The key has taken its place.
	if k, err := sign.Load(filepath.Join(r.config.Dir, "node.key")); err != nil || k.Public().ID() != next.Public().ID() {
		t.Errorf("node.key: %v", err)
	}
	if _, err := os.Stat(filepath.Join(r.config.Dir, "node-next.key")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("node-next.key: %v", err)
	}
	// What the old key signed stands, under the state as under the identity.
	rotated := r.Ledger().State()
	for name, keys := range map[string]verify.Keys{"the identity line": r.identity, "the log": rotated} {
		if _, err := verify.Checkpoint(before, keys); err != nil {
			t.Errorf("the old checkpoint by %s: %v", name, err)
		}
		if got, err := verify.Receipt([]byte(receipt), first.Event, keys); err != nil || got.Index != 2 {
			t.Errorf("the old receipt by %s: %v", name, err)
		}
	}
	if _, err := verify.Checkpoint(r.Ledger().Head().Note, r.identity); code(err) != "checkpoint.unsigned" {
		t.Errorf("the new checkpoint by the genesis's key: %v", err)
	}
	// The collector starts again with what it has followed.
	p.again(r.NATS(), r.identity)
	p.observe("later")
	p.drain()
	// So does one that comes new, with the old line.
	db := r.publishing(r.newStation("db-1", "patch.*"))
	db.observe("new")
	db.drain()

	v, err := node.Open(r.config.Dir, "")
	if err != nil {
		t.Fatal(err)
	}
	report, err := v.Verify(t.Context(), verify.Options{Identity: r.identity, Now: time.Now(), Known: []verify.Known{{Name: "from before", Note: before}}})
	if err = errors.Join(err, v.Close()); err != nil || report.Verdict != verify.Verified {
		t.Fatalf("%v, %+v", err, report)
	}
	if report.Size < index+3 {
		t.Errorf("%d entries, the rotation is entry %d", report.Size, index)
	}
}

// TestRotationCrash: the process ends between the commit of a rotation and the
// renaming of the key. The next start finishes it; without the key it refuses.
func TestRotationCrash(t *testing.T) {
	home := t.TempDir()
	c := node.Config{Dir: filepath.Join(home, "data"), NATS: "127.0.0.1:0", MinFree: 1}
	made, err := node.Create(c, ledgertest.Origin, "Example", "admin-1", filepath.Join(home, "admin.pem"))
	if err != nil {
		t.Fatal(err)
	}
	file := func(name string) string { return filepath.Join(c.Dir, name) }
	move := func(from, to string) {
		t.Helper()
		if err := os.Rename(from, to); err != nil {
			t.Fatal(err)
		}
	}
	state := func() *trust.State {
		t.Helper()
		v, err := node.Open(c.Dir, "")
		if err != nil {
			t.Fatal(err)
		}
		s, err := ledger.LoadTrust(v.Snapshot, nil)
		if err = errors.Join(err, v.Close()); err != nil {
			t.Fatal(err)
		}
		return s
	}
	next, err := node.PrepareKey(c)
	if err != nil {
		t.Fatal(err)
	}
	oldKey, err := os.ReadFile(file("node.key"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(file("second-before"), os.DirFS(file("second-place"))); err != nil {
		t.Fatal(err)
	}
	if _, err := node.AppendTrust(c, rotation(t, state(), next, made.Admin)); err != nil {
		t.Fatal(err)
	}

	// As the crash leaves it: the store has the rotation, nothing else has.
	move(file("node.key"), filepath.Join(home, "kept.key"))
	if err := os.WriteFile(file("node.key"), oldKey, 0o600); err != nil {
		t.Fatal(err)
	}
	move(file("second-place"), filepath.Join(home, "second-after"))
	move(file("second-before"), file("second-place"))

	if n, err := node.Start(t.Context(), c); err == nil || !strings.Contains(err.Error(), "give the right key file with --node-key") {
		t.Fatalf("%v: it starts without its key: %v", n, err)
	}
	move(filepath.Join(home, "kept.key"), file("node-next.key"))
	r := &running{t: t, config: c, identity: made.Identity, admin: made.Admin}
	r.run()
	if k, err := sign.Load(file("node.key")); err != nil || k.Public().ID() != next.Public().ID() {
		t.Errorf("node.key: %v", err)
	}
	if _, err := os.Stat(file("node-next.key")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("node-next.key: %v", err)
	}
	p := r.publishing(r.newStation("web-1", "patch.*"))
	p.observe("it goes on")
	p.drain()
	if report := r.verified(); report.Size != 4 {
		t.Errorf("%d entries", report.Size)
	}
}

// thief answers collectors as the node would, with a rotation to a key of its
// own that the admins did not sign.
type thief struct {
	note    []byte
	entries [][]byte
}

func (f *thief) Checkpoint() ([]byte, error)                      { return f.note, nil }
func (f *thief) Receipt(string, string) ([]byte, error)           { return nil, bus.ErrNotFound }
func (f *thief) Consistency(uint64, uint64) ([]byte, error)       { return nil, bus.ErrNotFound }
func (f *thief) Refusals(string) ([][]byte, error)                { return nil, nil }
func (f *thief) Last(string, string) (map[string]bus.Last, error) { return nil, bus.ErrNotFound }
func (f *thief) Trust(since uint64) (out [][]byte, _ error) {
	return f.entries[min(since, uint64(len(f.entries))):], nil
}

// TestForgedRotation: whoever has the node's key and its place in the network
// rotates to a key of their own, and nobody follows.
func TestForgedRotation(t *testing.T) {
	r := start(t)
	p := r.publishing(r.newStation("web-1", "patch.*"))
	p.observe("seen")
	p.drain()
	old, err := sign.Load(filepath.Join(r.config.Dir, "node.key"))
	if err != nil {
		t.Fatal(err)
	}
	next := ledgertest.Key(t)
	genesis := r.raw(0)
	for name, keys := range map[string][]*sign.Key{"the old key": {old}, "both node keys": {old, next}, "nobody else": {next}} {
		t.Run(name, func(t *testing.T) {
			// The forged log: genesis, and the rotation directly on top of it.
			chain, tree := entry.NewChain(), &checkpoint.Tree{}
			first, err := entry.Parse(genesis)
			if err != nil {
				t.Fatal(err)
			}
			if err := chain.Add(first); err != nil {
				t.Fatal(err)
			}
			ev, err := event.Parse(first.Envelope, event.Builtin())
			if err != nil {
				t.Fatal(err)
			}
			state, err := trust.Begin(ev)
			if err != nil {
				t.Fatal(err)
			}
			forged, err := entry.New(chain.Next("trust", time.Now()), rotation(t, state, next, keys...))
			if err != nil {
				t.Fatal(err)
			}
			tree.Add(first.Leaf())
			tree.Add(forged.Leaf())
			signer, err := next.Ed25519()
			if err != nil {
				t.Fatal(err)
			}
			ns, err := checkpoint.NewSigner(ledgertest.Origin, signer)
			if err != nil {
				t.Fatal(err)
			}
			f := &thief{entries: [][]byte{genesis, forged.Raw}}
			if f.note, err = checkpoint.Sign(checkpoint.Checkpoint{Origin: ledgertest.Origin, Size: 2, Root: tree.Root()}, ns); err != nil {
				t.Fatal(err)
			}

			if s, err := verify.Trust(f.entries, r.identity); code(err) != "trust.quorum" && code(err) != "trust.signer" {
				t.Errorf("the verifier: %v, %v", s, err)
			}
			b, err := bus.Start(t.Context(), bus.Options{Listen: "127.0.0.1:0", StoreDir: t.TempDir(), Authorize: func(string) (bus.Grant, bool) {
				return bus.Grant{Name: p.Name, Types: p.Types}, true
			}})
			if err != nil {
				t.Fatal(err)
			}
			defer b.Close(context.Background())
			if err := b.Serve(f); err != nil {
				t.Fatal(err)
			}
			seen, err := p.spool.Checkpoint()
			if err != nil {
				t.Fatal(err)
			}
			p.again(b.ClientURL(), r.identity)
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			if err := p.Refresh(ctx); err == nil {
				t.Error("the collector follows")
			}
			if s := p.Status(); !strings.Contains(s.LastFault, "the admins' actions do not hold") {
				t.Errorf("%+v", s)
			}
			now, err := p.spool.Checkpoint()
			kept, err2 := p.spool.Trust()
			if err := errors.Join(err, err2); err != nil || string(now) != string(seen) || kept != nil {
				t.Errorf("%v: its newest checkpoint is %s, of the actions it has kept %d", err, now, len(kept))
			}
		})
	}
}

// raw is one entry of the running node.
func (r *running) raw(index uint64) []byte {
	r.t.Helper()
	proofs := r.Ledger().Prove()
	defer proofs.Close()
	raw, err := proofs.Snapshot().Entry(index)
	if err != nil {
		r.t.Fatal(err)
	}
	return raw
}

// TestRevoked: NATS closes a revoked collector's connection within a second and
// lets it in no more. What it had sent before the entry stands, what it has
// spooled since stays with it.
func TestRevoked(t *testing.T) {
	r := start(t)
	web, db := r.newStation("web-1", "patch.*"), r.newStation("db-1", "patch.*")
	p := r.publishing(web)
	p.observe("before")
	p.drain()
	r.connect(web)
	r.connect(db)
	closed := make(chan struct{})
	web.conn.SetDisconnectErrHandler(func(*nats.Conn, error) { close(closed) })
	if _, err := node.AppendTrust(r.config, revocation(t, r.Ledger().State(), web.Collector, r.admin)); err != nil {
		t.Fatal(err)
	}
	select {
	case <-closed:
	case <-time.After(time.Second):
		t.Error("it is still connected after a second")
	}
	if !db.conn.IsConnected() {
		t.Error("the other one is not connected any more")
	}
	m := p.observe("after")
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if err := p.Drain(ctx); err == nil {
		t.Error("it was taken")
	}
	if s := p.spool.Stats(); s.Pending != 1 || s.Refused != 0 {
		t.Errorf("%+v", s)
	}

	// What reaches the appender nevertheless (it was in the stream already) is
	// refused by the log; what is in the log gets its receipt.
	c := ledger.NewCandidate(m.Envelope, nil)
	out, err := r.Ledger().Append([]*ledger.Candidate{c})
	if err != nil || code(out[0].Err) != "authority.revoked" {
		t.Errorf("%+v, %v", out, err)
	}
	if _, err := node.AppendTrust(r.config, revocation(t, r.Ledger().State(), web.Collector, r.admin)); code(err) != "trust.revoke-again" {
		t.Errorf("revoked again: %v", err)
	}
	r.verified()
}

// TestRotationIsNotTakenBack: a thief of the former key, in the node's place,
// shows the admins' actions only up to before the rotation. The collector has
// seen more and does not go back.
func TestRotationIsNotTakenBack(t *testing.T) {
	r := start(t)
	p := r.publishing(r.newStation("web-1", "patch.*"))
	p.observe("before")
	p.drain()
	old, err := sign.Load(filepath.Join(r.config.Dir, "node.key"))
	if err != nil {
		t.Fatal(err)
	}
	next, err := node.PrepareKey(r.config)
	if err != nil {
		t.Fatal(err)
	}
	state := r.Ledger().State()
	if _, err := node.AppendTrust(r.config, rotation(t, state, next, r.admin)); err != nil {
		t.Fatal(err)
	}
	p.observe("after")
	p.drain()
	followed, err := p.spool.Trust()
	if err != nil || len(followed) != 3 {
		t.Fatalf("%d actions were followed, %v", len(followed), err)
	}
	private, err := old.Ed25519()
	if err != nil {
		t.Fatal(err)
	}
	signer, err := checkpoint.NewSigner(ledgertest.Origin, private)
	if err != nil {
		t.Fatal(err)
	}
	note, err := checkpoint.Sign(r.Ledger().Head().Checkpoint, signer)
	if err != nil {
		t.Fatal(err)
	}
	b, err := bus.Start(t.Context(), bus.Options{Listen: "127.0.0.1:0", StoreDir: t.TempDir(), Authorize: func(string) (bus.Grant, bool) {
		return bus.Grant{Name: p.Name, Types: p.Types}, true
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close(context.Background())
	if err := b.Serve(&thief{note: note, entries: [][]byte{r.raw(0), r.raw(1)}}); err != nil {
		t.Fatal(err)
	}
	p.again(b.ClientURL(), r.identity)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if err := p.Refresh(ctx); err == nil {
		t.Error("the collector follows the former key")
	}
	if s := p.Status(); !strings.Contains(s.LastFault, "it has shown 3 before") {
		t.Errorf("%+v", s)
	}
	if kept, err := p.spool.Trust(); err != nil || len(kept) != 3 {
		t.Errorf("%d actions are kept, %v", len(kept), err)
	}
}
