package node_test

import (
	"bytes"
	"encoding/json/v2"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"filippo.io/torchwood"
	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"
	"golang.org/x/mod/sumdb/tlog"

	"evidence-ledger/ledger"
	"evidence-ledger/ledger/ledgertest"
	"evidence-ledger/ledger/node"
	"evidence-ledger/verify"
	"evidence-ledger/verify/checkpoint"
)

// fill appends n events of a collector, in batches that end nowhere near the
// end of a tile.
func fill(t *testing.T, r *running, c *ledgertest.Collector, n int) (made []*ledgertest.Made) {
	t.Helper()
	for n > 0 {
		var batch []*ledger.Candidate
		for range min(n, 37) {
			m := c.Event("filling")
			made, batch = append(made, m), append(batch, m.Candidate())
			n--
		}
		out, err := r.Ledger().Append(batch)
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range out {
			if o.Err != nil {
				t.Fatal(o.Err)
			}
		}
	}
	return made
}

// foreign is somebody who knows the identity line and C2SP, and no code of ours.
type foreign struct {
	t       *testing.T
	base    string
	policy  torchwood.Policy
	fetcher *torchwood.TileFetcher
	client  *torchwood.Client
}

func newForeign(t *testing.T, r *running) *foreign {
	t.Helper()
	fields := strings.Fields(r.identity.String())
	v, err := torchwood.NewLogVerifier(fields[2])
	if err != nil {
		t.Fatal(err)
	}
	f := &foreign{t: t, base: r.HTTP(), policy: torchwood.ThresholdPolicy(2, torchwood.OriginPolicy(fields[1]), torchwood.SingleVerifierPolicy(v))}
	if f.fetcher, err = torchwood.NewTileFetcher(f.base); err != nil {
		t.Fatal(err)
	}
	if f.client, err = torchwood.NewClient(f.fetcher, torchwood.WithTimeout(20*time.Second)); err != nil {
		t.Fatal(err)
	}
	return f
}

// tree is the checkpoint that is served now, verified.
func (f *foreign) tree() (tlog.Tree, []byte) {
	f.t.Helper()
	note, err := f.fetcher.ReadEndpoint(f.t.Context(), "checkpoint")
	if err != nil {
		f.t.Fatal(err)
	}
	c, _, err := torchwood.VerifyCheckpoint(note, f.policy)
	if err != nil {
		f.t.Fatal(err)
	}
	return c.Tree, note
}

// extends holds that new goes on from old, by merkle, over proofs that the
// client makes out of the served tiles.
func (f *foreign) extends(old, new tlog.Tree) {
	f.t.Helper()
	if old.N == new.N {
		if old.Hash != new.Hash {
			f.t.Fatalf("two roots of %d entries", old.N)
		}
		return
	}
	hashes, err := tlog.ProveTree(new.N, old.N, torchwood.TileHashReaderWithContext(f.t.Context(), new, f.fetcher))
	if err != nil {
		f.t.Fatal(err)
	}
	if err := proof.VerifyConsistency(rfc6962.DefaultHasher, uint64(old.N), uint64(new.N), flat(hashes), old.Hash[:], new.Hash[:]); err != nil {
		f.t.Fatal(err)
	}
}

func flat[H ~[32]byte](hashes []H) (out [][]byte) {
	for _, h := range hashes {
		out = append(out, bytes.Clone(h[:]))
	}
	return out
}

// TestForeignClient: torchwood and merkle follow the running node over HTTP,
// and verify its receipts and proofs.
func TestForeignClient(t *testing.T) {
	r := start(t)
	web := r.newStation("web-1", "patch.*")
	r.connect(web)
	f := newForeign(t, r)
	first, _ := f.tree()
	if first.N != 2 {
		t.Fatalf("%d entries", first.N)
	}
	made := fill(t, r, web.Collector, 700) // two full tiles, and a part of one
	last := web.Event("over NATS")
	made = append(made, last)
	r.send(web, last.ID, body(last))
	receipt := r.notice(web).Receipt

	now, note := f.tree()
	if now.N != 703 {
		t.Fatalf("%d entries", now.N)
	}
	f.extends(first, now)
	seen := int64(0)
	for i, raw := range f.client.AllEntries(t.Context(), now, 0) {
		if i != seen {
			t.Fatalf("entry %d after %d", i, seen)
		}
		if seen++; i >= 2 && !bytes.HasSuffix(raw, made[i-2].Envelope) {
			t.Fatalf("entry %d is not what was sent", i)
		}
	}
	if err := f.client.Err(); err != nil || seen != now.N {
		t.Fatalf("%d entries: %v", seen, err)
	}

	// Receipts: torchwood and merkle agree with us, and refuse another entry.
	for _, i := range []int64{0, 1, 255, 256, 511, 512, 700, 702} {
		raw, hashes, err := f.client.Entry(t.Context(), now, i)
		if err != nil {
			t.Fatal(err)
		}
		leaf := tlog.RecordHash(raw)
		if err := proof.VerifyInclusion(rfc6962.DefaultHasher, uint64(i), uint64(now.N), leaf[:], flat(hashes), now.Hash[:]); err != nil {
			t.Error(err)
		}
		p := r.Ledger().Prove()
		ours, err := p.Receipt(uint64(i))
		p.Close()
		if err != nil {
			t.Fatal(err)
		}
		if err := torchwood.VerifyProof(f.policy, leaf, ours); err != nil {
			t.Error(err)
		}
		leaf[3] ^= 1
		if err := torchwood.VerifyProof(f.policy, leaf, ours); err == nil {
			t.Error("the proof is one of another entry, too")
		}
	}
	// What came over NATS is the same proof; its header and the envelope make the leaf.
	extra, err := torchwood.ProofExtraData([]byte(receipt))
	if err != nil {
		t.Fatal(err)
	}
	if err := torchwood.VerifyProof(f.policy, tlog.RecordHash(append(extra, last.Envelope...)), []byte(receipt)); err != nil {
		t.Error(err)
	}
	consistency(t, web, first, now)
	if !strings.HasPrefix(string(note), ledgertest.Origin+"\n703\n") {
		t.Errorf("%s", note)
	}
	r.verified()
}

