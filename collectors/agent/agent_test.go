package agent_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"evidence-ledger/collectors"
	"evidence-ledger/collectors/agent"
	"evidence-ledger/collectors/spool"
	"evidence-ledger/ledger/sign"
	"evidence-ledger/verify/checkpoint"
	"evidence-ledger/verify/event"
	"evidence-ledger/verify/submission"
)

const (
	origin = "ledger.example.org/evidence"
	typ    = "patch.run.completed"
)

func identity() *checkpoint.Identity {
	private := ed25519.NewKeyFromSeed(make([]byte, 32))
	return &checkpoint.Identity{Origin: origin, VKey: checkpoint.VKey(origin, private.Public().(ed25519.PublicKey)), Genesis: sha256.Sum256([]byte("genesis"))}
}

func config() agent.Config {
	return agent.Config{Name: "web-1", Node: "nats://127.0.0.1:1", Types: []string{"patch.*"}, Host: "web-1.example", Timezone: "Europe/Berlin"}
}

// source emits what the test gives it.
type source struct{ observations []collectors.Observation }

func (*source) Name() string    { return "test" }
func (*source) Version() string { return "1.0.0" }
func (*source) Types() []string { return []string{typ} }
func (*source) Config() []byte  { return []byte("{}") }
func (s *source) Collect(_ context.Context, seen func(string) bool, emit func(collectors.Observation) error) error {
	for _, o := range s.observations {
		if seen(o.Key) {
			continue
		}
		if err := emit(o); err != nil {
			return err
		}
	}
	return nil
}

func observation(key, data string) collectors.Observation {
	at := time.Date(2026, 11, 24, 20, 0, 0, 0, time.UTC)
	from := at.Add(-time.Hour)
	return collectors.Observation{Type: typ, Key: key, ObservedAt: at, Period: &event.Period{From: &from, To: &at},
		Scope: map[string]string{"host": "web-1.example"}, Outcome: "pass", Summary: "a run", Data: []byte(data),
		Artifacts: []collectors.Artifact{{Name: "history.log", MediaType: "text/plain", Data: []byte("stanza " + key)}}}
}

func quiet() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

func setUp(t *testing.T, c agent.Config, s *source) (string, *agent.Agent) {
	dir := filepath.Join(t.TempDir(), "data")
	if _, err := agent.Init(dir, c, identity()); err != nil {
		t.Fatal(err)
	}
	return dir, open(t, dir, s)
}

func open(t *testing.T, dir string, s *source) *agent.Agent {
	c, err := agent.LoadConfig(dir)
	if err != nil {
		t.Fatal(err)
	}
	a, err := agent.Open(dir, c, []collectors.Collector{s}, quiet())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close() })
	return a
}

