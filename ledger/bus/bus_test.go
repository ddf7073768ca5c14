package bus_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"

	"evidence-ledger/ledger/bus"
)

const subject1 = "evidence.v1.web-1.patch.run.completed"

// world is a bus, who may use it, and its log.
type world struct {
	testing.TB
	*bus.Bus
	options bus.Options
	logged  *buffer

	mu     sync.Mutex
	grants map[string]bus.Grant
	keys   map[string]nkeys.KeyPair
}

// buffer is a log that several goroutines write.
type buffer struct {
	mu sync.Mutex
	bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.String()
}

func (b *buffer) Reset() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.Buffer.Reset()
}

// start runs a bus that knows web-1 and web-2, both allowed patch.*.
func start(t testing.TB, maxBytes int64) *world {
	t.Helper()
	w := &world{TB: t, grants: map[string]bus.Grant{}, keys: map[string]nkeys.KeyPair{}, logged: &buffer{}}
	w.options = bus.Options{
		Listen: "127.0.0.1:0", StoreDir: t.TempDir(), MaxBytes: maxBytes, Authorize: w.authorize,
		Logger: slog.New(slog.NewTextHandler(w.logged, nil)),
	}
	for _, name := range []string{"web-1", "web-2"} {
		w.enrol(name, "patch.*")
	}
	w.up()
	t.Cleanup(func() { w.down() })
	return w
}

func (w *world) up() {
	w.Helper()
	b, err := bus.Start(w.Context(), w.options)
	if err != nil {
		w.Fatalf("start: %v\n%s", err, w.logged)
	}
	w.Bus = b
}

func (w *world) down() {
	w.Helper()
	if w.Bus == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := w.Close(ctx); err != nil {
		w.Errorf("close: %v", err)
	}
	w.Bus = nil
}

func (w *world) authorize(nkey string) (bus.Grant, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	g, ok := w.grants[nkey]
	return g, ok
}

func (w *world) enrol(name string, types ...string) {
	w.Helper()
	key := newKey(w.TB)
	w.keys[name] = key
	w.grant(name, &bus.Grant{Name: name, Types: types})
}

// grant sets what the key of that name may do, nil takes it away.
func (w *world) grant(name string, g *bus.Grant) {
	w.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	pub, err := w.keys[name].PublicKey()
	if err != nil {
		w.Fatal(err)
	}
	if g == nil {
		delete(w.grants, pub)
		return
	}
	w.grants[pub] = *g
}

func newKey(t testing.TB) nkeys.KeyPair {
	t.Helper()
	key, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func withKey(t testing.TB, key nkeys.KeyPair) nats.Option {
	t.Helper()
	pub, err := key.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	return nats.Nkey(pub, key.Sign)
}

// collector is a connection as collectors have it; denied receives what the
// server refuses.
type collector struct {
	*nats.Conn
	js     jetstream.JetStream
	denied chan error
	closed chan struct{}
}

func (w *world) connect(name string) *collector {
	w.Helper()
	c := &collector{denied: make(chan error, 100), closed: make(chan struct{})}
	conn, err := nats.Connect(w.ClientURL(), withKey(w.TB, w.keys[name]),
		nats.CustomInboxPrefix("_INBOX."+name), nats.NoReconnect(),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { c.denied <- err }),
		nats.ClosedHandler(func(*nats.Conn) { close(c.closed) }))
	if err != nil {
		w.Fatalf("%s cannot connect: %v", name, err)
	}
	w.Cleanup(conn.Close)
	c.Conn = conn
	if c.js, err = jetstream.New(conn); err != nil {
		w.Fatal(err)
	}
	return c
}

func (w *world) publish(c *collector, id, body string) {
	w.Helper()
	ack, err := c.js.Publish(w.Context(), subject1, []byte(body), jetstream.WithMsgID(id))
	if err != nil {
		w.Fatalf("publish %s: %v", id, err)
	}
	if ack.Stream != bus.Stream {
		w.Fatalf("acknowledged by stream %q", ack.Stream)
	}
}

func (w *world) fetch(max int) []bus.Message {
	w.Helper()
	messages, err := w.Fetch(w.Context(), max, 200*time.Millisecond)
	if err != nil {
		w.Fatalf("fetch: %v", err)
	}
	return messages
}

