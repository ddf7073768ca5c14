// Package submission reads and writes what a collector and the node tell each
// other over NATS: a submission, and the node's notice about it.
//
// # Submission
//
// On subject evidence.v1.<collector>.<type>, header Nats-Msg-Id: <event id>:
//
//	{"envelope":{...},
//	 "disclosures":[],
//	 "artifacts":[{"name":"history.log","mediaType":"text/plain",
//	   "sha256":"<hex>","data":"<base64>"}],
//	 "checkpoint":"<the note that the event's after names>"}
//
// The envelope is read as a raw value and never serialised again: Body builds
// the message around its bytes, so a retry sends the same bytes. Disclosures
// and artifacts may be absent, which means none; checkpoint is absent while
// the collector has never verified one.
//
// # Notice
//
// On subject ledger.v1.notices.<collector>, exactly one of
//
//	{"id":"<event id>","receipt":"<tlog-proof>"}
//	{"id":"<event id>","refusal":{"code":"event.schema","where":"predicate.data.tool",
//	  "text":"...","payload":"<hex SHA-256 of the payload>","signed":true,
//	  "time":"2026-11-24T20:00:00.512034Z"}}
//
// A receipt in a notice is a claim: the collector verifies it before its spool
// lets go.
//
// # Invariants
//
// Strict JSON: unknown, doubled and null members are refused. Every artifact's
// bytes have the SHA-256 that stands beside them. What Body and JSON write,
// Parse and ParseNotice read as the same (FuzzParseSubmission,
// FuzzParseNotice). TestRefused lists a refused input for each rule.
package submission

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json/jsontext"
	"encoding/json/v2"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"evidence-ledger/verify/problem"
	"evidence-ledger/verify/syntax"
)

const (
	// MaxBody bounds a message's body: NATS' max_payload of 1 MiB also counts
	// the headers.
	MaxBody = 1<<20 - 4096
	// InlineLimit is the body's size over which artifacts have to go first
	// into the object store.
	InlineLimit = 512 << 10

	subjectPrefix = "evidence.v1."
)

// Artifact is one artifact of a submission.
type Artifact struct {
	Name, MediaType string
	// SHA256 is lower case hex.
	SHA256 string
	// Data are the bytes; nil where they do not travel in the body.
	Data []byte
}

// Submission is a message's body whose form is right. Its envelope is not
// even parsed: see package event.
type Submission struct {
	// Envelope holds the exact bytes.
	Envelope    []byte
	Disclosures []string
	Artifacts   []Artifact
	// Checkpoint is the signed note that the event's "after" names, or empty.
	Checkpoint string
}

// body is the JSON of a submission, members in the order of Body.
type body struct {
	Envelope    jsontext.Value `json:"envelope"`
	Disclosures []string       `json:"disclosures"`
	Artifacts   []artifact     `json:"artifacts"`
	Checkpoint  string         `json:"checkpoint,omitzero"`
}

type artifact struct {
	Name      string  `json:"name"`
	MediaType string  `json:"mediaType"`
	SHA256    string  `json:"sha256"`
	Data      *string `json:"data,omitzero"`
}

// Parse reads a message's body.
func Parse(raw []byte) (*Submission, error) {
	if len(raw) > MaxBody {
		return nil, problem.New("submission.size", "", "the body has %d bytes, at most %d are allowed", len(raw), MaxBody)
	}
	var in body
	if err := decode(raw, &in); err != nil {
		return nil, err
	}
	if in.Envelope.Kind() != jsontext.KindBeginObject {
		return nil, problem.New("submission.envelope", "envelope", "the envelope is absent or no object")
	}
	if len(in.Disclosures) > 0 {
		return nil, problem.New("submission.disclosures", "disclosures", "there are %d disclosures, but this version takes no personal data", len(in.Disclosures))
	}
	s := &Submission{Envelope: in.Envelope, Checkpoint: in.Checkpoint}
	for i, a := range in.Artifacts {
		out, err := readArtifact(fmt.Sprintf("artifacts.%d", i), a)
		if err != nil {
			return nil, err
		}
		s.Artifacts = append(s.Artifacts, out)
	}
	return s, nil
}

// Envelope returns the envelope's bytes of a body that Parse refuses, to tell
// which event was refused; nil where the body is no JSON or has none.
func Envelope(raw []byte) []byte {
	var in body
	if len(raw) > MaxBody || decode(raw, &in) != nil {
		return nil
	}
	return in.Envelope
}

