package bus_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"evidence-ledger/ledger/bus"
)

func TestWhoMayConnect(t *testing.T) {
	w := start(t, 0)
	stranger := newKey(t)
	enrolled, err := w.keys["web-1"].PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	for name, options := range map[string][]nats.Option{
		"no NKEY":                     nil,
		"a password":                  {nats.UserInfo("web-1", "secret")},
		"the node's user name":        {nats.UserInfo("node", "")},
		"a token":                     {nats.Token("secret")},
		"an NKEY that is not known":   {withKey(t, stranger)},
		"another key's signature":     {nats.Nkey(enrolled, stranger.Sign)},
		"a signature of another text": {nats.Nkey(enrolled, func([]byte) ([]byte, error) { return w.keys["web-1"].Sign([]byte("another")) })},
	} {
		conn, err := nats.Connect(w.ClientURL(), append(options, nats.MaxReconnects(0))...)
		if !errors.Is(err, nats.ErrAuthorization) {
			t.Errorf("%s: %v, want an authorization error", name, err)
		}
		if err == nil {
			conn.Close()
		}
	}
	for _, bad := range []bus.Grant{{Name: ">"}, {Name: "*"}, {Name: ""}, {Name: "web-1", Types: []string{">"}}, {Name: "web-1", Types: []string{"*.*"}}} {
		w.grant("web-1", &bad)
		if conn, err := nats.Connect(w.ClientURL(), withKey(t, w.keys["web-1"]), nats.MaxReconnects(0)); err == nil {
			t.Errorf("connected with grant %+v", bad)
			conn.Close()
		}
	}
}

func TestWhatMayBePublished(t *testing.T) {
	w := start(t, 0)
	w.grant("web-1", &bus.Grant{Name: "web-1", Types: []string{"patch.*", "backup.restore.tested"}})
	c := w.connect("web-1")
	for subject, allowed := range map[string]bool{
		"evidence.v1.web-1.patch.run.completed":     true,
		"evidence.v1.web-1.patch.seen":              true,
		"evidence.v1.web-1.backup.restore.tested":   true,
		"evidence.v1.web-1.backup.restore.tested.x": false,
		"evidence.v1.web-1.backup.restore":          false,
		"evidence.v1.web-1.patch":                   false,
		"evidence.v1.web-1.patches.seen":            false,
		"evidence.v1.web-1.trust.genesis":           false,
		"evidence.v1.web-2.patch.run.completed":     false,
		"evidence.v1.web-10.patch.run.completed":    false,
		"ledger.v1.notices.web-1":                   false,
		"ledger.v1.notices.web-2":                   false,
		"ledger.v1.receipt.web-2":                   false,
		"ledger.v1.refusals.web-2":                  false,
		"ledger.v1.last.web-2":                      false,
		"ledger.v1.other":                           false,
		"_INBOX.web-2.x":                            false,
		"_INBOX.web-1.x":                            false,
		"$SRV.PING":                                 false,
		"$SYS.REQ.USER.INFO":                        false,
		"$SYS.REQ.SERVER.PING":                      false,
		"_R_.x":                                     false,
	} {
		if denied := c.isDenied(t, !allowed, func() { c.Publish(subject, []byte("{}")) }); denied == allowed {
			t.Errorf("publish to %s: denied is %v", subject, denied)
		}
	}
	if got := w.all(3); len(got) != 3 {
		t.Errorf("%d messages in the stream, want 3", len(got))
	}
}

func TestWhatMayBeRead(t *testing.T) {
	w := start(t, 0)
	c := w.connect("web-1")
	for subject, allowed := range map[string]bool{
		"ledger.v1.notices.web-1": true,
		"_INBOX.web-1.x":          true,
		"ledger.v1.notices.web-2": false,
		"ledger.v1.notices.*":     false,
		"ledger.v1.receipt.web-1": false,
		"ledger.v1.checkpoint":    false,
		"ledger.v1.>":             false,
		"evidence.v1.>":           false,
		"evidence.v1.web-1.>":     false,
		"_INBOX.>":                false,
		"_INBOX.*.x":              false,
		"_INBOX.web-2.x":          false,
		"$JS.EVENT.>":             false,
		"$SYS.>":                  false,
		">":                       false,
	} {
		if denied := c.isDenied(t, !allowed, func() { c.Subscribe(subject, func(*nats.Msg) {}) }); denied == allowed {
			t.Errorf("subscribe to %s: denied is %v", subject, denied)
		}
	}
}

// isDenied tells whether the server refuses what do sends. It waits long for
// what is expected, so that a busy machine makes no difference.
func (c *collector) isDenied(t *testing.T, expected bool, do func()) bool {
	t.Helper()
	do()
	// The server reports a violation before it answers the next PING.
	if err := c.Flush(); err != nil {
		t.Fatal(err)
	}
	wait := 20 * time.Millisecond
	if expected {
		wait = 5 * time.Second
	}
	select {
	case err := <-c.denied:
		if !strings.Contains(strings.ToLower(err.Error()), "violation") {
			t.Fatalf("unexpected error %v", err)
		}
		return true
	case <-time.After(wait):
		return false
	}
}

