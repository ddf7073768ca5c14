package bus_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/micro"

	"evidence-ledger/ledger/bus"
)

const (
	knownID = "01936000-0000-7000-8000-000000000001"
	otherID = "01936000-0000-7000-8000-000000000002"
)

var keyID = strings.Repeat("ab", 32)

// handler answers with what it was asked.
type handler struct {
	mu   sync.Mutex
	err  error
	long bool
}

func (h *handler) fail(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.err = err
}

func (h *handler) state() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.err
}

func (h *handler) Checkpoint() ([]byte, error) { return []byte("origin\n7\n— <note>\n"), h.state() }

func (h *handler) Receipt(collector, id string) ([]byte, error) {
	if id != knownID {
		return nil, fmt.Errorf("event %s: %w", id, bus.ErrNotFound)
	}
	return fmt.Appendf(nil, `{"id":%q,"of":%q}`, id, collector), h.state()
}

func (h *handler) Consistency(old, new uint64) ([]byte, error) {
	return fmt.Appendf(nil, "%d to %d\n", old, new), h.state()
}

func (h *handler) Trust(since uint64) ([][]byte, error) {
	if h.long {
		return bytes.SplitAfter(bytes.Repeat([]byte(strings.Repeat("e", 59_999)+"\n"), 100), []byte("\n"))[:100], nil
	}
	return [][]byte{fmt.Appendf(nil, "entry %d", since), []byte("next")}, h.state()
}

func (h *handler) Refusals(collector string) ([][]byte, error) {
	if collector == "web-2" {
		return nil, h.state()
	}
	return [][]byte{fmt.Appendf(nil, `{"of":%q}`, collector), []byte(`{"id":"2"}`)}, h.state()
}

func (h *handler) Last(collector, keyID string) (map[string]bus.Last, error) {
	if collector == "web-2" {
		return nil, h.state()
	}
	return map[string]bus.Last{"patch.run.completed": {Seq: 42, Payload: keyID}}, h.state()
}

func TestEndpoints(t *testing.T) {
	w := start(t, 0)
	h := &handler{}
	if err := w.Serve(h); err != nil {
		t.Fatal(err)
	}
	if w.Serve(h) == nil {
		t.Error("serves twice")
	}
	one, two := w.connect("web-1"), w.connect("web-2")
	for _, test := range []struct {
		c                  *collector
		subject, in, reply string // a reply or the beginning of an error "404 ..."
	}{
		{one, "checkpoint", `{}`, `{"checkpoint":"origin\n7\n— <note>\n"}`},
		{one, "receipt.web-1", `{"id":"` + knownID + `"}`, `{"id":"` + knownID + `","of":"web-1"}`},
		{two, "receipt.web-2", `{"id":"` + knownID + `"}`, `{"id":"` + knownID + `","of":"web-2"}`},
		{one, "receipt.web-1", `{"id":"` + otherID + `"}`, `404 not found`},
		{one, "consistency", `{"old":3,"new":7}`, `{"proof":"3 to 7\n"}`},
		{one, "trust", `{"since":5}`, `{"entries":["ZW50cnkgNQ==","bmV4dA=="]}`},
		{one, "refusals.web-1", `{}`, `{"refusals":[{"of":"web-1"},{"id":"2"}]}`},
		{two, "refusals.web-2", `{}`, `{"refusals":[]}`},
		{one, "last.web-1", `{"keyid":"` + keyID + `"}`, `{"last":{"patch.run.completed":{"seq":42,"payload":"` + keyID + `"}}}`},
		{two, "last.web-2", `{"keyid":"` + keyID + `"}`, `{"last":{}}`},

		{one, "checkpoint", ``, `400 bad request`},
		{one, "checkpoint", `{"x":1}`, `400 bad request`},
		{one, "checkpoint", `{} {}`, `400 bad request`},
		{one, "receipt.web-1", `{}`, `400 bad request: id`},
		{one, "receipt.web-1", `{"id":"x\r\ny"}`, `400 bad request: id`},
		{one, "receipt.web-1", `{"ID":"` + knownID + `"}`, `400 bad request`},
		{one, "consistency", `{"old":3}`, `400 bad request`},
		{one, "consistency", `{"old":8,"new":7}`, `400 bad request`},
		{one, "consistency", `{"old":-1,"new":7}`, `400 bad request`},
		{one, "trust", `{}`, `400 bad request: since`},
		{one, "refusals.web-1", `[]`, `400 bad request`},
		{one, "last.web-1", `{"keyid":"AB"}`, `400 bad request: keyid`},
	} {
		if got := test.c.ask(t, test.subject, test.in); got != test.reply && !(test.reply[0] == '4' && strings.HasPrefix(got, test.reply)) {
			t.Errorf("%s %s\n got %s\nwant %s", test.subject, test.in, got, test.reply)
		}
	}
}

func TestEndpointErrors(t *testing.T) {
	w := start(t, 0)
	h := &handler{}
	if err := w.Serve(h); err != nil {
		t.Fatal(err)
	}
	c := w.connect("web-1")
	for subject, in := range map[string]string{
		"checkpoint": `{}`, "receipt.web-1": `{"id":"` + knownID + `"}`, "consistency": `{"old":3,"new":7}`,
		"trust": `{"since":5}`, "refusals.web-1": `{}`, "last.web-1": `{"keyid":"` + keyID + `"}`,
	} {
		h.fail(errors.New("the disk is on fire"))
		if got := c.ask(t, subject, in); !strings.HasPrefix(got, "500 ") || strings.Contains(got, "fire") {
			t.Errorf("%s: %s", subject, got)
		}
		h.fail(fmt.Errorf("size 9 is beyond\nthe tree: %w", bus.ErrRequest))
		if got := c.ask(t, subject, in); got != "400 size 9 is beyond the tree: bad request" {
			t.Errorf("%s: %s", subject, got)
		}
		h.fail(bus.ErrNotFound)
		if got := c.ask(t, subject, in); got != "404 not found" {
			t.Errorf("%s: %s", subject, got)
		}
	}
	if !strings.Contains(w.logged.String(), "fire") || !strings.Contains(w.logged.String(), "component=bus") {
		t.Error("the log does not say why")
	}
}

func TestLongTrustIsCut(t *testing.T) {
	w := start(t, 0)
	if err := w.Serve(&handler{long: true}); err != nil {
		t.Fatal(err)
	}
	got := w.connect("web-1").ask(t, "trust", `{"since":0}`)
	if n := strings.Count(got, `ZW`); !strings.HasPrefix(got, `{"entries":["`) || !strings.HasSuffix(got, `"]}`) || len(got) > bus.MaxPayload || strings.Count(got, ",") < 10 {
		t.Errorf("%d bytes, %d entries: %.80s", len(got), n, got)
	}
}

// ask returns the reply, or code and text of an error.
func (c *collector) ask(t *testing.T, subject, in string) string {
	t.Helper()
	m, err := c.Request("ledger.v1."+subject, []byte(in), 5*time.Second)
	if err != nil {
		t.Fatalf("%s: %v", subject, err)
	}
	if code := m.Header.Get(micro.ErrorCodeHeader); code != "" {
		return code + " " + m.Header.Get(micro.ErrorHeader)
	}
	return string(m.Data)
}
