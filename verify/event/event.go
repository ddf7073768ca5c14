// Package event reads and writes events: what a collector has observed, as a
// signed in-toto statement in a DSSE envelope.
//
// # Format
//
// The envelope is JSON with exactly these members, as it was received, from
// its "{" to its "}". Nothing is ever serialised a second time.
//
//	{"payloadType":"application/vnd.in-toto+json",
//	 "payload":"<base64 of the statement>",
//	 "signatures":[{"keyid":"<hex SHA-256 of the key's DER>","sig":"<base64>"}]}
//
// A signature covers PAE = "DSSEv1" SP len(type) SP type SP len(payload) SP
// payload. The payload is an in-toto Statement v1:
//
//	{"_type":"https://in-toto.io/Statement/v1",
//	 "subject":[{"name":"history.log","digest":{"sha256":"<hex>"}}],
//	 "predicateType":"urn:evidence-ledger:patch.run.completed:v1",
//	 "predicate":{
//	   "event":{"id":"<UUIDv7>","ledger":"<origin>","collector":"web-1","seq":42,
//	     "prev":"<hex>","observedAt":"2026-11-24T20:00:00Z",
//	     "period":{"from":"...","to":"..."},           optional, each end optional
//	     "after":{"size":1040,"root":"<base64>"},      optional
//	     "corrects":{"index":1007,"reason":"..."},     optional
//	     "method":{"name":"patchrun","version":"1.0.0","config":"<hex>"}},
//	   "scope":{"host":"web-1.example"},               1 to 8 members
//	   "outcome":"pass",                               pass, fail or info
//	   "summary":"one line for people",
//	   "data":{...}}}                                  judged by the type's schema
//
// An event about the ledger itself (see Own) has id, ledger and observedAt in
// "event", and beside it summary and data: no more.
//
// # Invariants
//
//   - Strict JSON: members that are unknown, doubled, null or in wrong case,
//     invalid UTF-8 and lone surrogates are refused. In "data" the schema
//     decides about unknown members and null.
//   - Every number is an integer from -2^53 to 2^53, never -0.
//   - What Payload writes, Parse reads as the same event
//     (TestRoundTrip); Payload refuses what Parse would refuse.
//   - Personal data (RFC 9901) have no place yet: their member names are
//     refused everywhere in the predicate.
//
// TestRefused lists a refused input for each rule; TestExample reads events
// that a second implementation wrote.
package event

import (
	"crypto/sha256"
	"encoding/json/jsontext"
	"strings"
	"time"
)

const (
	// StatementType is the "_type" of every payload.
	StatementType = "https://in-toto.io/Statement/v1"
	// PredicatePrefix begins every predicateType; "<type>:v<version>" follows.
	PredicatePrefix = "urn:evidence-ledger:"
)

// Artifact names the raw thing that was observed by its SHA-256.
type Artifact struct {
	Name   string
	SHA256 [32]byte
}

// Period is the time that the evidence speaks about: From <= t < To. An end
// that is nil is unbounded.
type Period struct{ From, To *time.Time }

// After is the newest checkpoint that the collector had verified before it
// signed.
type After struct {
	Size uint64
	Root [32]byte
}

// Corrects names an earlier entry that this event puts right.
type Corrects struct {
	Index  uint64
	Reason string
}

// Method is the program that observed, and the SHA-256 of its configuration.
type Method struct {
	Name, Version string
	Config        [32]byte
}

// Event is one observation. Times have at most microseconds.
type Event struct {
	// Envelope is what the event was read from; nil in one that is being made.
	Envelope *Envelope

	// Type and Version are those of the predicateType.
	Type    string
	Version int
	Subject []Artifact

	ID, Ledger string
	ObservedAt time.Time
	Summary    string
	// Data is the type's own object, as signed.
	Data jsontext.Value

	// The rest is empty in an event about the ledger itself (see Own).

	Collector string
	// Seq counts the events of one key and type from 1; Prev is the SHA-256 of
	// the payload with the number before, zero at 1.
	Seq      uint64
	Prev     [32]byte
	Period   *Period
	After    *After
	Corrects *Corrects
	Method   *Method
	Scope    map[string]string
	Outcome  string
}

// Own tells whether the event is about the ledger itself, by its node or its
// admins: trust.* and ledger.*, but not ledger.verified, which an enrolled
// auditor signs like a collector.
func (e *Event) Own() bool { return own(e.Type) }

func own(typ string) bool {
	return strings.HasPrefix(typ, "trust.") ||
		strings.HasPrefix(typ, "ledger.") && typ != "ledger.verified"
}

// Parse reads an envelope's bytes: envelope, statement, predicate, schema. It
// checks no signature: see Envelope.VerifySignature.
func Parse(raw []byte, schemas *Schemas) (*Event, error) {
	env, err := ParseEnvelope(raw)
	if err != nil {
		return nil, err
	}
	e, err := parsePayload(env.Payload, schemas)
	if err != nil {
		return nil, err
	}
	if err := checkSignatureCount(e.Type, len(env.Signatures)); err != nil {
		return nil, err
	}
	e.Envelope = env
	return e, nil
}

// OriginSubject is the subject of an event about the ledger that has no
// artifacts: the origin and its SHA-256.
func OriginSubject(origin string) Artifact {
	return Artifact{Name: origin, SHA256: sha256.Sum256([]byte(origin))}
}
