package bus

import (
	"encoding/json/v2"
	"errors"
	"strings"
	"testing"
	"unicode/utf8"

	"evidence-ledger/verify/syntax"
)

// asked is a Handler that sees whether it is asked for what makes sense.
type asked struct{ t *testing.T }

func (a asked) check(err error) {
	a.t.Helper()
	if err != nil {
		a.t.Fatal(err)
	}
}

func (a asked) Checkpoint() ([]byte, error) { return []byte("note\n"), nil }
func (a asked) Receipt(_, id string) ([]byte, error) {
	a.check(syntax.UUID7(id))
	return []byte(`{"id":"` + id + `"}`), nil
}
func (a asked) Consistency(old, new uint64) ([]byte, error) {
	if old > new {
		a.t.Fatalf("from %d to %d", old, new)
	}
	return nil, nil
}
func (a asked) Trust(uint64) ([][]byte, error)    { return [][]byte{{0xff}}, nil }
func (a asked) Refusals(string) ([][]byte, error) { return [][]byte{[]byte(`{}`)}, nil }
func (a asked) Last(_, keyID string) (map[string]Last, error) {
	_, err := syntax.Digest(keyID)
	a.check(err)
	return map[string]Last{"patch.run.completed": {}}, nil
}

// FuzzAnswers: a request makes sense and gets a reply, or it is told on one line
// why it makes none.
func FuzzAnswers(f *testing.F) {
	for _, body := range []string{
		`{}`, `null`, `[]`, ``, "{\"\x1b\":1}", `{"id":"019cabcd-0000-7000-8000-000000000003"}`, `{"id":"x\r\nNats-Service-Error-Code: 1"}`,
		`{"old":3,"new":7}`, `{"old":7,"new":3}`, `{"old":-1,"new":1e2}`, `{"new":18446744073709551615,"old":0}`, `{"since":3}`,
		`{"keyid":"` + strings.Repeat("0f", 32) + `"}`, `{"keyid":null}`, "{\"\u2028\\r\\n\":1}",
	} {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		for subject, answer := range answers(asked{t}) {
			out, err := answer("web-1", body)
			if err == nil {
				if _, err := json.Marshal(out, json.Deterministic(true)); err != nil {
					t.Fatalf("%s: no reply: %v", subject, err)
				}
				continue
			}
			text := printable(err)
			if !errors.Is(err, ErrRequest) || strings.ContainsAny(text, "\r\n\x00") || !utf8.ValidString(text) || text == "" || len(text) > 1<<10 {
				t.Fatalf("%s: it is told: %q", subject, text)
			}
		}
	})
}
