package event_test

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	"evidence-ledger/verify/event"
	"evidence-ledger/verify/problem"
)

const (
	zeros = "0000000000000000000000000000000000000000000000000000000000000000"
	keyA  = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	keyB  = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"

	// good is a collector's payload with every optional member.
	good = `{"_type":"https://in-toto.io/Statement/v1",` +
		`"subject":[{"name":"history.log","digest":{"sha256":"` + keyA + `"}}],` +
		`"predicateType":"urn:evidence-ledger:patch.run.completed:v1",` +
		`"predicate":{"event":{"id":"019cabcd-0000-7000-8000-000000000102","ledger":"ledger.example.org/evidence",` +
		`"collector":"web-1","seq":2,"prev":"` + keyB + `","observedAt":"2026-03-03T07:00:00Z",` +
		`"period":{"from":"2026-03-03T06:00:00Z","to":"2026-03-03T06:00:01.000001Z"},` +
		`"after":{"size":3,"root":"JPD2rWd3a0oigJmJ+cPtE6gJ1hAxydJgQOhizcdCaVI="},` +
		`"corrects":{"index":0,"reason":"wrong host"},` +
		`"method":{"name":"patchrun","version":"1.0.0","config":"` + keyA + `"}},` +
		`"scope":{"host":"web-1.example.org"},"outcome":"pass","summary":"upgrade of 1 package",` +
		`"data":{"tool":"apt","packages":[{"name":"openssl"}]}}}`

	// goodOwn is a payload about the ledger itself.
	goodOwn = `{"_type":"https://in-toto.io/Statement/v1",` +
		`"subject":[{"name":"ledger.example.org/evidence","digest":{"sha256":"23dff1d13ea19becae81838a15d3d81e24137e9364f9d372a3b7f9d227972a37"}}],` +
		`"predicateType":"urn:evidence-ledger:ledger.rejections:v1",` +
		`"predicate":{"event":{"id":"019cabcd-0000-7000-8000-000000000102","ledger":"ledger.example.org/evidence",` +
		`"observedAt":"2026-03-03T07:00:00.000001Z"},"summary":"3 submissions were refused",` +
		`"data":{"from":"2026-03-03T06:00:00.000000Z","to":"2026-03-03T07:00:00.000000Z","collectors":{"unknown":{"event.schema":3}}}}}`
)

func wrap(payload string) []byte {
	return event.Wrap([]byte(payload), []event.Signature{{KeyID: keyA, Sig: []byte("sig")}})
}

// refusal is one change of something good and the problem that it makes.
type refusal struct{ old, new, code, where string }

// apply replaces the first old by new, which must be there.
func (r refusal) apply(t *testing.T, in string) string {
	t.Helper()
	if !strings.Contains(in, r.old) {
		t.Fatalf("%q is not in %s", r.old, in)
	}
	return strings.Replace(in, r.old, r.new, 1)
}

func wantProblem(t *testing.T, err error, code, where string) {
	t.Helper()
	p := problem.Of(err)
	if p == nil || p.Code != code || p.Where != where {
		t.Errorf("got %v, want %s at %q", err, code, where)
	}
}

func TestGood(t *testing.T) {
	for _, payload := range []string{good, goodOwn} {
		e, err := event.Parse(wrap(payload), event.Builtin())
		if err != nil {
			t.Fatal(err)
		}
		again, err := e.Payload()
		if err != nil || string(again) != payload {
			t.Errorf("%v\n%s\n%s", err, again, payload)
		}
	}
}

