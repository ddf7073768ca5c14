package store_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"evidence-ledger/ledger/store"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

var (
	crashSeed = flag.Uint64("crash-seed", 0, "run TestCrash with this one seed")
	crashRuns = flag.Int("crash-runs", 200, "how often TestCrash crashes")
)

// TestCrash takes the power away at any moment, keeps a random part of what was
// not synced, and opens what is left.
func TestCrash(t *testing.T) {
	if *crashSeed != 0 {
		crash(t, *crashSeed)
		return
	}
	first := uint64(time.Now().UnixNano())
	for i := range *crashRuns {
		crash(t, first+uint64(i))
		if t.Failed() {
			return
		}
	}
}

// machine is a node that commits as fast as it can.
type machine struct {
	fs    vfs.FS
	acked atomic.Uint64
	err   error
}

// run creates a ledger and fills it in the order that the node has: artifact,
// commit, second place.
func (m *machine) run(rng *rand.Rand, stop <-chan struct{}) {
	s, err := store.Create(dir, store.Options{FS: m.fs})
	if err != nil {
		m.err = err
		return
	}
	artifacts := store.NewArtifacts(m.fs, dir)
	second := store.NewSecondPlace(m.fs, store.SecondPlaceFolder(m.fs, dir))
	var chain [32]byte
	for n := uint64(0); m.err == nil; {
		select {
		case <-stop:
			m.err = s.Close()
			return
		default:
		}
		to := n + 1 + rng.Uint64N(8)
		var list []store.Artifact
		for i := n; i < to; i++ {
			list = append(list, store.Artifact{SHA256: sha256.Sum256(raw(i)), Data: raw(i)})
		}
		b := s.NewBatch()
		chain = fill(b, n, to, chain)
		m.err = artifacts.PutAll(list)
		if m.err == nil {
			m.err = s.Commit(b)
		}
		if m.err == nil {
			m.acked.Store(to)
			m.err = second.Write(chain, note(to))
		}
		n = to
	}
	_ = s.Close()
}

func crash(t *testing.T, seed uint64) {
	t.Helper()
	fail := func(format string, args ...any) {
		t.Helper()
		t.Errorf("go test -run TestCrash -crash-seed=%d: %s", seed, fmt.Sprintf(format, args...))
	}
	rng := rand.New(rand.NewPCG(seed, 0))
	mem := vfs.NewCrashableMem()
	m := &machine{fs: mem}
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		m.run(rand.New(rand.NewPCG(seed, 1)), stop)
		close(done)
	}()
	time.Sleep(time.Duration(rng.IntN(8000)) * time.Microsecond)
	acked := m.acked.Load()
	left := mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: rng.IntN(101), RNG: rng})
	close(stop)
	<-done
	if m.err != nil {
		fail("%v", m.err)
		return
	}
	n := checkLeft(t, fail, left, acked)
	artifacts := store.NewArtifacts(left, dir)
	for i := range n {
		if ok, err := artifacts.Has(sha256.Sum256(raw(i))); !ok || err != nil {
			fail("artifact of entry %d is missing: %v", i, err)
		}
	}
}

// checkLeft opens what a crash left, goes on with it, and returns how many
// entries it had.
func checkLeft(t *testing.T, fail func(string, ...any), left vfs.FS, acked uint64) (n uint64) {
	s, err := store.Open(dir, store.Options{FS: left})
	if errors.Is(err, store.ErrNoLedger) && acked == 0 {
		return 0 // in the middle of Create
	}
	if err != nil {
		fail("open with %d acknowledged: %v", acked, err)
		return 0
	}
	n = size(t, s)
	if n < acked {
		fail("%d entries acknowledged, %d left", acked, n)
	}
	checkRows(t, s, n)
	r := s.Snapshot()
	signed, chain, _, err := r.LatestCheckpoint()
	if n > 0 && (err != nil || signed != n) {
		fail("%d entries, but the last checkpoint has size %d: %v", n, signed, err)
	}
	checkSecondPlace(fail, left, r, acked)
	r.Close()
	b := s.NewBatch()
	fill(b, n, n+3, chain)
	if err := s.Commit(b); err != nil {
		fail("going on: %v", err)
	}
	if err := s.Close(); err != nil {
		fail("close: %v", err)
	}
	return n
}

