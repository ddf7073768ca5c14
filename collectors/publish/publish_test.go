package publish_test

import (
	"context"
	"crypto/ed25519"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"evidence-ledger/collectors/publish"
	"evidence-ledger/ledger/bus"
	"evidence-ledger/verify/checkpoint"
	"evidence-ledger/verify/submission"
)

func drain(t *testing.T, p *publish.Publisher, wait time.Duration) error {
	ctx, cancel := context.WithTimeout(t.Context(), wait)
	defer cancel()
	return p.Drain(ctx)
}

func TestDelivery(t *testing.T) {
	n, seed := startNode(t)
	s := newStation(t, n, seed)
	items := s.add(500)
	first := s.publisher()
	if err := drain(t, first, 90*time.Second); err != nil {
		t.Fatalf("%v: %+v, %+v", err, first.Status(), s.spool.Stats())
	}
	n.mu.Lock()
	if got := len(n.log.byID) - 1; got != len(items) {
		t.Fatalf("%d events in the log, want %d", got, len(items))
	}
	n.mu.Unlock()
	receipts, err := s.spool.Receipts()
	if err != nil || receipts[typ].Count != 500 || receipts[typ].Index != 500 {
		t.Fatalf("receipts %+v, %v", receipts[typ], err)
	}
	// The next publisher goes on from the newest checkpoint; the note that an
	// event's after names goes along.
	newest, err := s.spool.Checkpoint()
	if err != nil || newest == nil {
		t.Fatalf("the newest checkpoint: %q, %v", newest, err)
	}
	s.add(1)
	p := s.publisher()
	if size := p.Status().Size; size != 501 {
		t.Fatalf("starts from size %d", size)
	}
	if err := drain(t, p, 10*time.Second); err != nil {
		t.Fatal(err)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.notes[string(newest)] == 0 {
		t.Error("the event's checkpoint did not go out with it")
	}
}

// TestBadReceipts: none of these lets the spool go.
func TestBadReceipts(t *testing.T) {
	_, other, _ := ed25519.GenerateKey(nil)
	tests := map[string]struct {
		twist func(n *node)
		want  string
	}{
		"another entry": {func(n *node) {
			n.log.append(typ, "other", []byte(`{"other":1}`))
			n.receipt = func(n *node, id string) *submission.Notice {
				r := n.log.prove(n.t, "other", n.log.byID["other"].Header.Bytes(), origin, n.signer)
				r.ID = id
				return r
			}
		}, "proof.inclusion"},
		"another origin": {func(n *node) {
			n.receipt = func(n *node, id string) *submission.Notice {
				const strange = "other.example/evidence"
				return n.log.prove(n.t, id, n.log.byID[id].Header.Bytes(), strange, signer(n.t, strange, n.private))
			}
		}, "checkpoint."},
		"another key": {func(n *node) {
			n.receipt = func(n *node, id string) *submission.Notice {
				return n.log.prove(n.t, id, n.log.byID[id].Header.Bytes(), origin, signer(n.t, origin, other))
			}
		}, "checkpoint."},
		"another index in the header": {func(n *node) {
			n.receipt = func(n *node, id string) *submission.Notice {
				h := n.log.byID[id].Header
				h.Index++
				return n.log.prove(n.t, id, h.Bytes(), origin, n.signer)
			}
		}, "receipt.index"},
		"another stream": {func(n *node) {
			n.receipt = func(n *node, id string) *submission.Notice {
				h := n.log.byID[id].Header
				h.Stream = "patch.state.observed"
				return n.log.prove(n.t, id, h.Bytes(), origin, n.signer)
			}
		}, "receipt.stream"},
		"no header": {func(n *node) {
			n.receipt = func(n *node, id string) *submission.Notice { return n.log.prove(n.t, id, nil, origin, n.signer) }
		}, "entry."},
		"cut off": {func(n *node) {
			n.receipt = func(n *node, id string) *submission.Notice {
				r := n.log.prove(n.t, id, n.log.byID[id].Header.Bytes(), origin, n.signer)
				r.Receipt = r.Receipt[:len(r.Receipt)/2]
				return r
			}
		}, "does not verify"},
		"another history": {func(n *node) {
			fork := newHistory("another genesis")
			n.receipt = func(n *node, id string) *submission.Notice {
				if fork.byID[id] == nil {
					fork.append(typ, id, n.log.byID[id].Envelope)
				}
				return fork.prove(n.t, id, fork.byID[id].Header.Bytes(), origin, n.signer)
			}
		}, "proof.consistency"},
		"no consistency proof": {func(n *node) { n.noProof = true }, "404"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			n, seed := startNode(t)
			n.set(func() { n.mute = true; test.twist(n) })
			s := newStation(t, n, seed)
			s.add(2)
			p := s.publisher()
			if err := drain(t, p, 1200*time.Millisecond); !errors.Is(err, context.DeadlineExceeded) {
				t.Fatalf("drained: %v", err)
			}
			if held := s.spool.Stats(); held.Pending != 2 || held.Refused != 0 {
				t.Fatalf("the spool holds %+v", held)
			}
			if newest, _ := s.spool.Checkpoint(); newest != nil {
				t.Errorf("the newest checkpoint moved to %q", newest)
			}
			if st := p.Status(); !strings.Contains(st.LastFault, test.want) {
				t.Errorf("the fault is %q, want %q in it", st.LastFault, test.want)
			}
			// Once the node is right again, everything goes out.
			n.set(func() { n.receipt, n.noProof = nil, false })
			if err := drain(t, s.publisher(), 10*time.Second); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// TestRollback: a node that goes on from an older copy of its log shows a
// smaller or another tree; its receipts release nothing and its note is kept.
func TestRollback(t *testing.T) {
	n, seed := startNode(t)
	s := newStation(t, n, seed)
	s.add(3)
	if err := drain(t, s.publisher(), 10*time.Second); err != nil {
		t.Fatal(err)
	}
	newest, _ := s.spool.Checkpoint()
	n.set(func() { n.log = newHistory("genesis") })
	s.add(3)
	p := s.publisher()
	if err := drain(t, p, 2*time.Second); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("drained: %v", err)
	}
	if held := s.spool.Stats(); held.Pending != 3 {
		t.Fatalf("the spool holds %+v", held)
	}
	if now, _ := s.spool.Checkpoint(); string(now) != string(newest) {
		t.Errorf("the newest checkpoint moved")
	}
	if conflict, err := s.spool.Conflict(); err != nil || conflict == nil {
		t.Errorf("the contradicting note was not kept: %v; %s", err, p.Status().LastFault)
	}
}

// TestOlderCopy: a node whose newest checkpoint is smaller than one that it has
// proved, and that knows no proof up to there, was put back; its note is kept.
func TestOlderCopy(t *testing.T) {
	n, seed := startNode(t)
	s := newStation(t, n, seed)
	s.add(17)
	if err := drain(t, s.publisher(), 10*time.Second); err != nil {
		t.Fatal(err)
	}
	newest, _ := s.spool.Checkpoint()
	n.set(func() { n.older = 2 })
	const want = "the node shows 2 entries, it has proved 18 before: it went back to an older copy"
	p := s.publisher()
	err := p.Refresh(t.Context()) // ends by itself
	if _, ok := errors.AsType[*publish.Conflict](err); !ok || !strings.HasPrefix(err.Error(), want) {
		t.Fatalf("followed an older copy: %v", err)
	}
	if got := p.Status(); !strings.HasPrefix(got.Conflict, want) || !strings.HasPrefix(got.LastFault, want) {
		t.Errorf("the status is %+v", got)
	}
	note, err := s.spool.Conflict()
	if err != nil {
		t.Fatal(err)
	}
	if u, err := checkpoint.ParseUnverified(note); err != nil || u.Size != 2 {
		t.Errorf("the kept note is %q: %v", note, err)
	}
	if now, _ := s.spool.Checkpoint(); string(now) != string(newest) {
		t.Errorf("the newest checkpoint moved")
	}
	// Run sees it, too, and once the right copy is back it is no longer so.
	s.add(1)
	p = s.publisher()
	if err := drain(t, p, time.Second); !errors.Is(err, context.DeadlineExceeded) && err != nil {
		t.Fatal(err)
	}
	if got := p.Status().Conflict; !strings.HasPrefix(got, want) {
		t.Errorf("Drain sees %q", got)
	}
	n.set(func() { n.older = 0 })
	if err := p.Refresh(t.Context()); err != nil || p.Status().Conflict != "" {
		t.Errorf("the right copy: %v, %q", err, p.Status().Conflict)
	}
}

// TestNoConflict: a node that is well, silent, or damaged is never accused.
func TestNoConflict(t *testing.T) {
	n, seed := startNode(t)
	s := newStation(t, n, seed)
	ctx, stop := context.WithCancel(t.Context())
	grown := make(chan struct{})
	go func() { // others append meanwhile
		defer close(grown)
		for i := 0; ctx.Err() == nil; i++ {
			n.set(func() {
				if err := n.log.append(typ, fmt.Sprint("other ", i), []byte("{}")); err != nil {
					t.Error(err)
				}
			})
			time.Sleep(time.Millisecond)
		}
	}()
	for range 10 {
		s.add(20)
		p := s.publisher()
		if err := p.Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := drain(t, p, 30*time.Second); err != nil {
			t.Fatalf("%v: %s", err, p.Status().LastFault)
		}
	}
	stop()
	<-grown
	refreshFails := func(change func()) {
		t.Helper()
		n.set(change)
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		if err := s.publisher().Refresh(ctx); err == nil {
			t.Error("followed")
		}
	}
	refreshFails(func() { n.mute = true })
	refreshFails(func() {
		n.mute, n.noProof = false, true
		if err := n.log.append(typ, "one more", []byte("{}")); err != nil {
			t.Error(err)
		}
	})
	if note, err := s.spool.Conflict(); err != nil || note != nil {
		t.Errorf("accused by %q, %v", note, err)
	}
}

// TestNeverBack: a receipt under an older checkpoint releases its event, over
// a consistency proof too, and the newest checkpoint stays.
func TestNeverBack(t *testing.T) {
	n, seed := startNode(t)
	s := newStation(t, n, seed)
	late := s.add(1)[0].ID
	n.set(func() {
		n.receipt = func(_ *node, id string) *submission.Notice {
			if id != late {
				return nil
			}
			return &submission.Notice{ID: id, Receipt: "not yet"}
		}
	})
	if err := drain(t, s.publisher(), time.Second); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}
	s.add(5)
	if err := drain(t, s.publisher(), 2*time.Second); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}
	newest, _ := s.spool.Checkpoint()
	if held := s.spool.Stats(); held.Pending != 1 || newest == nil {
		t.Fatalf("the spool holds %+v", held)
	}
	n.set(func() {
		n.asked = 0
		n.receipt = func(n *node, id string) *submission.Notice {
			e := n.log.byID[id]
			return n.log.proveAt(n.t, e.Index+1, id, e.Header.Bytes(), origin, n.signer)
		}
	})
	p := s.publisher()
	if err := drain(t, p, 10*time.Second); err != nil {
		t.Fatalf("%v: %s", err, p.Status().LastFault)
	}
	if now, _ := s.spool.Checkpoint(); string(now) != string(newest) {
		t.Errorf("the newest checkpoint moved from %q to %q", newest, now)
	}
	n.set(func() {
		if n.asked == 0 {
			t.Error("the older checkpoint was believed without a consistency proof")
		}
	})
}

func TestRefusals(t *testing.T) {
	n, seed := startNode(t)
	s := newStation(t, n, seed)
	item := s.add(1)[0]
	own := hex.EncodeToString(item.Payload[:])
	refusal := func(code, payload string, signed bool) func(*node, string) *submission.Notice {
		return func(_ *node, id string) *submission.Notice {
			return &submission.Notice{ID: id, Refusal: &submission.Refusal{Code: code, Where: "x", Text: "no", Payload: payload, Signed: signed, Time: "2026-11-24T20:00:00.000000Z"}}
		}
	}
	for name, r := range map[string]func(*node, string) *submission.Notice{
		"of another payload": refusal("event.schema", strings.Repeat("0", 64), true),
		"of no payload":      refusal("event.json", "", false),
		"of a bad signature": refusal("event.signature", own, false),
		"of an unknown key":  refusal("ingest.key-unknown", own, false),
	} {
		n.set(func() { n.receipt = r })
		p := s.publisher()
		if err := drain(t, p, 700*time.Millisecond); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("a refusal %s: %v", name, err)
		}
		if held := s.spool.Stats(); held.Pending != 1 || held.Refused != 0 || p.Status().OddRefusals == 0 {
			t.Fatalf("a refusal %s: %+v, %+v", name, held, p.Status())
		}
	}
	for name, r := range map[string]func(*node, string) *submission.Notice{
		"of a signed payload": refusal("trust.type", own, true),
		"of bad content":      refusal("submission.artifact-digest", own, false),
	} {
		n.set(func() { n.receipt = r })
		if err := drain(t, s.publisher(), 10*time.Second); err != nil {
			t.Fatalf("a refusal %s: %v", name, err)
		}
		refused, err := s.spool.Refused(0, 10)
		if err != nil || len(refused) != 1 || refused[0].ID != item.ID || refused[0].Refusal.Text != "no" {
			t.Fatalf("a refusal %s: %+v, %v", name, refused, err)
		}
		if _, err := s.spool.Retry(); err != nil {
			t.Fatal(err)
		}
	}
	n.set(func() { n.receipt = nil })
	if err := drain(t, s.publisher(), 10*time.Second); err != nil {
		t.Fatal(err)
	}
}