func TestRefused(t *testing.T) {
	nineScopes := `"scope":{"a":"1","b":"1","c":"1","d":"1","e":"1","f":"1","g":"1","h":"1","i":"1"}`
	for _, r := range []refusal{
		// JSON
		{`{"_type"`, "\ufeff" + `{"_type"`, "event.json", ""},
		{`}]}}}`, `}]}}} {}`, "event.json", ""},
		{`}]}}}`, `}]}}`, "event.json", ""},
		{`"apt"`, "\"\xff\"", "event.json", "predicate.data.tool"},
		{`"apt"`, `"\ud800"`, "event.json", "predicate.data.tool"},
		{`"tool":"apt"`, `"tool":"apt","tool":"apt"`, "event.duplicate-member", "predicate.data.tool"},
		{`"seq":2`, `"seq":2,"seq":2`, "event.duplicate-member", "predicate.event.seq"},
		{`"openssl"`, `"openssl","n":1.0`, "event.number", "predicate.data.packages.0.n"},
		{`"openssl"`, `"openssl","n":1e3`, "event.number", "predicate.data.packages.0.n"},
		{`"openssl"`, `"openssl","n":-0`, "event.number", "predicate.data.packages.0.n"},
		{`"openssl"`, `"openssl","n":9007199254740993`, "event.number", "predicate.data.packages.0.n"},
		{`"openssl"`, `"openssl","n":-9007199254740993`, "event.number", "predicate.data.packages.0.n"},
		{`"seq":2`, `"seq":18446744073709551616`, "event.number", "predicate.event.seq"},
		// members
		{`{"_type"`, `[{"_type"`, "event.member", ""},
		{`"_type"`, `"extra":1,"_type"`, "event.member", "extra"},
		{`"outcome"`, `"Outcome"`, "event.member", "predicate.Outcome"},
		{`"seq":2`, `"Seq":2`, "event.member", "predicate.event.Seq"},
		{`"seq":2`, `"seq":"2"`, "event.member", "predicate.event.seq"},
		{`"seq":2`, `"seq":-2`, "event.member", "predicate.event.seq"},
		{`"size":3`, `"size":3,"\u001b":1`, "event.member", `"predicate.event.after.\x1b"`},
		{`"after":{`, `"after":null,"x":{`, "event.member", "predicate.event.after"},
		{`"predicate":{`, `"predicate":"","x":{`, "event.member", "x"},
		{`{"host":"web-1.example.org"}`, `{"host":null}`, "event.member", "predicate.scope.host"},
		{`{"host":"web-1.example.org"}`, `{"host":1}`, "event.member", "predicate.scope.host"},
		{`{"tool":"apt","packages":[{"name":"openssl"}]}`, `null`, "event.member", "predicate.data"},
		{`"predicate":{`, `"predicate":null,"x":{`, "event.member", "predicate"},
		{`"name":"history.log",`, `"name":"history.log","uri":"x",`, "event.member", "subject.0.uri"},
		{`{"sha256":"` + keyA + `"}`, `{"sha512":""}`, "event.member", "subject.0.digest.sha512"},
		// personal data
		{`"tool":"apt"`, `"tool":"apt","_sd":[]`, "event.disclosure", "predicate.data._sd"},
		{`"tool":"apt"`, `"tool":"apt","x":[{"...":""}]`, "event.disclosure", "predicate.data.x.0...."},
		{`"outcome"`, `"_sd_alg":"sha-256","outcome"`, "event.disclosure", "predicate._sd_alg"},
		// statement
		{`/Statement/v1`, `/Statement/v0.1`, "event.statement-type", "_type"},
		{`[{"name":"history.log","digest":{"sha256":"` + keyA + `"}}]`, `[]`, "event.subject", "subject"},
		{`{"sha256":"` + keyA + `"}`, `{"sha256":"aa"}`, "event.subject", "subject.0.digest.sha256"},
		{`{"sha256":"` + keyA + `"}`, `{}`, "event.subject", "subject.0.digest.sha256"},
		{`"name":"history.log",`, ``, "event.text", "subject.0.name"},
		{`history.log`, `a\nb`, "event.text", "subject.0.name"},
		{`urn:evidence-ledger:`, `urn:other:`, "event.predicate-type", "predicateType"},
		{`urn:evidence-ledger:`, ``, "event.predicate-type", "predicateType"},
		{`completed:v1`, `completed`, "event.predicate-type", "predicateType"},
		{`completed:v1`, `completed:v01`, "event.predicate-type", "predicateType"},
		{`completed:v1`, `completed:v0`, "event.predicate-type", "predicateType"},
		{`completed:v1`, `completed:v+1`, "event.predicate-type", "predicateType"},
		{`completed:v1`, `completed:v1:v1`, "event.predicate-type", "predicateType"},
		{`patch.run.completed:v1`, `patch:v1`, "event.predicate-type", "predicateType"},
		{`completed:v1`, `completed:v2`, "event.type-unknown", "predicateType"},
		{`completed:v1`, `completed:v4294967297`, "event.type-unknown", "predicateType"},
		{`patch.run.completed:v1`, `bundle:v1`, "event.type-unknown", "predicateType"},
		// predicate
		{`0000-7000`, `0000-4000`, "event.id", "predicate.event.id"},
		{`"ledger":"ledger.example.org/evidence"`, `"ledger":"Ledger"`, "event.ledger", "predicate.event.ledger"},
		{`"collector":"web-1",`, ``, "event.collector", "predicate.event.collector"},
		{`"seq":2,`, ``, "event.seq", "predicate.event.seq"},
		{`"seq":2`, `"seq":0`, "event.seq", "predicate.event.seq"},
		{`"prev":"` + keyB + `",`, ``, "event.prev", "predicate.event.prev"},
		{`"seq":2,"prev":"` + keyB, `"seq":1,"prev":"0`, "event.prev", "predicate.event.prev"},
		{`"prev":"` + keyB, `"prev":"` + zeros, "event.prev", "predicate.event.prev"},
		{`"seq":2`, `"seq":1`, "event.prev", "predicate.event.prev"},
		{`"2026-03-03T07:00:00Z"`, `"2026-03-03T07:00:00+00:00"`, "event.time", "predicate.event.observedAt"},
		{`"2026-03-03T07:00:00Z"`, `"2026-03-03T07:00:00.5Z"`, "event.time", "predicate.event.observedAt"},
		{`"from":"2026-03-03T06:00:00Z"`, `"from":""`, "event.time", "predicate.event.period.from"},
		{`"from":"2026-03-03T06:00:00Z"`, `"from":"2026-03-03T06:00:01.000001Z"`, "event.period", "predicate.event.period"},
		{`"size":3,`, ``, "event.after", "predicate.event.after.size"},
		{`JPD2rWd3a0oigJmJ+cPtE6gJ1hAxydJgQOhizcdCaVI=`, `AAAA`, "event.after", "predicate.event.after.root"},
		{`JPD2rWd3a0oigJmJ+cPtE6gJ1hAxydJgQOhizcdCaVI=`, `JPD2rWd3a0oigJmJ+cPtE6gJ1hAxydJgQOhizcdCaVJ=`, "event.after", "predicate.event.after.root"},
		{`"index":0,`, ``, "event.corrects", "predicate.event.corrects.index"},
		{`wrong host`, ``, "event.text", "predicate.event.corrects.reason"},
		{`,"method":{"name":"patchrun","version":"1.0.0","config":"` + keyA + `"}`, ``, "event.method", "predicate.event.method"},
		{`"patchrun"`, `""`, "event.text", "predicate.event.method.name"},
		{`"1.0.0"`, `""`, "event.text", "predicate.event.method.version"},
		{`"config":"` + keyA + `"`, `"config":""`, "event.method", "predicate.event.method.config"},
		{`"scope":{"host":"web-1.example.org"},`, ``, "event.scope", "predicate.scope"},
		{`"scope":{"host":"web-1.example.org"}`, nineScopes, "event.scope", "predicate.scope"},
		{`"host"`, `"ho\u007fst"`, "event.text", "predicate.scope"},
		{`web-1.example.org`, `web-1\u0085`, "event.text", "predicate.scope.host"},
		{`"outcome":"pass",`, ``, "event.outcome", "predicate.outcome"},
		{`"outcome":"pass"`, `"outcome":"PASS"`, "event.outcome", "predicate.outcome"},
		{`"summary":"upgrade of 1 package",`, ``, "event.text", "predicate.summary"},
		{`upgrade of`, `upgrade\u001bof`, "event.text", "predicate.summary"},
		{`,"data":{"tool":"apt","packages":[{"name":"openssl"}]}`, ``, "event.data", "predicate.data"},
		// schema
		{`{"tool":"apt","packages":[{"name":"openssl"}]}`, `[]`, "event.schema", "predicate.data"},
		{`"tool":"apt",`, ``, "event.schema", "predicate.data.tool"},
		{`"openssl"`, `7`, "event.schema", "predicate.data.packages.0.name"},
		{`"name":"openssl"`, `"arch":"all"`, "event.schema", "predicate.data.packages.0.name"},
		{`"tool":"apt"`, `"tool":"apt","zz":1,"extra":1`, "event.schema", "predicate.data.extra"},
		{`"tool":"apt"`, `"tool":"apt","startedAt":"2026-13-01T00:00:00Z"`, "event.schema", "predicate.data.startedAt"},
		{`"tool":"apt"`, `"tool":"apt","startedAt":"2026-12-01T00:00:00+01:00"`, "event.schema", "predicate.data.startedAt"},
		{`"tool":"apt","packages"`, `"startedAt":1,"endedAt":1,"tool":1,"packages"`, "event.schema", "predicate.data.endedAt"},
	} {
		t.Run(r.code+" "+r.where, func(t *testing.T) {
			_, err := event.Parse(wrap(r.apply(t, good)), event.Builtin())
			wantProblem(t, err, r.code, r.where)
		})
	}
}

