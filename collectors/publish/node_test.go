package publish_test

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"evidence-ledger/collectors/publish"
	"evidence-ledger/collectors/spool"
	"evidence-ledger/ledger/bus"
	"evidence-ledger/ledger/sign"
	"evidence-ledger/verify/checkpoint"
	"evidence-ledger/verify/entry"
	"evidence-ledger/verify/event"
	"evidence-ledger/verify/submission"
)

const (
	origin = "ledger.example.org/evidence"
	name   = "web-1"
	typ    = "patch.run.completed"
)

// history is a log that a test can copy and fork.
type history struct {
	chain  *entry.Chain
	hashes []tlog.Hash // tlog's stored hashes
	byID   map[string]*entry.Entry
}

func (h *history) read(indexes []int64) ([]tlog.Hash, error) {
	out := make([]tlog.Hash, len(indexes))
	for i, x := range indexes {
		out[i] = h.hashes[x]
	}
	return out, nil
}

func (h *history) append(stream, id string, envelope []byte) error {
	e, err := entry.New(h.chain.Next(stream, time.Now().UTC().Truncate(time.Microsecond)), envelope)
	if err != nil {
		return err
	}
	if err := h.chain.Add(e); err != nil {
		return err
	}
	more, err := tlog.StoredHashesForRecordHash(int64(e.Index), e.Leaf(), tlog.HashReaderFunc(h.read))
	h.hashes, h.byID[id] = append(h.hashes, more...), e
	return err
}

func (h *history) checkpoint(origin string, size uint64) checkpoint.Checkpoint {
	root, err := tlog.TreeHash(int64(size), tlog.HashReaderFunc(h.read))
	if err != nil {
		panic(err)
	}
	return checkpoint.Checkpoint{Origin: origin, Size: size, Root: root}
}

// node answers as the ledger's node does, or wrongly where a test asks for it.
type node struct {
	t        *testing.T
	bus      *bus.Bus
	signer   note.Signer
	private  ed25519.PrivateKey
	identity *checkpoint.Identity

	mu      sync.Mutex
	log     *history
	receipt func(n *node, id string) *submission.Notice // nil: the right one
	silent  bool                                        // pushes no notices
	deaf    bool                                        // takes no submissions
	mute    bool                                        // does not tell its checkpoint
	noProof bool                                        // knows no consistency proof
	older   uint64                                      // answers as a copy of this size
	last    map[string]bus.Last
	notes   map[string]int // submissions by the checkpoint that came along
	asked   int            // consistency proofs
}

func startNode(t *testing.T) (*node, string) { return startNodeTLS(t, bus.TLS{}) }