// administration is every way to take messages out of the stream or to stop
// the node from getting them.
var administration = map[string]string{
	"$JS.API.STREAM.PURGE.EVIDENCE":              `{}`,
	"$JS.API.STREAM.MSG.DELETE.EVIDENCE":         `{"seq":1}`,
	"$JS.API.STREAM.MSG.GET.EVIDENCE":            `{"seq":1}`,
	"$JS.API.STREAM.DELETE.EVIDENCE":             ``,
	"$JS.API.STREAM.INFO.EVIDENCE":               ``,
	"$JS.API.STREAM.UPDATE.EVIDENCE":             `{"name":"EVIDENCE","subjects":["x"]}`,
	"$JS.API.STREAM.CREATE.OTHER":                `{"name":"OTHER","subjects":["x"]}`,
	"$JS.API.CONSUMER.CREATE.EVIDENCE":           `{"stream_name":"EVIDENCE","config":{"ack_policy":"explicit"}}`,
	"$JS.API.CONSUMER.DURABLE.CREATE.EVIDENCE.x": `{"stream_name":"EVIDENCE","config":{"durable_name":"x","ack_policy":"explicit"}}`,
	"$JS.API.CONSUMER.DELETE.EVIDENCE.ledger":    ``,
	"$JS.API.CONSUMER.RESET.EVIDENCE.ledger":     `{"seq":100}`,
	"$JS.API.CONSUMER.PAUSE.EVIDENCE.ledger":     `{"pause_until":"2100-01-01T00:00:00Z"}`,
	"$JS.API.CONSUMER.MSG.NEXT.EVIDENCE.ledger":  `{"batch":10}`,
	"$JS.API.INFO": ``,
	"$JS.ACK.EVIDENCE.ledger.1.1.1.1700000000000000000": `+ACK`,
}

func TestCollectorCannotTouchTheStream(t *testing.T) {
	w := start(t, 0)
	c := w.connect("web-1")
	for _, id := range []string{"1", "2", "3"} {
		w.publish(c, id, "body")
	}
	for subject, body := range administration {
		if !c.isDenied(t, true, func() { c.PublishRequest(subject, "_INBOX.web-1.x", []byte(body)) }) {
			t.Errorf("%s was not refused", subject)
		}
	}
	if got := w.all(3); len(got) != 3 {
		t.Errorf("%d messages left, want 3", len(got))
	}
}

// A reply subject is not checked by permissions: whatever the collector names
// there, the server or the node sends to. It must lead nowhere but to the
// collector itself.
func TestReplySubjectReachesNothing(t *testing.T) {
	w := start(t, 0)
	one, two := w.connect("web-1"), w.connect("web-2")
	if err := w.Serve(&handler{}); err != nil {
		t.Fatal(err)
	}
	heard, err := two.SubscribeSync("ledger.v1.notices.web-2")
	if err != nil {
		t.Fatal(err)
	}
	if err := two.Flush(); err != nil {
		t.Fatal(err)
	}
	sent := 0
	replies := []string{"evidence.v1.web-2.patch.run.completed", "ledger.v1.notices.web-2", "ledger.v1.checkpoint"}
	for subject := range administration {
		replies = append(replies, subject)
	}
	for _, reply := range replies {
		if !strings.HasPrefix(reply, "$JS.ACK.") { // such a reply the server refuses itself
			sent++
		}
		if err := one.PublishRequest(subject1, reply, []byte("first")); err != nil {
			t.Fatal(err)
		}
		for _, request := range []string{"ledger.v1.checkpoint", "ledger.v1.receipt.web-1"} {
			if err := one.PublishRequest(request, reply, []byte("{}")); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := one.Flush(); err != nil {
		t.Fatal(err)
	}
	if m, err := heard.NextMsg(300 * time.Millisecond); err == nil {
		t.Errorf("web-2 was told %q", m.Data)
	}
	got := w.all(sent)
	for _, m := range got {
		if m.Subject != subject1 || string(m.Body) != "first" {
			t.Errorf("in the stream: %s %q", m.Subject, m.Body)
		}
	}
	if len(got) != sent {
		t.Errorf("%d messages in the stream, want %d", len(got), sent)
	}
}

func TestReauthorizeClosesRevoked(t *testing.T) {
	w := start(t, 0)
	w.enrol("web-3", "patch.*")
	kept, revoked, changed := w.connect("web-1"), w.connect("web-2"), w.connect("web-3")
	w.Reauthorize()
	w.grant("web-1", &bus.Grant{Name: "web-1", Types: []string{"patch.*"}})
	w.grant("web-2", nil)
	w.grant("web-3", &bus.Grant{Name: "web-3", Types: []string{"patch.*", "backup.*"}})
	w.Reauthorize()
	limit := time.After(time.Second)
	for name, c := range map[string]*collector{"the revoked one": revoked, "the changed one": changed} {
		select {
		case <-c.closed:
		case <-limit:
			t.Errorf("%s is still connected after a second", name)
		}
	}
	w.publish(kept, "1", "still here")
	if _, err := nats.Connect(w.ClientURL(), withKey(t, w.keys["web-2"]), nats.MaxReconnects(0)); !errors.Is(err, nats.ErrAuthorization) {
		t.Errorf("the revoked one connects again: %v", err)
	}
	again := w.connect("web-3")
	if _, err := again.js.Publish(t.Context(), "evidence.v1.web-3.backup.run.completed", nil, jetstream.WithMsgID("2")); err != nil {
		t.Errorf("the changed one under its new grant: %v", err)
	}
}
