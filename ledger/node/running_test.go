package node_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"

	"evidence-ledger/collectors/agent"
	"evidence-ledger/ledger/ledgertest"
	"evidence-ledger/ledger/node"
	"evidence-ledger/ledger/sign"
	"evidence-ledger/verify"
	"evidence-ledger/verify/checkpoint"
	"evidence-ledger/verify/submission"
)

// running is a node as `ledger serve` runs it.
type running struct {
	*node.Node
	t        *testing.T
	config   node.Config
	identity *checkpoint.Identity
	admin    *sign.Key
}

func start(t *testing.T) *running { return startIn(t, t.TempDir()) }

func startIn(t *testing.T, home string) *running {
	t.Helper()
	r := &running{t: t, config: node.Config{Dir: filepath.Join(home, "data"), NATS: "127.0.0.1:0", HTTP: "127.0.0.1:0", MinFree: 1}}
	made, err := node.Create(r.config, ledgertest.Origin, "Example", "admin-1", filepath.Join(home, "admin.pem"))
	if err != nil {
		t.Fatal(err)
	}
	r.identity, r.admin = made.Identity, made.Admin
	r.run()
	return r
}

// run starts the node until the test ends.
func (r *running) run() {
	var err error
	if r.Node, err = node.Start(r.t.Context(), r.config); err != nil {
		r.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	r.t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			r.t.Errorf("the node ends: %v", err)
		}
	})
}

// enrol lets a collector in through node.sock, as the command does.
func (r *running) enrol(c *ledgertest.Collector) {
	r.t.Helper()
	envelope := ledgertest.Enrolment(r.t, r.Ledger().State(), r.admin, c, time.Now())
	if _, err := node.AppendTrust(r.config, envelope); err != nil {
		r.t.Fatal(err)
	}
}

// verified is `ledger verify` beside the running node.
func (r *running) verified() *verify.Report {
	r.t.Helper()
	v, err := node.Open(r.config.Dir, "")
	if err != nil {
		r.t.Fatal(err)
	}
	report, err := v.Verify(r.t.Context(), verify.Options{Identity: r.identity, Now: time.Now()})
	if err = errors.Join(err, v.Close()); err != nil {
		r.t.Fatal(err)
	}
	if report.Verdict != verify.Verified {
		r.t.Fatalf("%s: %v", report.Verdict, report.Problems)
	}
	return report
}

// station is a collector's folder and its connection.
type station struct {
	*ledgertest.Collector
	dir     string
	conn    *nats.Conn
	js      jetstream.JetStream
	notices chan *nats.Msg
	denied  chan error
}

// newStation makes a collector's folder and enrols it.
func (r *running) newStation(name string, types ...string) *station {
	r.t.Helper()
	s := &station{dir: filepath.Join(r.t.TempDir(), name), Collector: ledgertest.NewCollector(r.t, name, types...)}
	request, err := agent.Init(s.dir, agent.Config{Name: name, Node: r.NATS(), Types: types, Host: name + ".example", Timezone: "UTC"}, r.identity)
	if err != nil {
		r.t.Fatal(err)
	}
	s.NKey = request.NKey
	if s.Key, err = sign.Load(filepath.Join(s.dir, "signing-key.pem")); err != nil {
		r.t.Fatal(err)
	}
	r.enrol(s.Collector)
	return s
}

// connect connects as the collector does.
func (r *running) connect(s *station) {
	r.t.Helper()
	seed, err := os.ReadFile(filepath.Join(s.dir, "nkey.seed"))
	if err != nil {
		r.t.Fatal(err)
	}
	user, err := nkeys.FromSeed([]byte(strings.TrimSpace(string(seed))))
	if err != nil {
		r.t.Fatal(err)
	}
	s.denied = make(chan error, 16)
	s.conn, err = nats.Connect(r.NATS(), nats.Nkey(s.NKey, user.Sign), nats.CustomInboxPrefix("_INBOX."+s.Name),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { s.denied <- err }))
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(s.conn.Close)
	if s.js, err = jetstream.New(s.conn); err != nil {
		r.t.Fatal(err)
	}
	s.notices = make(chan *nats.Msg, 256)
	if _, err := s.conn.ChanSubscribe("ledger.v1.notices."+s.Name, s.notices); err != nil {
		r.t.Fatal(err)
	}
	if err := s.conn.Flush(); err != nil {
		r.t.Fatal(err)
	}
}

// send publishes a body and returns once the broker has it.
func (r *running) send(s *station, id string, body []byte) {
	r.t.Helper()
	m := nats.NewMsg(submission.Subject(s.Name, ledgertest.Type))
	if id != "" {
		m.Header.Set(jetstream.MsgIDHeader, id)
	}
	m.Data = body
	if _, err := s.js.PublishMsg(r.t.Context(), m); err != nil {
		r.t.Fatal(err)
	}
}

// notice is what the node tells next.
func (r *running) notice(s *station) *submission.Notice {
	r.t.Helper()
	select {
	case m := <-s.notices:
		n, err := submission.ParseNotice(m.Data)
		if err != nil {
			r.t.Fatal(err)
		}
		return n
	case <-time.After(20 * time.Second):
		r.t.Fatal("the node says nothing")
		return nil
	}
}

// body is the submission of an event.
func body(m *ledgertest.Made) []byte {
	s := submission.Submission{Envelope: m.Envelope, Artifacts: []submission.Artifact{artifact(m)}}
	return s.Body()
}