func startNodeTLS(t *testing.T, secure bus.TLS) (*node, string) {
	dir := t.TempDir()
	seed := filepath.Join(dir, "nkey.seed")
	nkey, err := publish.GenerateSeed(seed)
	if err != nil {
		t.Fatal(err)
	}
	_, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	n := &node{t: t, private: private, log: newHistory("genesis"), notes: map[string]int{}}
	n.signer = signer(t, origin, private)
	n.identity = &checkpoint.Identity{Origin: origin, VKey: checkpoint.VKey(origin, private.Public().(ed25519.PublicKey)), Genesis: n.log.chain.Last()}
	n.bus, err = bus.Start(t.Context(), bus.Options{
		Listen: "127.0.0.1:0", TLS: secure, StoreDir: filepath.Join(dir, "bus"), Logger: quiet(),
		Authorize: func(k string) (bus.Grant, bool) {
			return bus.Grant{Name: name, Types: []string{"patch.*"}}, k == nkey
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := n.bus.Serve(n); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); n.work(ctx) }()
	t.Cleanup(func() {
		cancel()
		<-done
		n.bus.Close(context.Background())
	})
	return n, seed
}

func newHistory(genesis string) *history {
	h := &history{chain: entry.NewChain(), byID: map[string]*entry.Entry{}}
	if err := h.append("trust", "genesis", fmt.Appendf(nil, `{"genesis":%q}`, genesis)); err != nil {
		panic(err)
	}
	return h
}

func signer(t *testing.T, origin string, private ed25519.PrivateKey) note.Signer {
	s, err := checkpoint.NewSigner(origin, private)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func quiet() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

func (n *node) set(change func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	change()
}

func (n *node) work(ctx context.Context) {
	for ctx.Err() == nil {
		messages, err := n.bus.Fetch(ctx, 64, 100*time.Millisecond)
		if err != nil && ctx.Err() == nil {
			n.t.Error(err)
			return
		}
		var ids []string
		for _, m := range messages {
			if id := n.take(m); id != "" {
				ids = append(ids, id)
			}
		}
		for _, id := range ids {
			n.notify(id)
		}
	}
}

func (n *node) take(m bus.Message) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	defer m.Ack()
	s, err := submission.Parse(m.Body)
	if err != nil {
		n.t.Error(err)
		return ""
	}
	if n.deaf {
		return ""
	}
	envelope, err := event.Parse(s.Envelope, event.Builtin())
	if err == nil {
		err = s.Fits(envelope, name, typ)
	}
	if err != nil {
		n.t.Error(err)
	}
	n.notes[s.Checkpoint]++
	if n.log.byID[m.ID] == nil {
		if err := n.log.append(typ, m.ID, s.Envelope); err != nil {
			n.t.Error(err)
		}
	}
	return m.ID
}

func (n *node) notify(id string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.silent {
		if err := n.bus.Notify(name, n.answer(id).JSON()); err != nil {
			n.t.Error(err)
		}
	}
}

func (n *node) answer(id string) *submission.Notice {
	if n.receipt != nil {
		if notice := n.receipt(n, id); notice != nil {
			return notice
		}
	}
	return n.log.prove(n.t, id, n.log.byID[id].Header.Bytes(), origin, n.signer)
}

// prove makes the receipt of an entry of this history, with the given extra.
func (h *history) prove(t *testing.T, id string, extra []byte, origin string, s note.Signer) *submission.Notice {
	return h.proveAt(t, h.chain.Size(), id, extra, origin, s)
}

func (h *history) proveAt(t *testing.T, size uint64, id string, extra []byte, origin string, s note.Signer) *submission.Notice {
	c := h.checkpoint(origin, size)
	signed, err := checkpoint.Sign(c, s)
	if err != nil {
		t.Fatal(err)
	}
	e := h.byID[id]
	hashes, err := tlog.ProveRecord(int64(c.Size), int64(e.Index), tlog.HashReaderFunc(h.read))
	if err != nil {
		t.Fatal(err)
	}
	p := checkpoint.Proof{Extra: extra, Index: e.Index, Hashes: hashes, Checkpoint: signed}
	return &submission.Notice{ID: id, Receipt: string(p.Marshal())}
}

// What follows is bus.Handler.

func (n *node) Checkpoint() ([]byte, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.mute {
		return nil, bus.ErrNotFound
	}
	return checkpoint.Sign(n.log.checkpoint(origin, n.size()), n.signer)
}

// size is of the log that the node shows; n.mu is held.
func (n *node) size() uint64 {
	if n.older > 0 {
		return n.older
	}
	return n.log.chain.Size()
}

func (n *node) Trust(uint64) ([][]byte, error)    { return nil, nil }
func (n *node) Refusals(string) ([][]byte, error) { return nil, nil }

func (n *node) Receipt(collector, id string) ([]byte, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if collector != name || n.log.byID[id] == nil {
		return nil, bus.ErrNotFound
	}
	return n.answer(id).JSON(), nil
}

func (n *node) Consistency(old, new uint64) ([]byte, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.asked++
	if n.noProof || new > n.size() {
		return nil, bus.ErrNotFound
	}
	proof, err := tlog.ProveTree(int64(new), int64(old), tlog.HashReaderFunc(n.log.read))
	return checkpoint.FormatConsistency(proof), err
}

func (n *node) Last(string, string) (map[string]bus.Last, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.last, nil
}

// station is a spool with a signing key and a publisher's configuration.
type station struct {
	t     *testing.T
	spool *spool.Spool
	key   *sign.Key
	made  int
	publish.Config
}

func newStation(t *testing.T, n *node, seed string) *station {
	s, err := spool.Open(filepath.Join(t.TempDir(), "spool.db"), 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	key, err := sign.GenerateEd25519File(filepath.Join(t.TempDir(), "key.pem"))
	if err != nil {
		t.Fatal(err)
	}
	return &station{t: t, spool: s, key: key, Config: publish.Config{
		URL: n.bus.ClientURL(), Name: name, SeedFile: seed, KeyID: key.Public().ID(), Identity: n.identity,
		Spool: s, Log: quiet(), Patience: 200 * time.Millisecond,
	}}
}

func (s *station) publisher() *publish.Publisher {
	p, err := publish.New(s.Config)
	if err != nil {
		s.t.Fatal(err)
	}
	return p
}

// add puts events on the spool and returns them.
func (s *station) add(count int) []*spool.Item {
	newest, err := s.spool.Checkpoint()
	if err != nil {
		s.t.Fatal(err)
	}
	var records []spool.Record
	for range count {
		s.made++
		records = append(records, spool.Record{Source: "test", Key: fmt.Sprint(s.made), Drafts: []spool.Draft{{Type: typ, Make: s.make(s.made, newest)}}})
	}
	items, err := s.spool.Add(s.KeyID, records...)
	if err != nil || len(items) != count {
		s.t.Fatalf("%d of %d taken: %v", len(items), count, err)
	}
	return items
}

func (s *station) make(n int, newest []byte) func(uint64, [32]byte) (*spool.Item, error) {
	return func(seq uint64, prev [32]byte) (*spool.Item, error) {
		log := fmt.Appendf(nil, "run %d\n", n)
		e := &event.Event{Type: typ, Version: 1, ID: fmt.Sprintf("019cabcd-0000-7000-8000-%012d", n), Ledger: origin, Collector: name,
			Seq: seq, Prev: prev, ObservedAt: time.Now().UTC(), Method: &event.Method{Name: "test", Version: "1"},
			Subject: []event.Artifact{{Name: "history.log", SHA256: sha256.Sum256(log)}},
			Scope:   map[string]string{"host": "web-1.example"}, Outcome: "info", Summary: "a run",
			Data: []byte(`{"tool":"apt","packages":[{"name":"openssl"}]}`)}
		if newest != nil {
			u, err := checkpoint.ParseUnverified(newest)
			if err != nil {
				return nil, err
			}
			e.After = &event.After{Size: u.Size, Root: u.Root}
		}
		payload, err := e.Payload()
		if err != nil {
			return nil, err
		}
		sig, err := s.key.Sign(event.PAE(payload))
		if err != nil {
			return nil, err
		}
		sum := sha256.Sum256(log)
		return &spool.Item{ID: e.ID, Checkpoint: string(newest), Payload: sha256.Sum256(payload), Envelope: event.Wrap(payload, []event.Signature{{KeyID: s.KeyID, Sig: sig}}),
			Artifacts: []submission.Artifact{{Name: "history.log", MediaType: "text/plain", SHA256: hex.EncodeToString(sum[:]), Data: log}}}, nil
	}
}