// consistency: the node's own proofs, over NATS.
func consistency(t *testing.T, s *station, old, new tlog.Tree) {
	t.Helper()
	m, err := s.conn.Request("ledger.v1.consistency", fmt.Appendf(nil, `{"old":%d,"new":%d}`, old.N, new.N), 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	var reply struct {
		Proof string `json:"proof"`
	}
	if err := json.Unmarshal(m.Data, &reply); err != nil {
		t.Fatalf("%s: %v", m.Data, err)
	}
	hashes, err := checkpoint.ParseConsistency([]byte(reply.Proof))
	if err != nil {
		t.Fatal(err)
	}
	if err := proof.VerifyConsistency(rfc6962.DefaultHasher, uint64(old.N), uint64(new.N), flat(hashes), old.Hash[:], new.Hash[:]); err != nil {
		t.Error(err)
	}
}

// TestFollow: whoever follows while the log grows sees one history.
func TestFollow(t *testing.T) {
	r := start(t)
	web := ledgertest.NewCollector(t, "web-1", "patch.*")
	r.enrol(web)
	f := newForeign(t, r)
	old, _ := f.tree()
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 12 {
			fill(t, r, web, 60)
		}
	}()
	for growing := true; growing; {
		select {
		case <-done:
			growing = false
		default:
		}
		now, _ := f.tree()
		f.extends(old, now)
		if _, _, err := f.client.Entry(t.Context(), now, now.N-1); err != nil {
			t.Fatal(err)
		}
		old = now
	}
	if old.N != 2+12*60 {
		t.Errorf("%d entries", old.N)
	}
}

// TestNoSuchTile: what the log does not have is 404, and nothing can be changed.
func TestNoSuchTile(t *testing.T) {
	r := start(t)
	web := ledgertest.NewCollector(t, "web-1", "patch.*")
	r.enrol(web)
	fill(t, r, web, 300) // 302 entries: one full tile, 46 in the next
	get := func(method, path string) (int, []byte) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, r.HTTP()+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, b
	}
	for path, want := range map[string]int{
		"/tile/0/000": 256 * 32, "/tile/0/001.p/46": 46 * 32, "/tile/0/001.p/1": 32, "/tile/0/000.p/7": 7 * 32, "/tile/1/000.p/1": 32, "/tile/entries/000": -1, "/tile/entries/001.p/46": -1,
	} {
		if code, b := get("GET", path); code != 200 || want >= 0 && len(b) != want || len(b) == 0 {
			t.Errorf("%s: %d, %d bytes", path, code, len(b))
		}
	}
	for _, path := range []string{
		"/tile/0/001", "/tile/0/001.p/47", "/tile/0/002.p/1", "/tile/1/000", "/tile/1/000.p/2", "/tile/2/000.p/1", "/tile/7/000", "/tile/63/000.p/1", "/tile/64/000", "/tile/entries/001", "/tile/entries/001.p/47",
		"/tile/0/0", "/tile/0/000.p/0", "/tile/0/000.p/256", "/tile/0/x000/001", "/tile/0/x999/x999/x999/x999/x999/x999/999", "/tile/-1/000", "/tile/0/%30%30%30", "/tile/", "/tile/0", "/tile/data/000", "/other", "/FORMAT", "/../node.key",
	} {
		if code, b := get("GET", path); code != 404 {
			t.Errorf("%s: %d: %.80q", path, code, b)
		}
	}
	for _, method := range []string{"POST", "PUT", "DELETE"} {
		for _, path := range []string{"/checkpoint", "/tile/0/000"} {
			if code, _ := get(method, path); code != 405 {
				t.Errorf("%s %s: %d", method, path, code)
			}
		}
	}
}

