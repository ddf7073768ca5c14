package verify_test

import (
	"bytes"
	"encoding/json/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"evidence-ledger/verify"
	"evidence-ledger/verify/checkpoint"
	"evidence-ledger/verify/entry"
	"evidence-ledger/verify/event"
	"evidence-ledger/verify/key"
	"evidence-ledger/verify/problem"
	"evidence-ledger/verify/syntax"
	"evidence-ledger/verify/trust"
)

// vectorsOf gives the inputs of every vector of a file.
func vectorsOf[T any](f *testing.F, name string) (out []T) {
	b, err := os.ReadFile("testdata/vectors/" + name + ".json")
	if err != nil {
		f.Fatal(err)
	}
	var file vectorFile
	if err := json.Unmarshal(b, &file); err != nil {
		f.Fatal(err)
	}
	for _, v := range file.Vectors {
		out = append(out, read[T](v.In))
	}
	return out
}

// refused tells whether there is an error, which must be a problem: what is not
// ends the run over a log as a failure of the machine would.
func refused(t *testing.T, err error) bool {
	t.Helper()
	if err != nil && problem.Of(err) == nil {
		t.Fatalf("refused without a problem: %v", err)
	}
	return err != nil
}

// keysOf are the test keys whose bits are set.
func keysOf(bits uint8) (out []testKey) {
	for i, k := range []testKey{nodeKey, alice, bob, web1, db1, stranger} {
		if bits>>i&1 == 1 {
			out = append(out, k)
		}
	}
	return out
}

const (
	byNode   = 1 << 0
	byAdmins = 1<<1 | 1<<2
	byWeb1   = 1 << 3
	byDB1    = 1 << 4
)

// enveloped takes an envelope as it is, and signs anything else as a payload,
// so that the fuzzer need not guess signatures.
func enveloped(b []byte, signers uint8) []byte {
	if _, err := event.ParseEnvelope(b); err == nil {
		return b
	}
	return sealed(string(b), keysOf(signers)...)
}

// FuzzTrust: whatever genesis and action are taken, a quorum of the genesis'
// admins signed them, and the state is the one before with one key more.
func FuzzTrust(f *testing.F) {
	f.Add([]byte(genesis), []byte(enrolWeb1), uint8(byNode|byAdmins), uint8(byAdmins), uint64(1))
	f.Add([]byte(genesis), []byte(enrolPayload(1, genesis, "db-1", db1, `,"validFrom":"2026-03-01T10:00:07.000000Z","validUntil":"2026-03-01T10:00:09.000000Z","nkey":"UA"`)), uint8(byNode|byAdmins), uint8(byAdmins), uint64(1))
	f.Add([]byte(edit(genesis, `"threshold":2`, `"threshold":1.0`)), []byte(enrolWeb1), uint8(byNode|byAdmins), uint8(2), uint64(1))
	f.Add([]byte(edit(genesis, `"threshold":2`, `"threshold":1`)), []byte(enrolWeb1), uint8(byNode|byAdmins), uint8(2), uint64(1))
	f.Add([]byte(edit(genesis, `}]}}}}`, `}]},"predecessor":{"origin":"old.example.org","size":1e3,"root":"`+b64(make([]byte, 32))+`"}}}}`)), []byte(enrolWeb1), uint8(byNode|byAdmins), uint8(byAdmins), uint64(1))
	for _, in := range vectorsOf[trustIn](f, "trust") {
		second := []byte(enrolWeb1)
		if len(in.Events) > 1 {
			second = in.Events[1].Envelope
		}
		f.Add([]byte(in.Events[0].Envelope), second, uint8(byNode|byAdmins), uint8(byAdmins), uint64(1))
	}
	f.Fuzz(func(t *testing.T, first, second []byte, firstBy, secondBy uint8, index uint64) {
		begin, err := event.Parse(enveloped(first, firstBy), event.Builtin())
		if refused(t, err) {
			return
		}
		state, err := trust.Begin(begin)
		if refused(t, err) {
			return
		}
		checkState(t, state, begin, 0)
		action, err := event.Parse(enveloped(second, secondBy), event.Builtin())
		if refused(t, err) {
			return
		}
		next, err := state.Next(index, action)
		if refused(t, err) {
			refused(t, state.CheckSignature(action))
			return
		}
		checkState(t, next, action, index)
		before, after := state.Enrolments(), next.Enrolments()
		if len(before) != 0 || len(after) != 1 || state.Index() != 0 || state.Basis() != begin.Envelope.PayloadSHA256() {
			t.Fatalf("the state before was changed, or this is no one key more: %+v, %+v", before, after)
		}
		checkEnrolment(t, next, after[0], index)
		if _, err := next.Next(index+1, action); !refused(t, err) {
			t.Fatal("the same action was taken twice")
		}
	})
}

