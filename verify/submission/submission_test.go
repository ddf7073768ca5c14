package submission_test

import (
	"bytes"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"evidence-ledger/verify/problem"
	"evidence-ledger/verify/submission"
)

const (
	// hello is the SHA-256 of "hello".
	hello = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"

	good = `{"envelope":{"a": 1},"disclosures":[],` +
		`"artifacts":[{"name":"history.log","mediaType":"text/plain","sha256":"` + hello + `","data":"aGVsbG8="}],` +
		`"checkpoint":"ledger.example.org/evidence\n3\n"}`

	goodReceipt = `{"id":"019cabcd-0000-7000-8000-000000000102","receipt":"c2sp.org/tlog-proof@v1\n"}`
	goodRefusal = `{"id":"019cabcd-0000-7000-8000-000000000102","refusal":{"code":"event.schema","where":"predicate.data.tool",` +
		`"text":"the member is absent","payload":"` + hello + `","signed":true,"time":"2026-11-24T20:00:00.512034Z"}}`
)

// refusal is one change of something good and the problem that it makes.
type refusal struct{ old, new, code, where string }

// apply replaces the first old by new, which must be there.
func (r refusal) apply(t *testing.T, in string) []byte {
	t.Helper()
	if !strings.Contains(in, r.old) {
		t.Fatalf("%q is not in %s", r.old, in)
	}
	return []byte(strings.Replace(in, r.old, r.new, 1))
}

func wantProblem(t *testing.T, err error, code, where string) {
	t.Helper()
	p := problem.Of(err)
	if p == nil || p.Code != code || p.Where != where {
		t.Errorf("got %v, want %s at %q", err, code, where)
	}
}

func TestParse(t *testing.T) {
	s, err := submission.Parse([]byte(good))
	if err != nil {
		t.Fatal(err)
	}
	want := &submission.Submission{
		Envelope:   []byte(`{"a": 1}`),
		Artifacts:  []submission.Artifact{{Name: "history.log", MediaType: "text/plain", SHA256: hello, Data: []byte("hello")}},
		Checkpoint: "ledger.example.org/evidence\n3\n",
	}
	if !reflect.DeepEqual(s, want) {
		t.Errorf("\n%+v\n%+v", s, want)
	}
	if got := s.Body(); string(got) != good {
		t.Errorf("the body differs:\n%s\n%s", got, good)
	}
}

// TestEnvelopeIsRaw: white space, escapes, doubled members and order of the
// envelope reach the event's parser untouched.
func TestEnvelopeIsRaw(t *testing.T) {
	envelope := "{ \"b\":\t\"\\u0061\\/\",\n \"a\": null }"
	s, err := submission.Parse([]byte("{\n \"envelope\" : " + envelope + " }"))
	if err != nil || string(s.Envelope) != envelope {
		t.Fatalf("%v: %q", err, s.Envelope)
	}
	if !bytes.Contains(s.Body(), []byte(envelope)) {
		t.Errorf("the body has another envelope: %s", s.Body())
	}
}

func TestRefused(t *testing.T) {
	for _, r := range []refusal{
		{`{"envelope"`, `{"envelope"` + strings.Repeat(" ", submission.MaxBody), "submission.size", ""},
		{`{"envelope"`, "\ufeff" + `{"envelope"`, "submission.json", ""},
		{`"text/plain"`, "\"\xff\"", "submission.json", "artifacts.0.mediaType"},
		{`3\n"}`, `3\n"`, "submission.json", ""},
		{`3\n"}`, `3\n"}1`, "submission.json", ""},
		{`{"envelope"`, `{"checkpoint":"","envelope"`, "submission.duplicate-member", "checkpoint"},
		{`{"a": 1}`, `{"a":1,"a":1}`, "submission.duplicate-member", "envelope.a"},
		{`"disclosures"`, `"Disclosures"`, "submission.member", "Disclosures"},
		{`"mediaType"`, `"x":1,"mediaType"`, "submission.member", "artifacts.0.x"},
		{`"mediaType"`, `"\u001b":1,"mediaType"`, "submission.member", `"artifacts.0.\x1b"`},
		{`"disclosures":[]`, `"disclosures":null`, "submission.member", "disclosures"},
		{`"aGVsbG8="`, `null`, "submission.member", "artifacts.0.data"},
		{`"aGVsbG8="`, `1`, "submission.member", "artifacts.0.data"},
		{`{"a": 1}`, `null`, "submission.member", "envelope"},
		{`{"a": 1}`, `[]`, "submission.envelope", "envelope"},
		{`"envelope":{"a": 1},`, ``, "submission.envelope", "envelope"},
		{`"disclosures":[]`, `"disclosures":["WyJ4Il0"]`, "submission.disclosures", "disclosures"},
		{`"name":"history.log",`, ``, "submission.artifact", "artifacts.0"},
		{`"mediaType":"text/plain",`, ``, "submission.artifact", "artifacts.0"},
		{hello, strings.ToUpper(hello), "submission.artifact", "artifacts.0.sha256"},
		{`aGVsbG8=`, `aGVsbG8`, "submission.artifact", "artifacts.0.data"},
		{`aGVsbG8=`, `aGVsbG9=`, "submission.artifact", "artifacts.0.data"},
		{`aGVsbG8=`, `aGVsbA==`, "submission.artifact-digest", "artifacts.0.sha256"},
		{`,"data":"aGVsbG8="`, ``, "submission.artifact-missing", "artifacts.0.data"},
	} {
		t.Run(r.code+" "+r.where, func(t *testing.T) {
			_, err := submission.Parse(r.apply(t, good))
			wantProblem(t, err, r.code, r.where)
		})
	}
}