// pending closes the agent and reads what is on its spool.
func pending(t *testing.T, dir string, a *agent.Agent) []*spool.Item {
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	s, err := spool.Open(filepath.Join(dir, "spool.db"), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	items, err := s.Pending(0, 1000)
	if err != nil {
		t.Fatal(err)
	}
	return items
}

const good = `{"tool":"apt","packages":[{"name":"openssl"}]}`

// TestEvents: what is spooled is what a node accepts: signed, numbered,
// linked, each once, and with its artifact.
func TestEvents(t *testing.T) {
	s := &source{}
	for i := range 600 {
		s.observations = append(s.observations, observation(fmt.Sprint(i), good))
	}
	parts := []collectors.Observation{
		observation("long", `{"tool":"apt","packages":[{"name":"a"}],"part":{"k":1,"n":2}}`),
		observation("long", `{"tool":"apt","packages":[{"name":"b"}],"part":{"k":2,"n":2}}`)}
	s.observations = append(s.observations, parts...)
	dir, a := setUp(t, config(), s)
	if n, err := a.Collect(t.Context(), typ); n != 602 || err != nil {
		t.Fatalf("%d events: %v", n, err)
	}
	if n, err := a.Collect(t.Context(), ""); n != 0 || err != nil {
		t.Fatalf("the second time %d events: %v", n, err)
	}
	key, err := sign.Load(filepath.Join(dir, "signing-key.pem"))
	if err != nil {
		t.Fatal(err)
	}
	var prev [32]byte
	for i, item := range pending(t, dir, a) {
		ev, err := event.Parse(item.Envelope, event.Builtin())
		if err != nil {
			t.Fatal(err)
		}
		if err := ev.Envelope.VerifySignature(0, key.Public()); err != nil {
			t.Fatal(err)
		}
		if ev.Seq != uint64(i+1) || ev.Prev != prev || ev.ID != item.ID || ev.After != nil || ev.Ledger != origin || ev.Collector != "web-1" {
			t.Fatalf("event %d is %+v", i, ev)
		}
		if prev = ev.Envelope.PayloadSHA256(); prev != item.Payload {
			t.Fatal("the spool has another payload hash")
		}
		body := (&submission.Submission{Envelope: item.Envelope, Artifacts: item.Artifacts}).Body()
		sub, err := submission.Parse(body)
		if err != nil {
			t.Fatal(err)
		}
		if err := sub.Fits(ev, "web-1", typ); err != nil {
			t.Fatal(err)
		}
		if ev.Subject[0].SHA256 != sha256.Sum256(item.Artifacts[0].Data) {
			t.Fatal("the subject is not the artifact")
		}
	}
	if prev == ([32]byte{}) {
		t.Fatal("nothing is on the spool")
	}
}

// TestBadObservation takes no number, stops no other one, and is reported.
func TestBadObservation(t *testing.T) {
	big := observation("big", good)
	big.Artifacts[0].Data = bytes.Repeat([]byte("x"), 1<<20)
	s := &source{[]collectors.Observation{
		observation("1", good), observation("bad", `{"no":"tool"}`), big, observation("2", good)}}
	dir, a := setUp(t, config(), s)
	n, err := a.Collect(t.Context(), typ)
	if n != 2 || err == nil || !strings.Contains(err.Error(), "record bad") || !strings.Contains(err.Error(), "record big") {
		t.Fatalf("%d events: %v", n, err)
	}
	items := pending(t, dir, a)
	if len(items) != 2 || items[1].Seq != 2 {
		t.Fatalf("%d items", len(items))
	}
}

func TestFullSpool(t *testing.T) {
	s := &source{}
	for i := range 1000 {
		s.observations = append(s.observations, observation(fmt.Sprint(i), good))
	}
	c := config()
	c.SpoolBytes = 20_000
	dir, a := setUp(t, c, s)
	n, err := a.Collect(t.Context(), typ)
	if !errors.Is(err, spool.ErrFull) || n == 0 || n > 20 {
		t.Fatalf("%d events: %v", n, err)
	}
	if items := pending(t, dir, a); len(items) != n {
		t.Fatalf("%d items, %d reported", len(items), n)
	}
}

func TestTypeNotConfigured(t *testing.T) {
	c := config()
	c.Types = []string{"access.*"}
	_, a := setUp(t, c, &source{[]collectors.Observation{observation("1", good)}})
	if n, err := a.Collect(t.Context(), typ); n != 0 || !errors.Is(err, agent.ErrType) {
		t.Fatalf("%d events: %v", n, err)
	}
}

func TestInit(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	request, err := agent.Init(dir, config(), identity())
	if err != nil {
		t.Fatal(err)
	}
	if err := request.CheckPossession(origin); err != nil {
		t.Error(err)
	}
	if err := request.CheckPossession("other.example/evidence"); err == nil {
		t.Error("the possession holds for another ledger")
	}
	b, err := os.ReadFile(filepath.Join(dir, "request.json"))
	if err != nil {
		t.Fatal(err)
	}
	if again, err := agent.ParseRequest(b); err != nil || again.Possession != request.Possession {
		t.Errorf("request.json: %v", err)
	}
	for _, secret := range []string{"signing-key.pem", "nkey.seed"} {
		if info, err := os.Stat(filepath.Join(dir, secret)); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", secret, info.Mode(), err)
		}
	}
	if _, err := agent.Init(dir, config(), identity()); err == nil || !strings.Contains(err.Error(), "not overwritten") {
		t.Errorf("a second init: %v", err)
	}
	left, _ := filepath.Glob(filepath.Join(filepath.Dir(dir), ".collector-init-*"))
	if len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	for _, name := range []string{"Web 1", "node"} {
		bad := config()
		bad.Name = name
		if _, err := agent.Init(filepath.Join(t.TempDir(), "x"), bad, identity()); err == nil {
			t.Errorf("the name %q was taken", name)
		}
	}
	for _, node := range []string{"127.0.0.1:4222", "localhost:4222", "[::1]:4222"} {
		short := config()
		short.Node = node
		dir := filepath.Join(t.TempDir(), "x")
		if _, err := agent.Init(dir, short, identity()); err != nil {
			t.Error(err)
		} else if got := mustConfig(t, dir).Node; got != "nats://"+node {
			t.Errorf("%s became %s", node, got)
		}
	}
	for _, node := range []string{"127.0.0.1:x", "", "nats://", "http://127.0.0.1:80", ":4222", "a b"} {
		bad := config()
		bad.Node = node
		if _, err := agent.Init(filepath.Join(t.TempDir(), "x"), bad, identity()); err == nil || !strings.Contains(err.Error(), "is not an address such as nats://127.0.0.1:4222") {
			t.Errorf("the node %q: %v", node, err)
		}
	}
}

