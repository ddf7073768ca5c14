package node

import (
	"bytes"
	"encoding/json/v2"
	"io"
	"net/http"
	"strings"
	"testing"

	"evidence-ledger/verify/problem"
)

// replies answers every request in the same way.
type replies struct {
	status int
	body   []byte
}

func (r replies) RoundTrip(*http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: r.status, Status: http.StatusText(r.status), Body: io.NopCloser(bytes.NewReader(r.body))}, nil
}

// FuzzClient: whatever listens on the socket, a reply is read as it stands or
// there is an error that says something.
func FuzzClient(f *testing.F) {
	f.Add(200, []byte(`{"origin":"ledger.example.org/evidence","size":3,"nats":"nats://127.0.0.1:4222","http":"","taken":1,"stalled":""}`))
	f.Add(200, []byte(`{"index":18446744073709551615}`))
	f.Add(200, []byte(`{"size":-1}`))
	f.Add(200, []byte(`null`))
	f.Add(422, []byte(`{"error":"trust.basis: signed on another state","problem":{"code":"trust.basis","where":"predicate.data.basis","text":"signed on another state"}}`))
	f.Add(422, []byte(`{"error":"x","problem":{}}`))
	f.Add(422, []byte(`{}`))
	f.Add(404, []byte("404 page not found\n"))
	f.Fuzz(func(t *testing.T, code int, body []byte) {
		c := &Client{&http.Client{Transport: replies{code, body}}}
		if code/100 == 3 {
			return // package net/http's own
		}
		status, err := c.Status()
		if says(t, code, err) {
			same(t, &status)
		}
		var trusted trustReply
		if err := c.call("POST", "/v1/trust", body, &trusted); says(t, code, err) {
			same(t, &trusted)
		}
	})
}

func says(t *testing.T, code int, err error) bool {
	t.Helper()
	if (err == nil) && code != http.StatusOK {
		t.Fatalf("no error with status %d", code)
	}
	if err != nil && strings.Trim(err.Error(), ": \n") == "" {
		t.Fatalf("an error without a word: %q", err)
	}
	if p := problem.Of(err); p != nil && p.Code == "" {
		t.Fatalf("a problem without a code: %+v", p)
	}
	return err == nil
}

// same: what was read, written and read again, is the same.
func same[T comparable](t *testing.T, v *T) {
	t.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	var again T
	if err := json.Unmarshal(raw, &again); err != nil || again != *v {
		t.Fatalf("%+v is %+v when it is read again: %v", *v, again, err)
	}
}