func TestRefusedOwn(t *testing.T) {
	for _, r := range []refusal{
		{`"observedAt"`, `"collector":"web-1","observedAt"`, "event.member", "predicate.event.collector"},
		{`"summary"`, `"scope":{},"summary"`, "event.member", "predicate.scope"},
		{`"summary"`, `"outcome":"","summary"`, "event.member", "predicate.outcome"},
		{`23dff1d1`, `23dff1d2`, "event.subject", "subject.0.digest.sha256"},
		{`0000-7000`, `0000-8000`, "event.id", "predicate.event.id"},
		{`"from":"2026-03-03T06:00:00.000000Z"`, `"from":"2026-03-03T06:00:00Z"`, "event.schema", "predicate.data.from"},
	} {
		t.Run(r.code+" "+r.where, func(t *testing.T) {
			_, err := event.Parse(wrap(r.apply(t, goodOwn)), event.Builtin())
			wantProblem(t, err, r.code, r.where)
		})
	}
}

func TestPredicateAbsent(t *testing.T) {
	before, _, _ := strings.Cut(good, `,"predicate":`)
	_, err := event.Parse(wrap(before+"}"), event.Builtin())
	wantProblem(t, err, "event.member", "predicate")
}

// TestNumbersWithinBounds: 2^53 itself is within, on both sides.
func TestNumbersWithinBounds(t *testing.T) {
	for _, n := range []string{"0", "-1", "9007199254740992", "-9007199254740992"} {
		payload := strings.Replace(good, `"tool":"apt"`, `"tool":"apt","exitStatus":`+n, 1)
		if _, err := event.Parse(wrap(payload), event.Builtin()); err != nil {
			t.Errorf("%s: %v", n, err)
		}
	}
}

