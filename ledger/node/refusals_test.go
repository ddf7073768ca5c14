package node_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json/v2"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"evidence-ledger/collectors/agent"
	"evidence-ledger/collectors/spool"
	"evidence-ledger/ledger/ledgertest"
	"evidence-ledger/ledger/node"
	"evidence-ledger/ledger/store"
	"evidence-ledger/verify"
	"evidence-ledger/verify/event"
	"evidence-ledger/verify/submission"
)

func artifact(m *ledgertest.Made) submission.Artifact {
	return submission.Artifact{Name: "history.log", MediaType: "text/plain", SHA256: fmt.Sprintf("%x", m.Artifact.SHA256), Data: m.Artifact.Data}
}

// bad is one submission that must be refused.
type bad struct {
	name    string
	id      string
	body    []byte
	code    string
	where   string
	signed  bool   // correctly signed under an enrolled key, as the node says
	payload []byte // nil: none can be read
}

// badOnes are the submissions of the kinds that must be refused. Each takes a
// number of its collector, as it does on a real spool.
func badOnes(t *testing.T, s *station, second *ledgertest.Collector, logged *ledgertest.Made) []bad {
	var out []bad
	add := func(name string, m *ledgertest.Made, code, where string, signed bool) {
		id := ""
		if m.Event != nil {
			id = m.ID
		}
		out = append(out, bad{name, id, body(m), code, where, signed, m.Payload})
	}
	drafted := func(c *ledgertest.Collector, change func(ev *event.Event)) *ledgertest.Made {
		ev, data := c.Draft("bad")
		change(ev)
		return c.Sign(ev, data)
	}
	// edited is signed, though its payload is none.
	edited := func(old, new string) *ledgertest.Made {
		ev, data := s.Draft("bad")
		payload, err := ev.Payload()
		if err != nil || !bytes.Contains(payload, []byte(old)) {
			t.Fatalf("%v: no %q in %s", err, old, payload)
		}
		return s.SignPayload(bytes.Replace(payload, []byte(old), []byte(new), 1), data)
	}

	broken := s.Event("broken signature")
	env, err := event.ParseEnvelope(broken.Envelope)
	if err != nil {
		t.Fatal(err)
	}
	env.Signatures[0].Sig[11] ^= 1
	broken.Envelope = event.Wrap(env.Payload, env.Signatures)
	add("broken signature", broken, "event.signature", "signatures.0", false)
	add("unknown key", ledgertest.NewCollector(t, s.Name).Event("unknown key"), "authority.key", "signatures.0.keyid", false)
	add("another collector's name", drafted(s.Collector, func(ev *event.Event) { ev.Collector = "db-1" }), "submission.collector", "predicate.event.collector", true)
	add("another ledger's origin", drafted(s.Collector, func(ev *event.Event) { ev.Ledger = "another.example" }), "event.ledger", "predicate.event.ledger", true)
	add("a type it may not publish", second.Event("by a key for other types"), "authority.type", "predicateType", true)
	add("schema violation", edited(`"tool":"apt"`, `"tool":7`), "event.schema", "predicate.data.tool", true)
	add("duplicate member", edited(`"outcome":"pass"`, `"outcome":"pass","outcome":"fail"`), "event.duplicate-member", "predicate.outcome", true)
	add("duplicate member of data", edited(`"tool":"apt"`, `"tool":"apt","tool":"apt"`), "event.duplicate-member", "predicate.data.tool", true)
	add("a payload too large", edited(`"summary":"bad"`, `"summary":"`+strings.Repeat("x", event.MaxPayload-300)+`"`), "event.payload-size", "payload", false)
	add("the same id with another payload", drafted(s.Collector, func(ev *event.Event) { ev.ID = logged.ID }), "event.id-repeated", "predicate.event.id", true)
	add("the same number with another payload", drafted(s.Collector, func(ev *event.Event) { ev.Seq, ev.Prev = logged.Seq, logged.Prev }), "collector.seq-repeated", "predicate.event.seq", true)

	wide := s.Event("an envelope too large")
	wide.Envelope = append([]byte("{"+strings.Repeat(" ", event.MaxEnvelope)), wide.Envelope[1:]...)
	out = append(out, bad{"an envelope too large", "", body(wide), "event.envelope-size", "", false, nil})

	digest := s.Event("digest does not match")
	a := artifact(digest)
	a.Data = []byte("something else")
	out = append(out, bad{"a digest that does not match its artifact", "", (&submission.Submission{Envelope: digest.Envelope, Artifacts: []submission.Artifact{a}}).Body(),
		"submission.artifact-digest", "artifacts.0.sha256", true, digest.Payload})
	a.SHA256 = fmt.Sprintf("%x", sha256.Sum256(a.Data))
	out = append(out, bad{"an artifact of another event", digest.ID, (&submission.Submission{Envelope: digest.Envelope, Artifacts: []submission.Artifact{a}}).Body(),
		"submission.artifact-extra", "artifacts.0", true, digest.Payload})
	out = append(out, bad{"no artifact", digest.ID, (&submission.Submission{Envelope: digest.Envelope}).Body(), "submission.artifact-absent", "subject.0", true, digest.Payload})

	whole := body(digest)
	out = append(out,
		bad{"a doubled member beside the envelope", "", append([]byte(`{"disclosures":[],`), whole[1:]...), "submission.duplicate-member", "disclosures", false, nil},
		bad{"cut off", "", whole[:len(whole)-3], "submission.json", "", false, nil},
		bad{"no JSON", "", []byte("\x00\xff"), "submission.json", "", false, nil},
		bad{"empty", "", nil, "submission.json", "", false, nil},
	)
	return out
}

