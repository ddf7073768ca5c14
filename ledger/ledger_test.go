package ledger_test

import (
	"bytes"
	"encoding/json/v2"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"evidence-ledger/ledger"
	"evidence-ledger/ledger/ledgertest"
	"evidence-ledger/ledger/store"
	"evidence-ledger/verify"
	"evidence-ledger/verify/entry"
	"evidence-ledger/verify/event"
	"evidence-ledger/verify/problem"
	"evidence-ledger/verify/trust"
)

const dir = "/ledger"

// memory is a new ledger in memory with one collector: two entries.
func memory(t *testing.T) (*ledgertest.Ledger, *ledgertest.Collector) {
	t.Helper()
	l := ledgertest.Create(t, dir, vfs.NewMem())
	return l, l.Enrol("web-1", "patch.*")
}

// outcomes appends and wants for each candidate an index ("7"), the index of a
// duplicate ("=7") or the code of a refusal.
func outcomes(t *testing.T, l *ledgertest.Ledger, candidates []*ledger.Candidate, want ...string) {
	t.Helper()
	out, err := l.Append(candidates)
	if err != nil {
		t.Fatal(err)
	}
	for i, o := range out {
		got := fmt.Sprint(o.Index)
		if o.Duplicate {
			got = "=" + got
		}
		if o.Err != nil {
			got = problem.Of(o.Err).Code
		}
		if i >= len(want) || got != want[i] {
			t.Errorf("candidate %d: %s (%v), want %v", i, got, o.Err, want)
		}
	}
}

func take(made ...*ledgertest.Made) (out []*ledger.Candidate) {
	for _, m := range made {
		out = append(out, m.Candidate())
	}
	return out
}

// rewrapped is the same event in other JSON.
func rewrapped(t *testing.T, m *ledgertest.Made) *ledger.Candidate {
	t.Helper()
	var v struct {
		PayloadType string `json:"payloadType"`
		Payload     string `json:"payload"`
		Signatures  []struct {
			KeyID string `json:"keyid"`
			Sig   string `json:"sig"`
		} `json:"signatures"`
	}
	if err := json.Unmarshal(m.Envelope, &v); err != nil {
		t.Fatal(err)
	}
	raw := fmt.Appendf(nil, "{\n  \"signatures\": [ {\"sig\":%q, \"keyid\":%q} ],\n \"payload\": %q, \"payloadType\": %q }", v.Signatures[0].Sig, v.Signatures[0].KeyID, v.Payload, v.PayloadType)
	return (&ledgertest.Made{Envelope: raw, Artifact: m.Artifact}).Candidate()
}

func TestAppend(t *testing.T) {
	l, web := memory(t)
	one, two := web.Event("one"), web.Event("two")
	outcomes(t, l, take(one, two, one), "2", "3", "=2")
	outcomes(t, l, append(take(two), rewrapped(t, one), rewrapped(t, two)), "=3", "=2", "=3")
	l.Verified(4)

	// The entry holds the envelope's exact bytes.
	p := l.Prove()
	defer p.Close()
	raw, err := p.Snapshot().Entry(2)
	if err != nil || !bytes.HasSuffix(raw, append([]byte("\n\n"), one.Envelope...)) {
		t.Errorf("%v: %s", err, raw)
	}
	receipt, err := p.ReceiptByID(one.ID)
	if err != nil {
		t.Fatal(err)
	}
	r, err := verify.Receipt(receipt, one.Event, l.Identity)
	if err != nil || r.Index != 2 || r.Checkpoint.Size != 4 {
		t.Errorf("%+v, %v", r, err)
	}
	// What came in other JSON has no receipt of its own bytes: the entry's are proved.
	if _, err := verify.Receipt(receipt, two.Event, l.Identity); problem.Of(err) == nil || problem.Of(err).Code != "proof.inclusion" {
		t.Errorf("another event's receipt: %v", err)
	}
}