// checkState counts the quorum again.
func checkState(t *testing.T, s *trust.State, ev *event.Event, index uint64) {
	t.Helper()
	g := s.Genesis()
	signed := map[string]bool{}
	for i, sig := range ev.Envelope.Signatures {
		for _, encoded := range append([]trust.Admin{{PublicKey: g.Node.PublicKey}}, g.Admins.Keys...) {
			k, err := key.Parse(encoded.PublicKey)
			if err != nil {
				t.Fatal(err)
			}
			if k.ID() == sig.KeyID && ev.Envelope.VerifySignature(i, k) == nil {
				signed[k.ID()] = encoded.Name != ""
			}
		}
	}
	admins := 0
	for _, admin := range signed {
		if admin {
			admins++
		}
	}
	if len(signed) != len(ev.Envelope.Signatures) || g.Admins.Threshold < 1 || admins < g.Admins.Threshold {
		t.Fatalf("taken with %d good signatures of %d, %d of the admins, of whom %d are needed", len(signed), len(ev.Envelope.Signatures), admins, g.Admins.Threshold)
	}
	if s.Origin() != ev.Ledger || s.Index() != index || s.Basis() != ev.Envelope.PayloadSHA256() || len(s.Names()) != 1+len(g.Admins.Keys) {
		t.Fatalf("the state is not that of its newest action: %q, %d, %v", s.Origin(), s.Index(), s.Names())
	}
	if _, _, err := checkpoint.NewVerifier(s.NodeVKey(1)); err != nil {
		t.Fatal(err)
	}
}

func checkEnrolment(t *testing.T, s *trust.State, e trust.Enrolment, index uint64) {
	t.Helper()
	if e.Name == "node" || e.Name == "" || e.Index != index || len(e.Types) == 0 || s.Names()[e.Key.ID()] != "" {
		t.Fatalf("enrolled: %+v", e)
	}
	if !e.Until.IsZero() && !e.From.Before(e.Until) {
		t.Fatalf("never valid: %+v", e)
	}
	for _, typ := range []string{trust.TypeEnrolled, trust.TypeGenesis, "ledger.rejections"} {
		if slices.ContainsFunc(e.Types, func(pattern string) bool { return syntax.MatchType(pattern, typ) }) {
			t.Fatalf("may sign %s: %v", typ, e.Types)
		}
	}
	if found, ok := s.ByNKey(e.NKey); ok != (e.NKey != "") || ok && found.Name != e.Name {
		t.Fatalf("by its NATS key: %+v", found)
	}
}