// all fetches until want messages are there, and then looks for more.
func (w *world) all(want int) []bus.Message {
	w.Helper()
	var got []bus.Message
	for end := time.Now().Add(10 * time.Second); len(got) < want && time.Now().Before(end); {
		got = append(got, w.fetch(100)...)
	}
	return append(got, w.fetch(100)...)
}

// settled waits until the server has taken all acks: it does so in its own
// time, and what it had not taken before a stop comes again.
func (w *world) settled(pending int) {
	w.Helper()
	js, err := jetstream.New(w.Own())
	if err != nil {
		w.Fatal(err)
	}
	for {
		c, err := js.Consumer(w.Context(), bus.Stream, bus.Consumer)
		if err != nil {
			w.Fatal(err)
		}
		if c.CachedInfo().NumAckPending == pending {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func TestPublishFetchAck(t *testing.T) {
	w := start(t, 0)
	c := w.connect("web-1")
	for i := range 5 {
		w.publish(c, fmt.Sprintf("id-%d", i), fmt.Sprintf("body %d", i))
	}
	w.publish(c, "id-4", "body 4") // a retry: the server drops it
	got := append(w.fetch(1), w.all(4)...)
	if len(got) != 5 {
		t.Fatalf("got %d messages, want 5", len(got))
	}
	for i, m := range got {
		if m.Subject != subject1 || m.ID != fmt.Sprintf("id-%d", i) || string(m.Body) != fmt.Sprintf("body %d", i) ||
			m.Sequence != uint64(i+1) || m.Deliveries != 1 || time.Since(m.Received) > time.Minute {
			t.Errorf("message %d: %+v", i, m)
		}
		if err := m.InProgress(); err != nil {
			t.Error(err)
		}
		if err := m.Ack(); err != nil {
			t.Error(err)
		}
	}
	w.settled(0)
	w.down()
	w.up()
	if again := w.fetch(10); len(again) != 0 {
		t.Errorf("%d acknowledged messages came again", len(again))
	}
	if !w.SyncAlways() {
		t.Error("the server acknowledges what is not synced")
	}
	if last, err := w.LastSequence(t.Context()); err != nil || last != 5 {
		t.Errorf("last sequence %d, %v; want 5", last, err)
	}
}

func TestNakComesAgain(t *testing.T) {
	w := start(t, 0)
	w.publish(w.connect("web-1"), "id", "body")
	first, err := w.Fetch(t.Context(), 1, 5*time.Second)
	if err != nil || len(first) != 1 || first[0].Nak(0) != nil {
		t.Fatalf("%d messages, %v", len(first), err)
	}
	again, err := w.Fetch(t.Context(), 1, 5*time.Second)
	if err != nil || len(again) != 1 || again[0].Deliveries != 2 {
		t.Fatalf("got %+v, %v; want the message's second delivery", again, err)
	}
}

func TestFetchWaitsForTheFirstOnly(t *testing.T) {
	w := start(t, 0)
	c := w.connect("web-1")
	time.AfterFunc(100*time.Millisecond, func() { c.Publish(subject1, []byte("late")) })
	begun := time.Now()
	got, err := w.Fetch(t.Context(), 100, 20*time.Second)
	if err != nil || len(got) != 1 || time.Since(begun) > 5*time.Second {
		t.Fatalf("%d messages, %v, after %v", len(got), err, time.Since(begun))
	}
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, cancel)
	if _, err := w.Fetch(ctx, 100, 20*time.Second); !errors.Is(err, context.Canceled) {
		t.Fatalf("cancelled fetch: %v", err)
	}
	// What arrives after a fetch was given up is not held back by it.
	w.publish(c, "next", "next")
	if got, err := w.Fetch(t.Context(), 1, 5*time.Second); err != nil || len(got) != 1 {
		t.Errorf("the message after a cancelled fetch did not come")
	}
}

func TestRestartKeepsMessages(t *testing.T) {
	w := start(t, 0)
	c := w.connect("web-1")
	for i := range 20 {
		w.publish(c, fmt.Sprint(i), fmt.Sprint(i))
	}
	got, err := w.Fetch(t.Context(), 10, 5*time.Second)
	if err != nil || len(got) != 10 {
		t.Fatalf("got %d", len(got))
	}
	for _, i := range []int{0, 1, 5} {
		if err := got[i].Ack(); err != nil {
			t.Fatal(err)
		}
	}
	w.settled(7)
	w.down()
	w.up()
	var ids []string
	for _, m := range w.all(17) {
		ids = append(ids, m.ID)
	}
	if want := "2 3 4 6 7 8 9 10 11 12 13 14 15 16 17 18 19"; strings.Join(ids, " ") != want {
		t.Errorf("after the restart came %v, want %s", ids, want)
	}
}

// TestMaxBytesMayShrink: an operator may give less room than before.
func TestMaxBytesMayShrink(t *testing.T) {
	w := start(t, 1<<30)
	c := w.connect("web-1")
	w.publish(c, "kept", "body")
	w.down()
	w.options.MaxBytes = 10 << 20
	w.up()
	if got := w.all(1); len(got) != 1 || got[0].ID != "kept" {
		t.Errorf("after the restart came %v", got)
	}
}

func TestFullStreamRefuses(t *testing.T) {
	w := start(t, 100_000)
	c := w.connect("web-1")
	body := strings.Repeat("x", 10_000)
	accepted := 0
	for {
		_, err := c.js.Publish(t.Context(), subject1, []byte(body), jetstream.WithMsgID(fmt.Sprint(accepted)))
		if err != nil {
			var api *jetstream.APIError
			if !errors.As(err, &api) || !strings.Contains(api.Description, "maximum bytes") {
				t.Fatalf("refused with %v", err)
			}
			break
		}
		if accepted++; accepted > 20 {
			t.Fatal("the stream never fills")
		}
	}
	got := w.all(accepted)
	if accepted == 0 || len(got) != accepted {
		t.Fatalf("%d accepted, %d there", accepted, len(got))
	}
	for i, m := range got {
		if m.ID != fmt.Sprint(i) || string(m.Body) != body {
			t.Errorf("message %d is %s", i, m.ID)
		}
		if err := m.Ack(); err != nil {
			t.Fatal(err)
		}
	}
	deadline := time.Now().Add(5 * time.Second)
	for {
		_, err := c.js.Publish(t.Context(), subject1, []byte(body), jetstream.WithMsgID("after"))
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("no room after everything was acknowledged: %v", err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func TestFetchIsBounded(t *testing.T) {
	w := start(t, 0)
	c := w.connect("web-1")
	for i := range 70 {
		w.publish(c, fmt.Sprint(i), strings.Repeat("x", 1_000_000))
	}
	got := w.fetch(100)
	if n := len(got); n != 64 {
		t.Errorf("the first fetch took %d messages of 1 MB", n)
	}
	got = append(got, w.all(6)...)
	if len(got) != 70 || got[69].ID != "69" || got[69].Deliveries != 1 {
		t.Errorf("%d messages in all", len(got))
	}
}

// The stream refuses also what the node itself might do by mistake.
func TestStreamDenies(t *testing.T) {
	w := start(t, 0)
	w.publish(w.connect("web-1"), "1", "body")
	for subject, body := range map[string]string{
		"$JS.API.STREAM.PURGE.EVIDENCE":      `{}`,
		"$JS.API.STREAM.MSG.DELETE.EVIDENCE": `{"seq":1}`,
	} {
		m, err := w.Own().Request(subject, []byte(body), 5*time.Second)
		if err != nil || !strings.Contains(string(m.Data), "permitted") {
			t.Errorf("%s: %s, %v", subject, m.Data, err)
		}
	}
	if got := w.all(1); len(got) != 1 {
		t.Errorf("%d messages left", len(got))
	}
}

// Headers by which JetStream would drop messages are not allowed here.
func TestHeadersDropNothing(t *testing.T) {
	w := start(t, 0)
	c := w.connect("web-1")
	w.publish(c, "1", "body")
	for key, value := range map[string]string{"Nats-Rollup": "all", "Nats-TTL": "1s", "Nats-Batch-Id": "b", "Nats-Schedule": "@every 1s", "Nats-Incr": "1"} {
		m := nats.NewMsg(subject1)
		m.Header.Set(key, value)
		m.Header.Set("Nats-Batch-Sequence", "1")
		if _, err := c.js.PublishMsg(t.Context(), m); err == nil {
			t.Errorf("%s: %s was accepted", key, value)
		}
	}
	if got := w.all(1); len(got) != 1 || got[0].ID != "1" {
		t.Errorf("%d messages left, want the first alone", len(got))
	}
}

// BenchmarkSubmissions is the way of a submission of 2 KiB through the bus.
func BenchmarkSubmissions(b *testing.B) {
	w := start(b, 0)
	c := w.connect("web-1")
	body := []byte(strings.Repeat("x", 2048))
	ctx, fail := context.WithCancelCause(b.Context())
	go func() {
		for range b.N {
			if _, err := c.js.PublishAsync(subject1, body, jetstream.WithStallWait(time.Minute)); err != nil {
				fail(err)
				return
			}
		}
	}()
	for done := 0; done < b.N; {
		got, err := w.Fetch(ctx, 1024, time.Second)
		if err != nil {
			b.Fatal(err, context.Cause(ctx))
		}
		for _, m := range got {
			if err := m.Ack(); err != nil {
				b.Fatal(err)
			}
		}
		done += len(got)
	}
}

func TestTooLargePayload(t *testing.T) {
	w := start(t, 0)
	c := w.connect("web-1")
	if c.MaxPayload() != 1<<20 {
		t.Errorf("max_payload %d", c.MaxPayload())
	}
	w.publish(c, "largest", strings.Repeat("x", 1<<20-4096))
	if got := w.all(1); len(got) != 1 || len(got[0].Body) != 1<<20-4096 {
		t.Error("the largest submission did not arrive")
	}
}

func TestNotices(t *testing.T) {
	w := start(t, 0)
	one, two := w.connect("web-1"), w.connect("web-2")
	sub1, err := one.SubscribeSync("ledger.v1.notices.web-1")
	if err != nil {
		t.Fatal(err)
	}
	sub2, err := two.SubscribeSync("ledger.v1.notices.web-2")
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(one.Flush(), two.Flush()); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(w.Notify("web-2", []byte("for two")), w.Notify("web-1", []byte("for one"))); err != nil {
		t.Fatal(err)
	}
	for want, sub := range map[string]*nats.Subscription{"for one": sub1, "for two": sub2} {
		if m, err := sub.NextMsg(2 * time.Second); err != nil || string(m.Data) != want {
			t.Errorf("%q: %v", want, err)
		}
	}
	for _, sub := range []*nats.Subscription{sub1, sub2} {
		if m, err := sub.NextMsg(100 * time.Millisecond); err == nil {
			t.Errorf("a second notice %q", m.Data)
		}
	}
	for _, name := range []string{"", "*", ">", "web-1.x"} {
		if w.Notify(name, nil) == nil {
			t.Errorf("a notice to %q was sent", name)
		}
	}
}

func TestOnlyLoopback(t *testing.T) {
	for listen, want := range map[string]string{
		"0.0.0.0:0":      "TLS",
		"[::]:0":         "TLS",
		":4222":          "TLS",
		"192.0.2.1:4222": "TLS",
		"example.org:1":  "TLS",
		"127.0.0.1":      "not an address",
		"127.0.0.1:x":    "port",
	} {
		_, err := bus.Start(t.Context(), bus.Options{Listen: listen, StoreDir: t.TempDir(), Authorize: func(string) (bus.Grant, bool) { return bus.Grant{}, false }})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", listen, err, want)
		}
	}
}

func TestPortInUse(t *testing.T) {
	w := start(t, 0)
	o := w.options
	o.Listen, o.StoreDir = strings.TrimPrefix(w.ClientURL(), "nats://"), t.TempDir()
	if _, err := bus.Start(t.Context(), o); err == nil || !strings.Contains(err.Error(), "address already in use") {
		t.Errorf("second server on one port: %v", err)
	}
}

func TestUnusableStoreDir(t *testing.T) {
	file := t.TempDir() + "/file"
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := bus.Start(t.Context(), bus.Options{Listen: "127.0.0.1:0", StoreDir: file, Logger: slog.New(slog.DiscardHandler),
		Authorize: func(string) (bus.Grant, bool) { return bus.Grant{}, false }})
	if err == nil {
		t.Error("started with a file as its folder")
	}
}