func TestEnvelopeRefused(t *testing.T) {
	env := string(event.Wrap([]byte("{}"), []event.Signature{{KeyID: keyB, Sig: []byte("b")}, {KeyID: keyA, Sig: []byte("a")}}))
	large := base64.StdEncoding.EncodeToString(make([]byte, event.MaxPayload+1))
	for _, r := range []refusal{
		{`{"payloadType"`, ` {"payloadType"`, "event.envelope-bounds", ""},
		{`]}`, "]}\n", "event.envelope-bounds", ""},
		{`{"payloadType"`, "\ufeff" + `{"payloadType"`, "event.envelope-bounds", ""},
		{`{"payloadType"`, `{"payloadType"` + strings.Repeat(" ", event.MaxEnvelope), "event.envelope-size", ""},
		{`]}`, `]}{}`, "event.json", ""},
		{`"payloadType"`, `"payload":"","payloadType"`, "event.duplicate-member", "payload"},
		{`"payloadType"`, `"extra":"","payloadType"`, "event.member", "extra"},
		{`"payloadType"`, `"payloadtype"`, "event.member", "payloadtype"},
		{`"keyid"`, `"cert":"","keyid"`, "event.member", "signatures.0.cert"},
		{`"e30="`, `null`, "event.member", "payload"},
		{`in-toto+json`, `in-toto`, "event.payload-type", "payloadType"},
		{`e30=`, `e30`, "event.payload-base64", "payload"},
		{`e30=`, `e31=`, "event.payload-base64", "payload"},
		{`e30=`, `e3-_`, "event.payload-base64", "payload"},
		{`e30=`, `e30=\n`, "event.payload-base64", "payload"},
		{`,"payload":"e30="`, ``, "event.payload-size", "payload"},
		{`e30=`, large, "event.payload-size", "payload"},
		{keyA, keyA[1:], "event.keyid", "signatures.0.keyid"},
		{keyA, strings.ToUpper(keyA), "event.keyid", "signatures.0.keyid"},
		{keyA, keyB, "event.keyid-order", "signatures.1.keyid"},
		{keyA, "c" + keyA[1:], "event.keyid-order", "signatures.1.keyid"},
		{`YQ==`, ``, "event.signature-base64", "signatures.0.sig"},
		{`YQ==`, `YR==`, "event.signature-base64", "signatures.0.sig"},
	} {
		t.Run(r.code, func(t *testing.T) {
			_, err := event.ParseEnvelope([]byte(r.apply(t, env)))
			wantProblem(t, err, r.code, r.where)
		})
	}
	_, err := event.ParseEnvelope(event.Wrap([]byte("{}"), nil))
	wantProblem(t, err, "event.signature-count", "signatures")
}