func TestRefused(t *testing.T) {
	l, web := memory(t)
	other := ledgertest.NewCollector(t, "web-1", "patch.*")
	db := l.Enrol("db-1", "vulnerability.*")
	good := web.Event("good")
	outcomes(t, l, take(good), "3")

	draft := func(c *ledgertest.Collector, change func(ev *event.Event)) *ledgertest.Made {
		ev, data := c.Draft("bad")
		change(ev)
		return c.Sign(ev, data)
	}
	badSignature := *web.Event("badly signed")
	env, err := event.ParseEnvelope(badSignature.Envelope)
	if err != nil {
		t.Fatal(err)
	}
	env.Signatures[0].Sig[0] ^= 1
	badSignature.Envelope = event.Wrap(env.Payload, env.Signatures)
	same := draft(web, func(ev *event.Event) { ev.ID = good.ID })
	batchOne := web.Event("in one batch")
	batchTwo := draft(web, func(ev *event.Event) { ev.ID = batchOne.ID })
	resigned := *good
	resigned.Envelope = wrapped(t, good.Payload, other)
	forged, err := ledger.Own("ledger.rejections", ledgertest.Origin, "forged", map[string]any{
		"from": "2026-11-24T08:00:00.000000Z", "to": "2026-11-24T09:00:00.000000Z", "collectors": map[string]any{"web-1": map[string]int{"event.json": 1}},
	}, time.Now(), web.Key)
	if err != nil {
		t.Fatal(err)
	}
	outcomes(t, l, append(take(
		&badSignature,
		draft(other, func(*event.Event) {}),
		draft(db, func(*event.Event) {}),
		draft(db, func(ev *event.Event) { ev.Collector = "web-1" }),
		draft(web, func(ev *event.Event) { ev.Ledger = "another.example" }),
		same, batchOne, batchTwo, &resigned,
	), ledger.NewCandidate(forged, nil), ledger.NewCandidate([]byte("{}"), nil)),
		"event.signature", "authority.key", "authority.type", "authority.key", "event.ledger", "event.id-repeated", "4", "event.id-repeated", "authority.key",
		"authority.node-key", "event.payload-type")
	l.Verified(5)
}

func wrapped(t *testing.T, payload []byte, c *ledgertest.Collector) []byte {
	t.Helper()
	envelope, err := ledger.Sign(payload, c.Key)
	if err != nil {
		t.Fatal(err)
	}
	return envelope
}

// TestNumbers: a number is used once, and links to both neighbours, in
// whatever order they come.
func TestNumbers(t *testing.T) {
	l, web := memory(t)
	one, two, three, four, five := web.Event("1"), web.Event("2"), web.Event("3"), web.Event("4"), web.Event("5")
	number := func(like *ledgertest.Made, prev [32]byte) *ledgertest.Made {
		ev, data := web.Draft("another")
		ev.Seq, ev.Prev = like.Seq, prev
		return web.Sign(ev, data)
	}
	outcomes(t, l, take(three), "2")
	outcomes(t, l, take(
		number(three, three.Prev),          // used
		number(four, two.Prev),             // 3 is there, and another
		number(two, [32]byte{9}),           // 3 follows another 2
		one,                                // out of order
		number(two, [32]byte{1}),           // 1 is there, and another
		two,                                // fits both
		five,                               // 4 is not there yet
		number(four, four.Prev),            // but 5 follows another 4
		four, number(four, four.Prev), one, // used; the same again
	), "collector.seq-repeated", "collector.prev", "collector.prev", "3", "collector.prev", "4", "5", "collector.prev", "6", "collector.seq-repeated", "=3")
	l.Verified(7)
}