// FuzzReceipt: the node signed one log, so a receipt that holds is of an entry
// of that log, byte for byte.
func FuzzReceipt(f *testing.F) {
	b := smallLog()
	id := must(checkpoint.ParseIdentity(b.identity()))
	for _, in := range vectorsOf[receiptIn](f, "receipt") {
		if len(in.Trust) > 0 {
			continue // of another log that the same test key has signed
		}
		f.Add([]byte(in.Receipt), []byte(in.Envelope), typeRun)
	}
	for i, e := range b.entries {
		p := b.proofOf(uint64(i))
		p.Extra = e.Header.Bytes()
		f.Add(p.Marshal(), e.Envelope, string(must(event.Parse(e.Envelope, event.Builtin())).Type))
	}
	f.Fuzz(func(t *testing.T, receipt, envelope []byte, typ string) {
		r, err := verify.Receipt(receipt, &event.Event{Type: typ, Envelope: &event.Envelope{Raw: envelope}}, id)
		if refused(t, err) {
			return
		}
		if r.Index >= uint64(len(b.entries)) {
			t.Fatalf("a receipt for entry %d of a log of %d", r.Index, len(b.entries))
		}
		e := b.entries[r.Index]
		if !bytes.Equal(append(r.Header.Bytes(), envelope...), e.Raw) || r.Leaf != e.Leaf() || r.Header != e.Header || entry.StreamOf(typ) != e.Stream {
			t.Fatalf("a receipt for what is not entry %d", r.Index)
		}
		p := must(checkpoint.ParseProof(receipt))
		if !bytes.Equal(p.Marshal(), receipt) {
			t.Fatal("not the same when written again")
		}
	})
}

// splice replaces n bytes of b at some place.
func splice(b []byte, at, n uint16, with []byte) []byte {
	from := min(int(at), len(b))
	to := min(from+int(n), len(b))
	return slices.Concat(b[:from], with, b[to:])
}

// FuzzLog changes what somebody keeps of a signed log: it is verified only
// where every signed byte is as it was.
func FuzzLog(f *testing.F) {
	good := smallLog().done()
	artifacts := make([]string, 0, len(good.Artifacts))
	for name := range good.Artifacts {
		artifacts = append(artifacts, name)
	}
	slices.Sort(artifacts)
	kinds := uint8(5)
	for kind := range kinds {
		f.Add(kind, uint8(3), uint16(40), uint16(0), []byte{})
		f.Add(kind, uint8(0), uint16(0), uint16(1), []byte("x"))
		f.Add(kind, uint8(7), uint16(300), uint16(2), []byte("42"))
		f.Add(kind, uint8(3), uint16(1<<15), uint16(1), []byte("\n"))
	}
	f.Add(uint8(1), uint8(3), uint16(1<<15), uint16(0), []byte("— witness.example.org aWRpZGlkaWQgYW5kIGEgY29zaWduYXR1cmU=\n"))
	f.Fuzz(func(t *testing.T, kind, which uint8, at, n uint16, with []byte) {
		c := (&logCase{}).on(good)
		c.Checkpoints = slices.Clone(c.Checkpoints)
		i, same := int(which)%len(c.Entries), true
		switch kind % kinds {
		case 0: // the bytes of an entry
			raw := splice(c.Entries[i].data, at, n, with)
			same = bytes.Equal(raw, c.Entries[i].data)
			c.Entries[i] = item{data: raw}
		case 1: // a signed checkpoint: more lines of signatures change nothing
			row := &c.Checkpoints[i%len(c.Checkpoints)]
			text := string(row.Note[:bytes.Index(row.Note, []byte("\n\n"))])
			row.Note = splice(row.Note, at, n, with)
			same = strings.HasPrefix(string(row.Note), text+"\n\n")
		case 2: // evidence
			name := artifacts[i%len(artifacts)]
			raw := splice(c.Artifacts[name].data, at, n, with)
			same = bytes.Equal(raw, c.Artifacts[name].data)
			c.Artifacts[name] = item{data: raw}
		case 3: // an entry stands elsewhere, or twice
			j := int(at) % len(c.Entries)
			same = i == j
			c.Entries[i] = c.Entries[j]
		case 4: // entries are gone, and others stand there
			raws := c.Entries[i:min(i+int(n), len(c.Entries))]
			same = len(raws) == 0 && len(with) == 0
			rest := []item{{data: with}}
			if len(with) == 0 {
				rest = nil
			}
			c.Entries = slices.Concat(c.Entries[:i], rest, c.Entries[i+len(raws):])
		}
		r, err := c.verify()
		if err != nil {
			if err == verify.ErrEmpty && len(c.Entries) == 0 {
				return
			}
			t.Fatalf("foreign bytes are taken for a failure of the machine: %v", err)
		}
		checkReport(t, r)
		if r.Verdict == verify.Verified && !same {
			t.Fatal("verified, though what was signed was changed")
		}
		if r.Verdict != verify.Verified && kind%kinds != 1 && same {
			t.Fatalf("not verified, though nothing was changed: %v", r.Problems)
		}
	})
}