// TestLostNotices: what is not pushed is asked for.
func TestLostNotices(t *testing.T) {
	n, seed := startNode(t)
	n.set(func() { n.silent = true })
	s := newStation(t, n, seed)
	s.add(20)
	if err := drain(t, s.publisher(), 10*time.Second); err != nil {
		t.Fatal(err)
	}
}

// TestDuplicateIsAskedFor: what an earlier process sent, and died before it was
// told, is not waited for with all patience.
func TestDuplicateIsAskedFor(t *testing.T) {
	n, seed := startNode(t)
	n.set(func() { n.silent = true })
	s := newStation(t, n, seed)
	s.Patience = time.Minute
	s.add(20)
	if err := drain(t, s.publisher(), time.Second); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}
	if err := drain(t, s.publisher(), 20*time.Second); err != nil {
		t.Fatal(err)
	}
}

// TestNotDelivered: the broker's ack releases nothing where the node has not
// logged the event.
func TestNotDelivered(t *testing.T) {
	n, seed := startNode(t)
	n.set(func() { n.deaf = true })
	s := newStation(t, n, seed)
	s.add(3)
	if err := drain(t, s.publisher(), 1500*time.Millisecond); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}
	if held := s.spool.Stats(); held.Pending != 3 {
		t.Fatalf("the spool holds %+v", held)
	}
}