func TestTrust(t *testing.T) {
	l, _ := memory(t)
	a, b := ledgertest.NewCollector(t, "db-1", "patch.*"), ledgertest.NewCollector(t, "db-2", "patch.*")
	first := ledgertest.Enrolment(t, l.State(), l.Admin, a, l.Clock.Now())
	stale := ledgertest.Enrolment(t, l.State(), l.Admin, b, l.Clock.Now())
	early := a.Event("in the batch of its enrolment")
	outcomes(t, l, append([]*ledger.Candidate{
		ledger.NewCandidate(ledgertest.Enrolment(t, l.State(), l.Node, b, l.Clock.Now()), nil),
		ledger.NewCandidate(ledgertest.Enrolment(t, l.State(), a.Key, b, l.Clock.Now()), nil),
		ledger.NewCandidate(first, nil), ledger.NewCandidate(stale, nil), ledger.NewCandidate(first, nil)},
		take(early, b.Event("never enrolled"))...),
		"trust.signer", "trust.signer", "2", "trust.basis", "=2", "3", "authority.key")
	outcomes(t, l, []*ledger.Candidate{ledger.NewCandidate(ledgertest.Enrolment(t, l.State(), l.Admin, a, l.Clock.Now()), nil)}, "trust.keys-distinct")
	genesis, err := ledger.Own(trust.TypeGenesis, ledgertest.Origin, "again", l.State().Genesis(), l.Clock.Now(), l.Node, l.Admin)
	if err != nil {
		t.Fatal(err)
	}
	outcomes(t, l, []*ledger.Candidate{ledger.NewCandidate(genesis, nil)}, "trust.action")
	l.Verified(4)
	l.Close()
	if err := l.Open(); err != nil {
		t.Fatal(err)
	}
	outcomes(t, l, take(a.Event("after a restart")), "4")
	l.Verified(5)
}

func TestClock(t *testing.T) {
	l, web := memory(t)
	refuses := func() {
		t.Helper()
		before := l.Head().Size
		m := web.Event("later")
		_, err := l.Append(take(m))
		var clock *ledger.ClockError
		if !errors.As(err, &clock) || errors.Is(err, ledger.ErrCrashStop) || !strings.Contains(err.Error(), "--accept-clock") || l.Head().Size != before {
			t.Fatalf("%v", err)
		}
	}
	next := uint64(2)
	appends := func() {
		t.Helper()
		out := l.Must(web.Event("now").Candidate())
		if out[0].Index != next {
			t.Fatalf("entry %d", out[0].Index)
		}
		next++
	}
	web.Event("number 1 stays open") // so that refused events leave gaps only
	appends()
	for _, step := range []time.Duration{2 * time.Minute, -2 * time.Minute, 300 * 24 * time.Hour} {
		l.Clock.Set(step)
		refuses()
		l.Clock.Pass(time.Hour)
		refuses()
		l.Clock.Set(-step)
		appends()
	}
	l.Clock.Set(-50 * time.Second) // a small step: time repeats
	appends()
	if a, b := timeOf(t, l, next-2), timeOf(t, l, next-1); !a.Equal(b) {
		t.Errorf("%s, then %s", a, b)
	}
	l.Clock.Pass(time.Hour)
	appends()

	// At a start nothing has elapsed: only behind the last entry is wrong.
	l.Close()
	l.Clock.Set(-2 * time.Minute)
	if err := l.Open(); err != nil {
		t.Fatal(err)
	}
	refuses()
	l.Clock.Set(2 * time.Minute)
	appends()
	l.Close()
	l.Clock.Set(24 * time.Hour)
	if err := l.Open(); err != nil {
		t.Fatal(err)
	}
	appends()

	// An operator confirms.
	l.Clock.Set(-48 * time.Hour)
	refuses()
	c := l.Config()
	c.Clock.Accept = true
	accepted, err := ledger.Open(c)
	if err != nil {
		t.Fatal(err)
	}
	l.Ledger = accepted
	appends()
	l.Clock.Set(48 * time.Hour)
	r := l.Verify()
	for _, p := range r.Problems {
		if p.Code != "collector.gap" { // what was refused has not come again
			t.Error(p)
		}
	}
}