// TestRefusals: each bad submission is refused with a reason that names the
// field, kept, told, counted, and never blocks the good one behind it.
func TestRefusals(t *testing.T) {
	r := start(t)
	web := r.newStation("web-1", "patch.*")
	second := ledgertest.NewCollector(t, "web-1", "vulnerability.*") // a second key under the name
	r.enrol(second)
	r.newStation("db-1", "patch.*")
	r.connect(web)
	logged := web.Event("logged")
	r.send(web, logged.ID, body(logged))
	if n := r.notice(web); n.Receipt == "" {
		t.Fatalf("%+v", n.Refusal)
	}
	all := badOnes(t, web, second, logged)
	var good []*ledgertest.Made
	for i, b := range all {
		r.send(web, b.id+fmt.Sprint(" ", i), b.body) // else the broker drops what has an id that it knows
		m := web.Event("behind " + b.name)
		r.send(web, m.ID, body(m))
		good = append(good, m)
	}
	for i, b := range all {
		n := r.notice(web)
		if n.Refusal == nil {
			t.Fatalf("%s: a receipt", b.name)
		}
		payload := ""
		if b.payload != nil && b.code != "event.payload-size" { // too large to be read at all
			payload = fmt.Sprintf("%x", sha256.Sum256(b.payload))
		}
		if got := n.Refusal; got.Code != b.code || !strings.HasPrefix(got.Where, b.where) || got.Signed != b.signed || got.Text == "" || got.Payload != payload {
			t.Errorf("%s: %+v", b.name, got)
		}
		n = r.notice(web)
		if n.ID != good[i].ID || n.Receipt == "" {
			t.Fatalf("behind %s: %+v", b.name, n.Refusal)
		}
		if _, err := verify.Receipt([]byte(n.Receipt), good[i].Event, r.identity); err != nil {
			t.Errorf("behind %s: %v", b.name, err)
		}
	}
	quarantined(t, r, all)
	asked(t, r, web, all)
	counted(t, r, len(all))
	denied(t, r, web)
	r.verified()
}