// TestOnceAlone: what is waited for a node that is away is about what was asked
// for, and who interrupts is not told that a source is broken.
func TestOnceAlone(t *testing.T) {
	s := &source{[]collectors.Observation{observation("1", good)}}
	_, a := setUp(t, config(), s)
	start := time.Now()
	r, err := a.Once(t.Context(), typ, time.Second)
	if err != nil || r.Pending != 1 || r.Fault != "the node is not reachable at nats://127.0.0.1:1" {
		t.Errorf("%+v, %v", r, err)
	}
	if took := time.Since(start); took < time.Second || took > 2*time.Second {
		t.Errorf("waiting 1s took %v", took)
	}
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(100*time.Millisecond, cancel)
	if r, err := a.Once(ctx, typ, time.Minute); !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted: %+v, %v", r, err)
	}
}

// TestRun: while the daemon holds the folder, the others reach it.
func TestRun(t *testing.T) {
	s := &source{[]collectors.Observation{observation("1", good), observation("2", good)}}
	dir, a := setUp(t, config(), s)
	if agent.Dial(dir) != nil {
		t.Fatal("somebody answers before run")
	}
	ctx, cancel := context.WithCancel(t.Context())
	ready, done := make(chan struct{}), make(chan error, 1)
	go func() { done <- a.Run(ctx, func() { close(ready) }) }()
	<-ready
	client := agent.Dial(dir)
	if client == nil {
		t.Fatal("nobody answers")
	}
	// No node is there: the events stay, and the report says so.
	r, err := client.Once(ctx, typ, 300*time.Millisecond)
	if err != nil || r.Pending != 2 {
		t.Fatalf("once: %+v, %v", r, err)
	}
	if _, err := client.Once(ctx, "no.such.type", time.Second); err == nil || !strings.Contains(err.Error(), "no.such.type") {
		t.Errorf("an unknown type: %v", err)
	}
	st, err := client.Status(ctx)
	if err != nil || !st.Running || st.Numbers[typ] != 2 || st.Publishing == nil || st.Publishing.Connected || st.Found() {
		t.Errorf("status: %+v, %v", st, err)
	}
	if n, err := client.Retry(ctx); n != 0 || err != nil {
		t.Errorf("retry: %d, %v", n, err)
	}
	if _, err := agent.Open(dir, mustConfig(t, dir), nil, quiet()); !errors.Is(err, spool.ErrBusy) {
		t.Errorf("a second holder: %v", err)
	}
	cancel()
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("run does not stop")
	}
}