func timeOf(t *testing.T, l *ledgertest.Ledger, index uint64) time.Time {
	t.Helper()
	p := l.Prove()
	defer p.Close()
	raw, err := p.Snapshot().Entry(index)
	if err != nil {
		t.Fatal(err)
	}
	e, err := entry.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	return e.Time
}

// TestSecondPlace: what Open makes of a second place that is not the store's.
func TestSecondPlace(t *testing.T) {
	folder := func(l *ledgertest.Ledger) string { return filepath.Join(l.Dir, "store") }
	cp := func(t *testing.T, to, from string) {
		t.Helper()
		if err := errors.Join(os.RemoveAll(to), os.CopyFS(to, os.DirFS(from))); err != nil {
			t.Fatal(err)
		}
	}
	disk := func(t *testing.T) (*ledgertest.Ledger, *ledgertest.Collector) {
		l := ledgertest.Create(t, filepath.Join(t.TempDir(), "ledger"), nil)
		return l, l.Enrol("web-1", "patch.*")
	}
	reopen := func(t *testing.T, l *ledgertest.Ledger) {
		t.Helper()
		l.Close()
		if err := l.Open(); err != nil {
			t.Fatal(err)
		}
	}
	contradicts := func(t *testing.T, l *ledgertest.Ledger, want string, notes ...[]byte) {
		t.Helper()
		err := l.Open()
		var second *ledger.SecondPlaceError
		if !errors.As(err, &second) || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "hint: ") {
			t.Fatalf("opened: %v", err)
		}
		for _, note := range notes {
			if !bytes.Contains([]byte(err.Error()), note) {
				t.Errorf("the note is not shown: %s", note)
			}
		}
	}
	t.Run("ahead: an old copy of the store", func(t *testing.T) {
		l, web := disk(t)
		l.Close()
		old := filepath.Join(t.TempDir(), "old")
		cp(t, old, folder(l))
		if err := l.Open(); err != nil {
			t.Fatal(err)
		}
		before := l.Head().Note
		l.Must(take(web.Event("1"), web.Event("2"))...)
		after := l.Head().Note
		l.Close()
		cp(t, folder(l), old)
		contradicts(t, l, "lost entries 2 to 3", before, after)
	})
	t.Run("another history of the same size", func(t *testing.T) {
		l, web := disk(t)
		l.Close()
		old := filepath.Join(t.TempDir(), "old")
		cp(t, old, l.Dir)
		one, two := web.Event("1"), web.Event("2")
		if err := l.Open(); err != nil {
			t.Fatal(err)
		}
		l.Must(take(one)...)
		l.Close()
		second, err := os.ReadFile(l.Second.Path())
		if err != nil {
			t.Fatal(err)
		}
		cp(t, l.Dir, old)
		l.Clock.Pass(time.Second)
		for _, m := range take(one, two) { // at another time; then longer than it as well
			if err := l.Open(); err != nil {
				t.Fatal(err)
			}
			l.Must(m)
			own, err := os.ReadFile(l.Second.Path())
			if err != nil {
				t.Fatal(err)
			}
			l.Close()
			if err := os.WriteFile(l.Second.Path(), second, 0o600); err != nil {
				t.Fatal(err)
			}
			contradicts(t, l, "two histories", second[len(second)-150:])
			if err := os.WriteFile(l.Second.Path(), own, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	})
	t.Run("behind: a crash between both", func(t *testing.T) {
		l, web := disk(t)
		second, err := os.ReadFile(l.Second.Path())
		if err != nil {
			t.Fatal(err)
		}
		l.Must(take(web.Event("1"))...)
		l.Close()
		if err := os.WriteFile(l.Second.Path(), second, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := l.Open(); err != nil {
			t.Fatal(err)
		}
		if _, note, err := l.Second.Read(); err != nil || !bytes.Equal(note, l.Head().Note) {
			t.Errorf("not brought forward: %s, %v", note, err)
		}
		l.Must(take(web.Event("2"))...)
		l.Verified(4)
		reopen(t, l)
	})
	t.Run("gone", func(t *testing.T) {
		l, _ := disk(t)
		l.Close()
		if err := os.Remove(l.Second.Path()); err != nil {
			t.Fatal(err)
		}
		contradicts(t, l, "is gone")
	})
	t.Run("unreadable, and of another ledger", func(t *testing.T) {
		l, _ := disk(t)
		l.Close()
		another := ledgertest.Create(t, filepath.Join(t.TempDir(), "another"), nil)
		foreign, err := os.ReadFile(another.Second.Path())
		if err != nil {
			t.Fatal(err)
		}
		for _, text := range [][]byte{nil, []byte("x"), foreign} {
			if err := os.WriteFile(l.Second.Path(), text, 0o600); err != nil {
				t.Fatal(err)
			}
			if err := l.Open(); err == nil || !strings.Contains(err.Error(), l.Second.Path()) {
				t.Fatalf("%q: %v", text, err)
			}
		}
	})
}

// TestOpenAfterCrash takes the power away at any moment: what was told is there,
// and what is there verifies.
func TestOpenAfterCrash(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	for range 25 {
		mem := vfs.NewCrashableMem()
		l := ledgertest.Create(t, dir, mem)
		web := l.Enrol("web-1", "patch.*")
		var told atomic.Uint64
		told.Store(2)
		stop, done := make(chan struct{}), make(chan error, 1)
		go func() {
			for {
				select {
				case <-stop:
					done <- nil
					return
				default:
				}
				if _, err := l.Append(take(web.Event("a"), web.Event("b"))); err != nil {
					done <- err
					return
				}
				told.Store(l.Head().Size)
			}
		}()
		time.Sleep(time.Duration(rng.IntN(12_000)) * time.Microsecond)
		sure := told.Load()
		left := mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: rng.IntN(101), RNG: rng})
		close(stop)
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		l.Close()
		l.FS = left
		if err := l.Open(); err != nil {
			t.Fatalf("%d entries were told: %v", sure, err)
		}
		if got := l.Head().Size; got < sure {
			t.Fatalf("%d entries were told, %d are there", sure, got)
		}
		l.Verified(l.Head().Size)
		l.Close()
	}
}