// TestEmptyArtifact: no bytes are bytes too.
func TestEmptyArtifact(t *testing.T) {
	const empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	in := &submission.Submission{Envelope: []byte("{}"), Artifacts: []submission.Artifact{{Name: "n", MediaType: "m", SHA256: empty, Data: []byte{}}}}
	out, err := submission.Parse(in.Body())
	if err != nil || !reflect.DeepEqual(in, out) {
		t.Errorf("%v: %+v", err, out)
	}
}

func TestSubject(t *testing.T) {
	const subject = "evidence.v1.web-1.patch.run.completed"
	if got := submission.Subject("web-1", "patch.run.completed"); got != subject {
		t.Errorf("got %s", got)
	}
	collector, typ, err := submission.ParseSubject(subject)
	if err != nil || collector != "web-1" || typ != "patch.run.completed" {
		t.Errorf("%s %s %v", collector, typ, err)
	}
	for _, bad := range []string{
		"", "evidence.v1.", "evidence.v1.web-1", "evidence.v1.web-1.", "evidence.v1.web-1.patch",
		"evidence.v2.web-1.patch.run", "evidence.v1.Web.patch.run", "evidence.v1.*.patch.run",
		"evidence.v1.web-1.patch.>", "evidence.v1.web-1.patch..run", "x.evidence.v1.web-1.patch.run",
	} {
		_, _, err := submission.ParseSubject(bad)
		wantProblem(t, err, "submission.subject", "subject")
	}
}

func TestNotice(t *testing.T) {
	for _, in := range []string{goodReceipt, goodRefusal} {
		n, err := submission.ParseNotice([]byte(in))
		if err != nil {
			t.Fatal(err)
		}
		if got := string(n.JSON()); got != in {
			t.Errorf("\n%s\n%s", got, in)
		}
	}
}

func TestNoticeRefused(t *testing.T) {
	for _, r := range []refusal{
		{`{"id"`, `{"id"` + strings.Repeat(" ", submission.MaxBody), "submission.size", ""},
		{`"refusal":{`, `"receipt":"x","refusal":{`, "submission.notice", ""},
		{`"code":"event.schema"`, `"code":""`, "submission.notice", "refusal"},
		{`"text":"the member is absent",`, ``, "submission.notice", "refusal"},
		{hello, "aa", "submission.notice", "refusal.payload"},
		{`20:00:00.512034Z`, `20:00:00.512Z`, "submission.notice", "refusal.time"},
		{`"signed":true`, `"signed":"true"`, "submission.member", "refusal.signed"},
		{`"refusal":{`, `"refusal":null,"x":{`, "submission.member", "refusal"},
	} {
		_, err := submission.ParseNotice(r.apply(t, goodRefusal))
		wantProblem(t, err, r.code, r.where)
	}
	_, err := submission.ParseNotice([]byte(`{"id":"019cabcd-0000-7000-8000-000000000102"}`))
	wantProblem(t, err, "submission.notice", "")
	_, err = submission.ParseNotice(refusal{old: "0000-7000", new: "0000-4000"}.apply(t, goodReceipt))
	wantProblem(t, err, "submission.notice", "id")
}

// TestNoticeOfRubbish: a refusal may quote bytes that are no UTF-8.
func TestNoticeOfRubbish(t *testing.T) {
	n := &submission.Notice{Refusal: &submission.Refusal{Code: "a.b", Text: "bad \xff", Time: "2026-11-24T20:00:00Z"}}
	got, err := submission.ParseNotice(n.JSON())
	if err != nil || got.Refusal.Text != "bad \ufffd" {
		t.Errorf("%v %+v", err, got)
	}
}

// FuzzParseSubmission: what parses, written again, is the same submission.
func FuzzParseSubmission(f *testing.F) {
	f.Add([]byte(good))
	f.Add([]byte(`{"envelope":{}}`))
	f.Add([]byte(`{"envelope":{},"artifacts":[{"name":"a","mediaType":"b","sha256":"` + hello + `"}]}`))
	f.Add(fmt.Appendf(nil, `{"envelope":{"x":%q},"disclosures":[""]}`, "é"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		s, err := submission.Parse(raw)
		if err != nil {
			return
		}
		again, err := submission.Parse(s.Body())
		if err != nil {
			t.Fatalf("%v\n%s", err, s.Body())
		}
		if !reflect.DeepEqual(s, again) {
			t.Fatalf("\n%+v\n%+v", s, again)
		}
	})
}

// FuzzParseNotice: what parses, written again, is the same notice.
func FuzzParseNotice(f *testing.F) {
	f.Add([]byte(goodReceipt))
	f.Add([]byte(goodRefusal))
	f.Add([]byte(`{"id":"","refusal":{}}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		n, err := submission.ParseNotice(raw)
		if err != nil {
			return
		}
		again, err := submission.ParseNotice(n.JSON())
		if err != nil {
			t.Fatalf("%v\n%s", err, n.JSON())
		}
		if !reflect.DeepEqual(n, again) {
			t.Fatalf("\n%+v\n%+v", n, again)
		}
	})
}