func mustConfig(t *testing.T, dir string) *agent.Config {
	c, err := agent.LoadConfig(dir)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestParseConfigRefuses(t *testing.T) {
	c := config()
	c.Schedule = agent.DefaultSchedule
	valid, err := c.JSON()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := agent.ParseConfig(valid); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string][2]string{
		"unknown member":  {`"name"`, `"nmae": 1, "name"`},
		"doubled member":  {`"name"`, `"name": "a", "name"`},
		"wrong case":      {`"name"`, `"Name"`},
		"name":            {`"web-1"`, `"Web 1"`},
		"node":            {`nats://127.0.0.1:1`, `http://127.0.0.1:1`},
		"node's scheme":   {`nats://127.0.0.1:1`, `127.0.0.1:1`},
		"reserved name":   {`web-1"`, `node"`},
		"node's password": {`nats://127.0.0.1:1`, `nats://a:b@127.0.0.1:1`},
		"types":           {`patch.*`, `*`},
		"reserved":        {`patch.*`, `trust.*`},
		"host":            {`web-1.example`, ``},
		"timezone":        {`Europe/Berlin`, `Europe/Atlantis`},
		"local timezone":  {`Europe/Berlin`, `Local`},
		"schedule":        {`@every 5m`, `now and then`},
		"relative source": {`"schedule"`, `"sources": {"dpkg": ["dpkg.log"]}, "schedule"`},
		"bad pattern":     {`"schedule"`, `"sources": {"dpkg": ["/var/["]}, "schedule"`},
		"negative bound":  {`"schedule"`, `"spoolBytes": -1, "schedule"`},
		"trailing":        {"\n}\n", "\n}\n{}"},
	} {
		bad := strings.Replace(string(valid), change[0], change[1], 1)
		if bad == string(valid) {
			t.Fatalf("%s: nothing changed in %s", name, valid)
		}
		if _, err := agent.ParseConfig([]byte(bad)); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

func FuzzParseConfig(f *testing.F) {
	c := config()
	c.Schedule = agent.DefaultSchedule
	b, _ := c.JSON()
	f.Add(b)
	f.Add([]byte(`{"name":"a"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := agent.ParseConfig(b)
		if err != nil {
			return
		}
		once, err := c.JSON()
		if err != nil {
			t.Fatal(err)
		}
		again, err := agent.ParseConfig(once)
		if err != nil {
			t.Fatalf("what was taken is refused when written: %v\n%s", err, once)
		}
		if twice, _ := again.JSON(); !bytes.Equal(once, twice) {
			t.Fatalf("%s\n%s", once, twice)
		}
	})
}

func FuzzParseRequest(f *testing.F) {
	private := ed25519.NewKeyFromSeed(make([]byte, 32))
	k, err := sign.New(private)
	if err != nil {
		f.Fatal(err)
	}
	r := agent.Request{Name: "web-1", PublicKey: k.Public().String(), Possession: "AAAA", Types: []string{"patch.*"}, NKey: "UA"}
	b, _ := r.JSON()
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := agent.ParseRequest(b)
		if err != nil {
			return
		}
		_ = r.CheckPossession(origin)
		once, err := r.JSON()
		if err != nil {
			t.Fatal(err)
		}
		again, err := agent.ParseRequest(once)
		if err != nil {
			t.Fatalf("what was taken is refused when written: %v\n%s", err, once)
		}
		if twice, _ := again.JSON(); !bytes.Equal(once, twice) {
			t.Fatalf("%s\n%s", once, twice)
		}
	})
}