// TestFailingDisk fails each kind of write once: what is told is true, and what
// the next start finds verifies. Nothing is told after a commit that failed.
func TestFailingDisk(t *testing.T) {
	for name, test := range map[string]struct {
		path  string // what must be in the path
		kind  errorfs.OpKind
		crash bool
	}{
		"write the log of the store": {".log", errorfs.OpFileWrite, true},
		"sync the log of the store":  {".log", errorfs.OpFileSyncData, true},
		"write the second place":     {"second-place", errorfs.OpFileWrite, true},
		"sync the second place":      {"second-place", errorfs.OpFileSync, true},
		"rename the second place":    {"second-place", errorfs.OpRename, true},
		"write an artifact":          {"artifacts", errorfs.OpFileWrite, false},
		"rename an artifact":         {"artifacts", errorfs.OpRename, false},
	} {
		t.Run(name, func(t *testing.T) {
			mem := vfs.NewCrashableMem()
			var armed, hit atomic.Bool
			l := ledgertest.Create(t, dir, errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
				if armed.Load() && op.Kind == test.kind && strings.Contains(op.Path, test.path) {
					hit.Store(true)
					return errorfs.ErrInjected
				}
				return nil
			})))
			web := l.Enrol("web-1", "patch.*")
			l.Must(take(web.Event("before"))...)
			armed.Store(true)
			during := web.Event("during")
			_, err := l.Append(take(during))
			armed.Store(false)
			if !hit.Load() || err == nil {
				t.Fatalf("hit: %v, error: %v", hit.Load(), err)
			}
			if errors.Is(err, ledger.ErrCrashStop) != test.crash || errors.Is(l.Err(), ledger.ErrCrashStop) != test.crash {
				t.Fatalf("%v, %v", err, l.Err())
			}
			if !test.crash { // nothing has happened; it goes on by itself
				l.Must(take(during, web.Event("after"))...)
				l.Verified(5)
				return
			}
			if l.Head().Size != 3 {
				t.Errorf("%d entries are told", l.Head().Size)
			}
			if _, err := l.Append(take(web.Event("after"))); !errors.Is(err, ledger.ErrCrashStop) {
				t.Errorf("appended after it: %v", err)
			}
			if err := l.LogRejections(true); err != nil && !errors.Is(err, ledger.ErrCrashStop) && !errors.Is(err, store.ErrFailed) {
				t.Error(err)
			}
			l.FS = mem.CrashClone(vfs.CrashCloneCfg{})
			if err := l.Open(); err != nil {
				t.Fatal(err)
			}
			if strings.Contains(name, "second") && l.Head().Size != 4 {
				t.Errorf("the commit before it is gone: %d entries", l.Head().Size)
			}
			if _, note, err := l.Second.Read(); err != nil || !bytes.Equal(note, l.Head().Note) {
				t.Errorf("the second place: %v", err)
			}
			l.Must(take(during)...) // comes again
			l.Verified(4)
		})
	}
}