// quarantined: everything is kept, the exact bytes.
func quarantined(t *testing.T, r *running, all []bad) {
	t.Helper()
	v, err := node.Open(r.config.Dir, "")
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	i := 0
	if err := v.Snapshot.Quarantine("web-1", func(q store.Quarantined) error {
		if i >= len(all) || q.Code != all[i].code || !bytes.Equal(q.Body, all[i].body) || !strings.HasPrefix(q.Where, all[i].where) || q.Text == "" {
			t.Errorf("record %d: %s at %q", i, q.Code, q.Where)
		}
		i++
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if i != len(all) {
		t.Errorf("%d in quarantine, want %d", i, len(all))
	}
}

// asked: a collector that was away asks, and gets its own alone.
func asked(t *testing.T, r *running, s *station, all []bad) {
	t.Helper()
	m, err := s.conn.Request("ledger.v1.refusals.web-1", []byte("{}"), 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	var reply struct {
		Refusals []submission.Notice `json:"refusals"`
	}
	if err := json.Unmarshal(m.Data, &reply); err != nil {
		t.Fatal(err)
	}
	if len(reply.Refusals) != len(all) || reply.Refusals[len(all)-1].Refusal.Code != all[0].code {
		t.Errorf("%d refusals: %s", len(reply.Refusals), m.Data)
	}
	for _, b := range all {
		if b.id == "" || b.code == "event.id-repeated" { // that id is in the log
			continue
		}
		m, err := s.conn.Request("ledger.v1.receipt.web-1", fmt.Appendf(nil, `{"id":%q}`, b.id), 5*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		n, err := submission.ParseNotice(m.Data)
		if err != nil || n.Refusal == nil || n.ID != b.id {
			t.Errorf("%s: %s, %v", b.name, m.Data, err)
		}
	}
}

// counted: the log says how much was refused.
func counted(t *testing.T, r *running, want int) {
	t.Helper()
	if err := r.Ledger().LogRejections(true); err != nil {
		t.Fatal(err)
	}
	p := r.Ledger().Prove()
	defer p.Close()
	total := 0
	if err := p.Snapshot().Entries(0, func(_ uint64, raw []byte) error {
		_, envelope, _ := bytes.Cut(raw, []byte("\n\n"))
		ev, err := event.Parse(envelope, event.Builtin())
		if err != nil || ev.Type != "ledger.rejections" {
			return err
		}
		var data struct {
			Collectors map[string]map[string]int `json:"collectors"`
		}
		if err := json.Unmarshal(ev.Data, &data); err != nil {
			return err
		}
		for _, n := range data.Collectors["web-1"] {
			total += n
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if total != want {
		t.Errorf("%d are counted in the log, want %d", total, want)
	}
}

// denied: on other subjects the broker itself takes nothing.
func denied(t *testing.T, r *running, s *station) {
	t.Helper()
	for _, subject := range []string{
		submission.Subject("web-1", "access.accounts.observed"), submission.Subject("db-1", ledgertest.Type),
		"ledger.v1.notices.web-1", "$JS.API.STREAM.PURGE.EVIDENCE",
	} {
		if err := s.conn.Publish(subject, []byte("x")); err != nil {
			t.Fatal(err)
		}
		select {
		case err := <-s.denied:
			if !strings.Contains(err.Error(), subject) {
				t.Errorf("%s: %v", subject, err)
			}
		case <-time.After(5 * time.Second):
			t.Errorf("%s: taken", subject)
		}
	}
}

// TestStatusShowsRefusals: the refused events of a collector that runs as
// people run it are in its status; those behind them have their receipts.
func TestStatusShowsRefusals(t *testing.T) {
	r := start(t)
	web := r.newStation("web-1", "patch.*")
	keyID := web.Key.Public().ID()
	held, err := spool.Open(filepath.Join(web.dir, "spool.db"), 0)
	if err != nil {
		t.Fatal(err)
	}
	maker := ledgertest.NewCollector(t, "web-1", "patch.*")
	maker.Key = web.Key
	spoil := map[int]func(m *ledgertest.Made) *ledgertest.Made{
		1: func(m *ledgertest.Made) *ledgertest.Made { // against its schema
			id := m.ID
			m = maker.SignPayload(bytes.Replace(m.Payload, []byte(`"tool":"apt"`), []byte(`"tool":"APT !"`), 1), m.Artifact.Data)
			m.Event = &event.Event{ID: id}
			return m
		},
		3: func(m *ledgertest.Made) *ledgertest.Made { // its artifact is another
			m.Artifact.Data = []byte("damaged on the disk")
			return m
		},
		5: func(m *ledgertest.Made) *ledgertest.Made { // forged
			env, err := event.ParseEnvelope(m.Envelope)
			if err != nil {
				t.Fatal(err)
			}
			env.Signatures[0].Sig[1] ^= 1
			m.Envelope = event.Wrap(env.Payload, env.Signatures)
			return m
		},
	}
	for i := range 7 {
		_, err := held.Add(keyID, spool.Record{Source: "test", Key: fmt.Sprint(i), Drafts: []spool.Draft{{Type: ledgertest.Type, Make: func(seq uint64, prev [32]byte) (*spool.Item, error) {
			m := maker.Event(fmt.Sprint("event ", i))
			if f := spoil[i]; f != nil {
				m = f(m)
			}
			return &spool.Item{ID: m.ID, Payload: sha256.Sum256(m.Payload), Envelope: m.Envelope, AddedAt: time.Now(),
				Artifacts: []submission.Artifact{artifact(m)}}, nil
		}}}})
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := held.Close(); err != nil {
		t.Fatal(err)
	}
	status := runAgent(t, r, web, func(s *agent.Status) bool {
		return s.Receipts[ledgertest.Type].Count == 4 && s.Refused == 2 && s.Publishing != nil && s.Publishing.OddRefusals > 0
	})
	codes := map[string]string{}
	for _, refused := range status.Refusals {
		codes[refused.Code] = refused.Where
		if refused.Text == "" {
			t.Errorf("%+v", refused)
		}
	}
	if codes["event.schema"] != "predicate.data.tool" || codes["submission.artifact-digest"] != "artifacts.0.sha256" {
		t.Errorf("%+v", status.Refusals)
	}
	// A forged one is no reason to give the event up: it is sent again, and shown.
	if !strings.Contains(status.Publishing.LastFault, "event.signature: signatures.0") {
		t.Errorf("%+v", status.Publishing)
	}
	if !status.Found() || status.Pending != 1 {
		t.Errorf("%d pending: %+v", status.Pending, status.Publishing)
	}
	r.verified()
}

// runAgent runs a collector until its status is as wanted.
func runAgent(t *testing.T, r *running, s *station, enough func(*agent.Status) bool) *agent.Status {
	t.Helper()
	c, err := agent.LoadConfig(s.dir)
	if err != nil {
		t.Fatal(err)
	}
	a, err := agent.Open(s.dir, c, nil, slog.New(slog.NewTextHandler(io.Discard, nil)))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx, func() {}) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	}()
	var status *agent.Status
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		client := agent.Dial(s.dir)
		if client == nil {
			continue
		}
		if status, err = client.Status(t.Context()); err != nil {
			t.Fatal(err)
		}
		if enough(status) {
			return status
		}
	}
	t.Fatalf("%+v, %+v", status, status.Publishing)
	return nil
}