// checkReport: the verdict follows from the problems, and both forms are made.
func checkReport(t *testing.T, r *verify.Report) {
	t.Helper()
	if r.Verdict == verify.Verified && (len(r.Problems) > 0 || len(r.NotChecked) > 0) || (r.Verdict == verify.Verified) != (r.ExitCode() == 0) {
		t.Fatalf("%s with exit code %d, %v, %v", r.Verdict, r.ExitCode(), r.Problems, r.NotChecked)
	}
	if _, err := r.JSON(); err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	if err := r.WriteText(&text); err != nil {
		t.Fatal(err)
	}
	if s := text.String(); s != verify.Printable(s) {
		t.Fatalf("the report steers a terminal: %q", s)
	}
}

// FuzzLogSigned: a node or a collector signs what it likes into a log that fits
// otherwise. It is verified only where every event is one that a reader of one
// event and stream trust would take.
func FuzzLogSigned(f *testing.F) {
	payloads := []string{genesis, enrolWeb1, run1, run2, reject4, run3, enrolDB1, runDB1}
	by := []uint8{byNode | byAdmins, byAdmins, byWeb1, byWeb1, byNode, byWeb1, byAdmins, byDB1}
	for i, p := range payloads {
		f.Add(uint8(i), []byte(p), by[i], entry.StreamOf(must(event.Parse(sealed(p, nodeKey), event.Builtin())).Type), int64(0))
	}
	f.Add(uint8(0), []byte(edit(genesis, `"threshold":2`, `"threshold":1`)), by[0], "trust", int64(0))
	f.Add(uint8(2), []byte(runPayload(2, "web-1", 2, "")), by[2], typeRun, int64(-1000))
	f.Add(uint8(3), []byte(edit(run2, `"seq":2`, `"seq":9007199254740993`)), by[3], typeRun, int64(1))
	f.Add(uint8(6), []byte(edit(enrolDB1, `10:00:09`, `10:00:60`)), by[6], "trust", int64(1))
	small := smallLog()
	id := small.identity()
	artifacts := small.log.Artifacts
	f.Fuzz(func(t *testing.T, which uint8, payload []byte, signers uint8, stream string, micros int64) {
		i := int(which) % len(payloads)
		b := newBuilder()
		for j := range payloads {
			envelope, h := small.entries[j].Envelope, b.next(small.entries[j].Stream)
			if i == j {
				envelope = enveloped(payload, signers)
				h = b.next(stream)
				h.Time = h.Time.Add(time.Duration(micros%1e9) * time.Microsecond)
			}
			e, err := entry.New(h, envelope)
			if err != nil {
				return
			}
			b.put(e)
			if j == 0 || j == len(payloads)-1 {
				b.sign()
			}
		}
		b.log.Artifacts, b.log.Identity = artifacts, &id
		r, err := b.log.verify()
		if err != nil {
			t.Fatalf("foreign bytes are taken for a failure of the machine: %v", err)
		}
		checkReport(t, r)
		if r.Verdict != verify.Verified {
			return
		}
		if i == 0 && !bytes.Equal(b.entries[0].Raw, small.entries[0].Raw) {
			t.Fatal("verified with another genesis")
		}
		var state *trust.State
		for j, e := range b.entries {
			ev, err := event.Parse(e.Envelope, event.Builtin())
			if err == nil {
				state, err = take(state, uint64(j), ev)
			}
			if err == nil && e.Stream != "trust" {
				err = state.Authorize(ev, e.Time)
			}
			if err != nil || e.Stream != entry.StreamOf(ev.Type) {
				t.Fatalf("verified with entry %d, of which: %v", j, err)
			}
		}
	})
}