func TestAhead(t *testing.T) {
	n, seed := startNode(t)
	s := newStation(t, n, seed)
	item := s.add(1)[0]
	for name, last := range map[string]bus.Last{
		"a higher number":                   {Seq: 2, Payload: strings.Repeat("0", 64)},
		"another payload under this number": {Seq: 1, Payload: strings.Repeat("0", 64)},
	} {
		n.set(func() { n.last = map[string]bus.Last{typ: last} })
		if err := drain(t, s.publisher(), 5*time.Second); !errors.Is(err, publish.ErrAhead) {
			t.Errorf("%s: %v", name, err)
		}
	}
	n.set(func() { n.last = map[string]bus.Last{typ: {Seq: 1, Payload: hex.EncodeToString(item.Payload[:])}} })
	if err := drain(t, s.publisher(), 5*time.Second); err != nil {
		t.Error(err)
	}
}

// TestRunGoesOn: what comes onto the spool while the publisher runs goes out.
func TestRunGoesOn(t *testing.T) {
	n, seed := startNode(t)
	s := newStation(t, n, seed)
	p := s.publisher()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	for range 3 {
		s.add(5)
		p.Wake()
		for end := time.Now().Add(10 * time.Second); s.spool.Stats().Pending > 0; time.Sleep(10 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("still pending: %+v", p.Status())
			}
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func TestNobodyThere(t *testing.T) {
	n, seed := startNode(t)
	s := newStation(t, n, seed)
	s.URL = "nats://127.0.0.1:1"
	s.add(1)
	p := s.publisher()
	if err := drain(t, p, time.Second); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}
	if st := p.Status(); st.Connected || st.LastFault != "the node is not reachable at nats://127.0.0.1:1" {
		t.Errorf("status %+v", st)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := s.publisher().Refresh(ctx); err == nil || !strings.HasSuffix(err.Error(), "the node is not reachable at nats://127.0.0.1:1") {
		t.Errorf("Refresh: %v", err)
	}
}

// TestNotEnrolled: a node that does not let us in is not one that is away.
func TestNotEnrolled(t *testing.T) {
	n, seed := startNode(t)
	s := newStation(t, n, seed)
	s.SeedFile = filepath.Join(t.TempDir(), "other.seed")
	if _, err := publish.GenerateSeed(s.SeedFile); err != nil {
		t.Fatal(err)
	}
	const want = "the node does not know this collector's NKEY: is it enrolled?"
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	p := s.publisher()
	if err := p.Refresh(ctx); err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("Refresh: %v", err)
	}
	s.add(1)
	if err := drain(t, p, time.Second); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}
	if got := p.Status().LastFault; !strings.HasPrefix(got, want) {
		t.Errorf("the fault is %q", got)
	}
}