// TestSignatureCount: a quorum signs trust.* events, one key all others.
func TestSignatureCount(t *testing.T) {
	two := []event.Signature{{KeyID: keyB, Sig: []byte("b")}, {KeyID: keyA, Sig: []byte("a")}}
	for _, payload := range []string{good, goodOwn} {
		_, err := event.Parse(event.Wrap([]byte(payload), two), event.Builtin())
		wantProblem(t, err, "event.signature-count", "signatures")
	}
	if _, err := event.Parse(readExample(t, "0"), event.Builtin()); err != nil {
		t.Errorf("two signatures of trust.genesis: %v", err)
	}
}

// TestEnvelopeRewrapped: other white space and other member order are the same
// payload, and Raw keeps them.
func TestEnvelopeRewrapped(t *testing.T) {
	raw := fmt.Appendf(nil, "{ \"signatures\": [\n{\"sig\":\"YQ==\", \"keyid\":%q}], \"payload\":\"e30=\",\"payloadType\":\"application\\/vnd.in-toto+json\" }", keyA)
	env, err := event.ParseEnvelope(raw)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(env.Raw, raw) || string(env.Payload) != "{}" {
		t.Errorf("raw %s, payload %s", env.Raw, env.Payload)
	}
}

func TestOwn(t *testing.T) {
	for typ, want := range map[string]bool{
		"trust.genesis": true, "ledger.sealed": true, "ledger.erased": true, "ledger.verified": false,
		"patch.run.completed": false, "collector.void": false, "ledgers.x": false,
	} {
		if got := (&event.Event{Type: typ}).Own(); got != want {
			t.Errorf("%s: %t", typ, got)
		}
	}
}

// TestSchemas: each embedded schema compiles and refuses members that it does
// not name.
func TestSchemas(t *testing.T) {
	want := []string{"ledger.rejections:v1", "ledger.sealed:v1", "patch.run.completed:v1", "trust.admins-changed:v1",
		"trust.collector-enrolled:v1", "trust.collector-revoked:v1", "trust.genesis:v1", "trust.node-key-rotated:v1"}
	if got := event.Builtin().Types(); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("types %v, want %v", got, want)
	}
	for _, index := range exampleIndexes {
		e, err := event.Parse(readExample(t, index), event.Builtin())
		if err != nil {
			t.Fatal(err)
		}
		e.Data = append([]byte(`{"extra":1,`), e.Data[1:]...)
		_, err = e.Payload()
		wantProblem(t, err, "event.schema", "predicate.data.extra")
	}
}