// checkSecondPlace holds that it is never ahead of the store.
func checkSecondPlace(fail func(string, ...any), fs vfs.FS, r *store.Snapshot, acked uint64) {
	chain, text, err := store.NewSecondPlace(fs, store.SecondPlaceFolder(fs, dir)).Read()
	if errors.Is(err, store.ErrNotFound) {
		return
	}
	if err != nil {
		fail("%v", err)
		return
	}
	var size uint64
	fmt.Sscanf(string(text), "note of size %d\n", &size)
	c, n, err := r.CheckpointAt(size)
	if err != nil || c != chain || !bytes.Equal(n, text) {
		fail("second place has a checkpoint of size %d (acknowledged %d), the store: %v", size, acked, err)
	}
}

// TestWriteErrors lets one write after the other fail, once and for good, in the
// life of a ledger: each is an error, or without effect, and what was
// acknowledged before is there when the machine starts again.
func TestWriteErrors(t *testing.T) {
	for _, forGood := range []bool{false, true} {
		for at := int32(0); ; at++ {
			mem := vfs.NewCrashableMem()
			var count, hit atomic.Int32
			fs := errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
				if op.Kind.ReadOrWrite() != errorfs.OpIsWrite || op.Kind == errorfs.OpFileClose {
					return nil
				}
				if n := count.Add(1) - 1; n != at && (!forGood || n < at) {
					return nil
				}
				hit.Store(1)
				return errorfs.ErrInjected
			}))
			acked := life(t, fs, at)
			left := mem.CrashClone(vfs.CrashCloneCfg{})
			checkLeft(t, func(format string, args ...any) {
				t.Errorf("write %d fails (for good: %v): %s", at, forGood, fmt.Sprintf(format, args...))
			}, left, acked)
			if hit.Load() == 0 {
				t.Logf("%d writes in a life", at)
				break
			}
			if t.Failed() {
				return
			}
		}
	}
}

// life is all that writes; it goes on after every error that is not final.
func life(t *testing.T, fs vfs.FS, at int32) (acked uint64) {
	s, err := store.Create(dir, store.Options{FS: fs})
	if err != nil {
		return 0
	}
	var chain [32]byte
	for n := uint64(0); n < 9; n += 3 {
		b := s.NewBatch()
		next := fill(b, n, n+3, chain)
		if err := s.Commit(b); err != nil {
			if !errors.Is(err, store.ErrFailed) || s.Err() == nil {
				t.Errorf("write %d: a failed commit returns %v", at, err)
			}
			if err := s.Commit(s.NewBatch()); !errors.Is(err, store.ErrFailed) {
				t.Errorf("write %d: commit after a failed one: %v", at, err)
			}
			r := s.Snapshot()
			if _, err := r.Entry(0); !errors.Is(err, store.ErrFailed) {
				t.Errorf("write %d: read after a failed commit: %v", at, err)
			}
			r.Close()
			break
		}
		acked, chain = n+3, next
		_ = store.NewArtifacts(fs, dir).Put(sha256.Sum256(raw(n)), raw(n))
		_ = store.NewSecondPlace(fs, store.SecondPlaceFolder(fs, dir)).Write(chain, note(n+3))
	}
	_ = s.Checkpoint(fmt.Sprintf("/copy-%d", at))
	_ = s.Close()
	return acked
}

// TestUnsyncedIsUnseen holds a commit's sync back and looks.
func TestUnsyncedIsUnseen(t *testing.T) {
	var hold atomic.Bool
	reached, release := make(chan struct{}), make(chan struct{})
	fs := errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
		sync := op.Kind == errorfs.OpFileSync || op.Kind == errorfs.OpFileSyncData || op.Kind == errorfs.OpFileSyncTo
		if sync && strings.HasSuffix(op.Path, ".log") && hold.Swap(false) {
			close(reached)
			<-release
		}
		return nil
	}))
	s := create(t, store.Options{FS: fs})
	b := s.NewBatch()
	fill(b, 0, 3, [32]byte{})
	hold.Store(true)
	done := make(chan error)
	go func() { done <- s.Commit(b) }()
	<-reached
	time.Sleep(20 * time.Millisecond) // Pebble shows the batch about now
	same(t, "size while the commit syncs", size(t, s), uint64(0))
	close(release)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	same(t, "size after the commit", size(t, s), uint64(3))
	closeStore(t, s)
}