func TestSeedFile(t *testing.T) {
	n, seed := startNode(t)
	if _, err := publish.GenerateSeed(seed); err == nil {
		t.Error("a seed was overwritten")
	}
	s := newStation(t, n, seed)
	s.add(1)
	if err := os.Chmod(seed, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := drain(t, s.publisher(), time.Second); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("a seed that others can read: %v", err)
	}
	s.SeedFile = filepath.Join(t.TempDir(), "other.seed")
	if err := os.WriteFile(s.SeedFile, []byte("no seed\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := drain(t, s.publisher(), time.Second); err == nil || !strings.Contains(err.Error(), "NKEY") {
		t.Errorf("no seed: %v", err)
	}
}

// TestRefresh: before anything was sent, the newest checkpoint is the node's,
// and it moves only over a consistency proof.
func TestRefresh(t *testing.T) {
	n, seed := startNode(t)
	s := newStation(t, n, seed)
	n.set(func() {
		if err := n.log.append(typ, "other", []byte("{}")); err != nil {
			t.Fatal(err)
		}
	})
	if err := s.publisher().Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	stored, err := s.spool.Checkpoint()
	if err != nil {
		t.Fatal(err)
	}
	u, err := checkpoint.ParseUnverified(stored)
	if err != nil || u.Size != 2 {
		t.Fatalf("newest checkpoint: %v %v", u, err)
	}
	n.set(func() {
		if err := n.log.append(typ, "more", []byte("{}")); err != nil {
			t.Fatal(err)
		}
		n.noProof = true
	})
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if err := s.publisher().Refresh(ctx); err == nil {
		t.Fatal("followed a checkpoint without a consistency proof")
	}
	if again, err := s.spool.Checkpoint(); err != nil || string(again) != string(stored) {
		t.Fatalf("the newest checkpoint moved to %s (%v)", again, err)
	}
}