func readArtifact(where string, in artifact) (out Artifact, err error) {
	if in.Name == "" || in.MediaType == "" {
		return out, problem.New("submission.artifact", where, "the artifact has no name or no media type")
	}
	want, err := syntax.Digest(in.SHA256)
	if err != nil {
		return out, problem.New("submission.artifact", where+".sha256", "%v", err)
	}
	if in.Data == nil {
		return out, problem.New("submission.artifact-missing", where+".data", "the bytes of %.80q are absent, but this version takes artifacts only inside the submission", in.Name)
	}
	data, err := syntax.Base64(*in.Data)
	if err != nil {
		return out, problem.New("submission.artifact", where+".data", "%v", err)
	}
	if got := sha256.Sum256(data); got != want {
		return out, problem.New("submission.artifact-digest", where+".sha256", "the bytes of %.80q have SHA-256 %x, not %x", in.Name, got, want)
	}
	return Artifact{Name: in.Name, MediaType: in.MediaType, SHA256: in.SHA256, Data: data}, nil
}

// Body writes the message's body by concatenation around the envelope's exact
// bytes.
func (s *Submission) Body() []byte {
	artifacts := []artifact{}
	for _, a := range s.Artifacts {
		out := artifact{Name: a.Name, MediaType: a.MediaType, SHA256: a.SHA256}
		if a.Data != nil {
			data := base64.StdEncoding.EncodeToString(a.Data)
			out.Data = &data
		}
		artifacts = append(artifacts, out)
	}
	var b bytes.Buffer
	b.WriteString(`{"envelope":`)
	b.Write(s.Envelope)
	b.WriteString(`,"disclosures":`)
	b.Write(encode(append([]string{}, s.Disclosures...)))
	b.WriteString(`,"artifacts":`)
	b.Write(encode(artifacts))
	if s.Checkpoint != "" {
		b.WriteString(`,"checkpoint":`)
		b.Write(encode(s.Checkpoint))
	}
	b.WriteString(`}`)
	return b.Bytes()
}

// Subject is the NATS subject of a collector's events of one type.
func Subject(collector, typ string) string { return subjectPrefix + collector + "." + typ }

// ParseSubject is the inverse of Subject.
func ParseSubject(subject string) (collector, typ string, err error) {
	rest, ok := strings.CutPrefix(subject, subjectPrefix)
	if !ok {
		return "", "", problem.New("submission.subject", "subject", "%.200q does not begin with %s", subject, subjectPrefix)
	}
	collector, typ, _ = strings.Cut(rest, ".")
	if err := syntax.Collector(collector); err != nil {
		return "", "", problem.New("submission.subject", "subject", "%v", err)
	}
	if err := syntax.Type(typ); err != nil {
		return "", "", problem.New("submission.subject", "subject", "%v", err)
	}
	return collector, typ, nil
}

// errNull is a null, which json/v2 would read as an absent member.
var errNull = errors.New("null is not allowed here")

// strict is json/v2's strictness, and no unknown members, and no null.
var strict = json.JoinOptions(
	json.RejectUnknownMembers(true),
	json.WithUnmarshalers(json.UnmarshalFromFunc(func(dec *jsontext.Decoder, _ any) error {
		if dec.PeekKind() == jsontext.KindNull {
			return errNull
		}
		return errors.ErrUnsupported // go on as if there were no such function
	})),
)

// decode reads one JSON value into a struct that has a field for each allowed
// member.
func decode(raw []byte, into any) error {
	err := json.Unmarshal(raw, into, strict)
	where := ""
	if e, ok := errors.AsType[*json.SemanticError](err); ok {
		where = dotted(e.JSONPointer)
	}
	if e, ok := errors.AsType[*jsontext.SyntacticError](err); ok {
		where = dotted(e.JSONPointer)
	}
	if errors.Is(err, jsontext.ErrDuplicateName) {
		return problem.New("submission.duplicate-member", where, "the member stands there twice")
	}
	if _, ok := errors.AsType[*jsontext.SyntacticError](err); ok {
		return problem.New("submission.json", where, "not strict JSON: %v", err)
	}
	if err != nil {
		return problem.New("submission.member", where, "%s", memberText(err))
	}
	return nil
}

func memberText(err error) string {
	if errors.Is(err, json.ErrUnknownName) {
		return "no such member belongs here"
	}
	if errors.Is(err, errNull) {
		return errNull.Error()
	}
	return "the member has a value of a wrong kind"
}

// dotted writes a place as artifacts.0.name. Foreign names in it get no chance
// to move a cursor or to fill a screen.
func dotted(p jsontext.Pointer) string {
	s := strings.Join(slices.Collect(p.Tokens()), ".")
	if strings.ContainsFunc(s, unicode.IsControl) {
		s = strconv.QuoteToGraphic(s)
	}
	return fmt.Sprintf("%.200s", s)
}

// encode writes JSON; invalid UTF-8 becomes the replacement character, since
// what describes a foreign message may quote it.
func encode(v any) []byte {
	b, err := json.Marshal(v, jsontext.AllowInvalidUTF8(true))
	if err != nil {
		panic(err) // strings, numbers and booleans only
	}
	return b
}