// TestVerifyWhileRunning: `ledger verify` beside a node that appends reads a
// state that is whole, bigger each time, and leaves no copy behind.
func TestVerifyWhileRunning(t *testing.T) {
	r := start(t)
	web := ledgertest.NewCollector(t, "web-1", "patch.*")
	r.enrol(web)
	fill(t, r, web, 100)
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			default:
				fill(t, r, web, 40)
				if t.Failed() {
					return
				}
				time.Sleep(20 * time.Millisecond)
			}
		}
	}()
	defer func() { close(stop); <-done }()
	last := uint64(0)
	var known []verify.Known
	for range 6 {
		before := r.Ledger().Head().Size
		for ; before <= last; before = r.Ledger().Head().Size {
			time.Sleep(5 * time.Millisecond)
		}
		v, err := node.Open(r.config.Dir, "")
		if err != nil {
			t.Fatal(err)
		}
		report, err := v.Verify(t.Context(), verify.Options{Identity: r.identity, Now: time.Now(), Known: known})
		if err = errors.Join(err, v.Close()); err != nil {
			t.Fatal(err)
		}
		if report.Verdict != verify.Verified || report.Size < before {
			t.Fatalf("%s, %d entries after %d, %d before: %v", report.Verdict, report.Size, last, before, report.Problems)
		}
		last = report.Size
		known = append(known, verify.Known{Name: fmt.Sprint(last), Note: []byte(report.Checkpoint)})
	}
	if left, err := os.ReadDir(filepath.Join(r.config.Dir, "snapshots")); err != nil && !errors.Is(err, fs.ErrNotExist) || len(left) > 0 {
		t.Errorf("%v, %v", left, err)
	}
}

// TestRestart: a node that is stopped and started goes on with the same log.
func TestRestart(t *testing.T) {
	var config node.Config
	var identity *checkpoint.Identity
	var logged *ledgertest.Made
	var web *station
	t.Run("first", func(t *testing.T) {
		home, err := os.MkdirTemp("", "restart")
		if err != nil {
			t.Fatal(err)
		}
		r := startIn(t, home)
		web = r.newStation("web-1", "patch.*")
		web.dir = keep(t, web.dir, filepath.Join(home, "web-1"))
		r.connect(web)
		logged = web.Event("before")
		r.send(web, logged.ID, body(logged))
		if n := r.notice(web); n.Receipt == "" {
			t.Fatalf("%+v", n.Refusal)
		}
		config, identity = r.config, r.identity
	})
	defer os.RemoveAll(filepath.Dir(config.Dir))
	if _, err := os.Stat(filepath.Join(config.Dir, "node.sock")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the socket is left: %v", err)
	}
	t.Run("again", func(t *testing.T) {
		r := &running{t: t, config: config, identity: identity}
		r.run()
		r.connect(web)
		r.send(web, logged.ID+" again", body(logged)) // the same event: its receipt
		n := r.notice(web)
		if got, err := verify.Receipt([]byte(n.Receipt), logged.Event, identity); err != nil || got.Index != 2 {
			t.Errorf("%+v: %v", got, err)
		}
		if report := r.verified(); report.Size != 3 {
			t.Errorf("%d entries", report.Size)
		}
	})
}

// TestSecondPlaceFails: a checkpoint that cannot be put into its second place
// ends the node, also where it was an admins' action that made it.
func TestSecondPlaceFails(t *testing.T) {
	home := t.TempDir()
	config := node.Config{Dir: filepath.Join(home, "data"), NATS: "127.0.0.1:0", MinFree: 1}
	made, err := node.Create(config, ledgertest.Origin, "Example", "admin-1", filepath.Join(home, "admin.pem"))
	if err != nil {
		t.Fatal(err)
	}
	n, err := node.Start(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- n.Run(t.Context()) }()
	second := filepath.Join(config.Dir, "second-place")
	if err := os.Rename(second, second+"-gone"); err != nil {
		t.Fatal(err)
	}
	envelope := ledgertest.Enrolment(t, n.Ledger().State(), made.Admin, ledgertest.NewCollector(t, "web-1", "patch.*"), time.Now())
	if index, err := node.AppendTrust(config, envelope); err == nil {
		t.Errorf("told: entry %d", index)
	}
	select {
	case err := <-done:
		if !errors.Is(err, ledger.ErrCrashStop) {
			t.Error(err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("the node goes on")
	}
}

func keep(t *testing.T, from, to string) string {
	t.Helper()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(to, "nkey.seed"), 0o600); err != nil {
		t.Fatal(err)
	}
	return to
}