// TestRejections: what is refused is counted in the log, once a minute.
func TestRejections(t *testing.T) {
	l, web := memory(t)
	bad := func(n int) {
		t.Helper()
		for range n {
			ev, data := web.Draft("bad")
			ev.Ledger = "another.example"
			if out, err := l.Append(take(web.Sign(ev, data))); err != nil || out[0].Err == nil {
				t.Fatal(out, err)
			}
		}
	}
	log := func(force bool, size uint64) {
		t.Helper()
		if err := l.LogRejections(force); err != nil {
			t.Fatal(err)
		}
		if got := l.Head().Size; got != size {
			t.Fatalf("%d entries, want %d", got, size)
		}
	}
	counted := func(want uint64) {
		t.Helper()
		p := l.Prove()
		defer p.Close()
		raw, err := p.Snapshot().Entry(p.Head().Size - 1)
		if err != nil {
			t.Fatal(err)
		}
		e, err := entry.Parse(raw)
		if err != nil {
			t.Fatal(err)
		}
		ev, err := event.Parse(e.Envelope, event.Builtin())
		if err != nil {
			t.Fatal(err)
		}
		var data struct {
			From, To   string
			Collectors map[string]map[string]uint64
		}
		if err := json.Unmarshal(ev.Data, &data, json.MatchCaseInsensitiveNames(true)); err != nil {
			t.Fatal(err)
		}
		if data.Collectors["web-1"]["event.ledger"] != want || data.From >= data.To || ev.Type != "ledger.rejections" {
			t.Errorf("%s: %s, want %d", ev.Type, ev.Data, want)
		}
	}
	log(true, 2) // nothing to say
	bad(3)
	log(false, 3)
	counted(3)
	log(true, 3) // all is said
	bad(2)
	l.Clock.Pass(30 * time.Second)
	log(false, 3) // not yet
	l.Close()
	if err := l.Open(); err != nil { // the counts outlive a restart
		t.Fatal(err)
	}
	bad(1)
	l.Clock.Pass(31 * time.Second)
	log(false, 4)
	counted(3)
	bad(4)
	log(true, 5)
	counted(4)
	p := l.Prove()
	defer p.Close()
	n := 0
	if err := p.Snapshot().Quarantine("web-1", func(q store.Quarantined) error { n++; return nil }); err != nil || n != 10 {
		t.Errorf("%d in quarantine, %v", n, err)
	}
	l.Verified(5)
}
