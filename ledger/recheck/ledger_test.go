package recheck_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"evidence-ledger/ledger/ledgertest"
	"evidence-ledger/ledger/node"
	"evidence-ledger/ledger/sign"
	"evidence-ledger/verify"
	"evidence-ledger/verify/checkpoint"
	"evidence-ledger/verify/event"
	"evidence-ledger/verify/problem"
)

// The ledger that these tests tamper with: genesis, two enrolments, batches of
// events by both collectors (out of order once), refused events in quarantine,
// and their counts in the log.
const (
	size     = 530 // two full tiles
	lastRun  = size - 2
	counts   = size - 1 // the ledger.rejections entry
	firstRun = 3
	runBatch = 5 // so there are checkpoints of 3, 8, 13, ... entries
)

type original struct {
	dir      string
	crashed  string // its store as a crash leaves it
	identity *checkpoint.Identity
	node     *sign.Key
	notes    map[uint64]string // signed checkpoints by size
}

var (
	makeOnce sync.Once
	made     original
	scratch  string
)

func TestMain(m *testing.M) {
	var err error
	if scratch, err = os.MkdirTemp("", "recheck"); err != nil {
		panic(err)
	}
	code := m.Run()
	os.RemoveAll(scratch)
	os.Exit(code)
}

// theLedger makes it once; tests copy it.
func theLedger(t *testing.T) original {
	t.Helper()
	makeOnce.Do(func() { made = makeLedger(t, filepath.Join(scratch, "ledger")) })
	if made.dir == "" {
		t.Fatal("the ledger could not be made")
	}
	return made
}

func makeLedger(t *testing.T, dir string) original {
	l := ledgertest.Create(t, dir, nil)
	o := original{dir: dir, identity: l.Identity, node: l.Node, notes: map[uint64]string{}}
	keep := func() { o.notes[l.Head().Size] = string(l.Head().Note) }
	keep()
	web, db := l.Enrol("web-1", "patch.*"), l.Enrol("db-1", ledgertest.Type)
	keep()
	for i := 0; l.Head().Size <= lastRun; {
		var run []*ledgertest.Made
		for range min(runBatch, lastRun+1-int(l.Head().Size)) {
			from := web
			if i%3 == 0 {
				from = db
			}
			run = append(run, oneOf(from, i))
			i++
		}
		if i == 50 {
			run[1], run[2] = run[2], run[1] // numbers may arrive out of order
		}
		l.Clock.Pass(time.Second)
		l.Must(candidates(run...)...)
		keep()
	}
	refuse(t, l, web)
	if err := l.LogRejections(true); err != nil {
		t.Fatal(err)
	}
	keep()
	refuse(t, l, db) // counted, but not in the log yet
	l.Verified(size)
	o.crashed = dir + "-crashed"
	if err := os.CopyFS(o.crashed, os.DirFS(filepath.Join(dir, "store"))); err != nil {
		t.Fatal(err)
	}
	l.Close()
	return o
}

// oneOf makes an event; most share one artifact.
func oneOf(c *ledgertest.Collector, i int) *ledgertest.Made {
	ev, data := c.Draft("run")
	if i%25 != 0 {
		data = []byte("an artifact of many events\n")
		ev.Subject = []event.Artifact{{Name: "history.log", SHA256: sha256.Sum256(data)}}
	}
	return c.Sign(ev, data)
}

func refuse(t *testing.T, l *ledgertest.Ledger, c *ledgertest.Collector) {
	ev, data := c.Draft("too early")
	ev.Ledger = "another.example"
	out, err := l.Append(candidates(c.Sign(ev, data)))
	if err != nil || problem.Of(out[0].Err) == nil {
		t.Fatalf("not refused: %+v, %v", out, err)
	}
}

// copied is a copy of the ledger that a test may spoil.
func copied(t *testing.T) original {
	t.Helper()
	o := theLedger(t)
	dir := filepath.Join(t.TempDir(), "ledger")
	if err := os.CopyFS(dir, os.DirFS(o.dir)); err != nil {
		t.Fatal(err)
	}
	o.dir = dir
	return o
}

// verifyDir is what `ledger verify` does with a directory.
func verifyDir(dir string, id *checkpoint.Identity, known ...verify.Known) (*verify.Report, error) {
	v, err := node.Open(dir, "")
	if err != nil {
		return nil, err
	}
	report, err := v.Verify(context.Background(), verify.Options{Identity: id, Now: ledgertest.Begin.Add(time.Hour), Known: known})
	return report, errors.Join(err, v.Close())
}

// named fails the test unless the report has a problem with this code, entry
// and place, and is no success.
func named(t *testing.T, r *verify.Report, code string, index int64, where string) {
	t.Helper()
	if r.Verdict != verify.Problems || r.ExitCode() != 1 {
		t.Fatalf("verdict %s, exit code %d", r.Verdict, r.ExitCode())
	}
	for _, p := range r.Problems {
		if p.Code == code && p.Index == index && strings.Contains(p.Where, where) {
			return
		}
	}
	t.Errorf("no problem %s of entry %d at %q, but:\n%s", code, index, where, list(r))
}

func list(r *verify.Report) string {
	var b strings.Builder
	for i, p := range r.Problems {
		if i == 12 {
			fmt.Fprintf(&b, "and %d more\n", r.ProblemCount-12)
			break
		}
		fmt.Fprintln(&b, p)
	}
	return b.String()
}

func TestVerified(t *testing.T) {
	o := copied(t)
	r, err := verifyDir(o.dir, o.identity)
	if err != nil {
		t.Fatal(err)
	}
	if r.Verdict != verify.Verified || r.Size != size || r.Tiles != 2 || r.ExitCode() != 0 {
		t.Errorf("%s, %d entries, %d tiles:\n%s", r.Verdict, r.Size, r.Tiles, list(r))
	}
	if r.Streams[ledgertest.Type] != lastRun-firstRun+1 || r.Streams["trust"] != 3 || r.Streams["ledger.rejections"] != 1 {
		t.Errorf("streams %v", r.Streams)
	}
	if len(r.Notes) == 0 {
		t.Error("the quarantine is not mentioned")
	}
}

// TestNobodyVouches: without an identity it is never "verified".
func TestNobodyVouches(t *testing.T) {
	o := copied(t)
	r, err := verifyDir(o.dir, nil)
	if err != nil || r.Verdict != verify.Unvouched || r.ExitCode() != 2 {
		t.Errorf("%v, %v", r, err)
	}
	var text strings.Builder
	if err := r.WriteText(&text); err != nil || strings.Contains(text.String(), "VERIFIED") || !strings.Contains(text.String(), "--identity") {
		t.Errorf("%v:\n%s", err, text.String())
	}
}
