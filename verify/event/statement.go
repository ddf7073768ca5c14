package event

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json/jsontext"
	"encoding/json/v2"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"evidence-ledger/verify/problem"
	"evidence-ledger/verify/syntax"
)

// The structs below are the JSON of a payload, members in the order in which
// Payload writes them.

type statement struct {
	Type          string         `json:"_type"`
	Subject       []subject      `json:"subject"`
	PredicateType string         `json:"predicateType"`
	Predicate     jsontext.Value `json:"predicate"`
}

type subject struct {
	Name   string `json:"name"`
	Digest struct {
		SHA256 string `json:"sha256"`
	} `json:"digest"`
}

// ownPredicate is the predicate of an event about the ledger itself.
type ownPredicate struct {
	Event struct {
		ID         string `json:"id"`
		Ledger     string `json:"ledger"`
		ObservedAt string `json:"observedAt"`
	} `json:"event"`
	Summary string         `json:"summary"`
	Data    jsontext.Value `json:"data"`
}

// predicate is the predicate of every other event.
type predicate struct {
	Event struct {
		ID         string    `json:"id"`
		Ledger     string    `json:"ledger"`
		Collector  string    `json:"collector"`
		Seq        uint64    `json:"seq"`
		Prev       string    `json:"prev"`
		ObservedAt string    `json:"observedAt"`
		Period     *period   `json:"period,omitzero"`
		After      *after    `json:"after,omitzero"`
		Corrects   *corrects `json:"corrects,omitzero"`
		Method     *method   `json:"method"`
	} `json:"event"`
	Scope   map[string]string `json:"scope"`
	Outcome string            `json:"outcome"`
	Summary string            `json:"summary"`
	Data    jsontext.Value    `json:"data"`
}

type period struct {
	From *string `json:"from,omitzero"`
	To   *string `json:"to,omitzero"`
}

type after struct {
	Size uint64 `json:"size"`
	Root string `json:"root"`
}

type corrects struct {
	Index  *uint64 `json:"index"`
	Reason string  `json:"reason"`
}

type method struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	Config  string `json:"config"`
}

// parsePayload reads and checks a statement. A member that is required and
// absent reads as empty, which no rule below allows.
func parsePayload(payload []byte, schemas *Schemas) (*Event, error) {
	var st statement
	if err := decode(payload, &st, ""); err != nil {
		return nil, err
	}
	if err := checkTokens(payload); err != nil {
		return nil, err
	}
	if st.Type != StatementType {
		return nil, problem.New("event.statement-type", "_type", "%.80q is not %s", st.Type, StatementType)
	}
	if len(st.Predicate) == 0 {
		return nil, problem.New("event.member", "predicate", "the predicate is absent")
	}
	e := &Event{}
	var err error
	if e.Type, e.Version, err = parsePredicateType(st.PredicateType); err != nil {
		return nil, err
	}
	if e.Own() {
		err = e.readOwn(st.Predicate)
	} else {
		err = e.read(st.Predicate)
	}
	if err != nil {
		return nil, err
	}
	if e.Subject, err = e.readSubject(st.Subject); err != nil {
		return nil, err
	}
	if err := schemas.check(e.Type, e.Version, e.Data); err != nil {
		return nil, err
	}
	return e, nil
}

func parsePredicateType(s string) (typ string, version int, err error) {
	typ, v, _ := strings.Cut(strings.TrimPrefix(s, PredicatePrefix), ":v")
	version, err = strconv.Atoi(v)
	if err != nil || version < 1 || s != predicateType(typ, version) {
		return "", 0, problem.New("event.predicate-type", "predicateType", "%.200q is not %s<type>:v<version>", s, PredicatePrefix)
	}
	if err := syntax.Type(typ); err != nil {
		return "", 0, problem.New("event.predicate-type", "predicateType", "%v", err)
	}
	return typ, version, nil
}

func predicateType(typ string, version int) string {
	return fmt.Sprintf("%s%s:v%d", PredicatePrefix, typ, version)
}

// readSubject runs after the predicate was read: it compares with the ledger.
func (e *Event) readSubject(in []subject) ([]Artifact, error) {
	if len(in) == 0 {
		return nil, problem.New("event.subject", "subject", "there is no artifact, at least one is required")
	}
	var out []Artifact
	for i, s := range in {
		where := fmt.Sprintf("subject.%d", i)
		if err := checkLine(where+".name", s.Name); err != nil {
			return nil, err
		}
		d, err := syntax.Digest(s.Digest.SHA256)
		if err != nil {
			return nil, problem.New("event.subject", where+".digest.sha256", "%v", err)
		}
		a := Artifact{Name: s.Name, SHA256: d}
		if e.Own() && a.Name == e.Ledger && a != OriginSubject(e.Ledger) {
			return nil, problem.New("event.subject", where+".digest.sha256", "the subject is the ledger's origin, but the digest is not the origin's SHA-256")
		}
		out = append(out, a)
	}
	return out, nil
}

func (e *Event) readOwn(raw []byte) error {
	var in ownPredicate
	if err := decode(raw, &in, "predicate"); err != nil {
		return err
	}
	return e.readCommon(in.Event.ID, in.Event.Ledger, in.Event.ObservedAt, in.Summary, in.Data)
}

// readCommon reads what every event has.
func (e *Event) readCommon(id, ledger, observedAt, summary string, data jsontext.Value) (err error) {
	if err := syntax.UUID7(id); err != nil {
		return problem.New("event.id", "predicate.event.id", "%v", err)
	}
	if err := syntax.Origin(ledger); err != nil {
		return problem.New("event.ledger", "predicate.event.ledger", "%v", err)
	}
	if e.ObservedAt, err = readTime("predicate.event.observedAt", observedAt); err != nil {
		return err
	}
	if err := checkLine("predicate.summary", summary); err != nil {
		return err
	}
	e.ID, e.Ledger, e.Summary, e.Data = id, ledger, summary, data
	return nil
}

func (e *Event) read(raw []byte) (err error) {
	var in predicate
	if err := decode(raw, &in, "predicate"); err != nil {
		return err
	}
	ev := &in.Event
	if err := e.readCommon(ev.ID, ev.Ledger, ev.ObservedAt, in.Summary, in.Data); err != nil {
		return err
	}
	if err := e.readNumber(ev.Collector, ev.Seq, ev.Prev); err != nil {
		return err
	}
	if e.Period, err = readPeriod(ev.Period); err != nil {
		return err
	}
	if e.After, err = readAfter(ev.After); err != nil {
		return err
	}
	if e.Corrects, err = readCorrects(ev.Corrects); err != nil {
		return err
	}
	if e.Method, err = readMethod(ev.Method); err != nil {
		return err
	}
	if err := checkScope(in.Scope); err != nil {
		return err
	}
	if in.Outcome != "pass" && in.Outcome != "fail" && in.Outcome != "info" {
		return problem.New("event.outcome", "predicate.outcome", "%.40q is none of pass, fail, info", in.Outcome)
	}
	e.Scope, e.Outcome = in.Scope, in.Outcome
	return nil
}

func (e *Event) readNumber(collector string, seq uint64, prev string) error {
	if err := syntax.Collector(collector); err != nil {
		return problem.New("event.collector", "predicate.event.collector", "%v", err)
	}
	if seq == 0 {
		return problem.New("event.seq", "predicate.event.seq", "the number is absent or 0, the first is 1")
	}
	d, err := syntax.Digest(prev)
	if err != nil {
		return problem.New("event.prev", "predicate.event.prev", "%v", err)
	}
	if (seq == 1) != (d == [32]byte{}) {
		return problem.New("event.prev", "predicate.event.prev", "the digest is all zeros exactly at number 1, this is number %d", seq)
	}
	e.Collector, e.Seq, e.Prev = collector, seq, d
	return nil
}

func readTime(where, s string) (time.Time, error) {
	t, err := syntax.Time(s)
	if err != nil {
		return time.Time{}, problem.New("event.time", where, "%v", err)
	}
	return t, nil
}

func readPeriod(in *period) (*Period, error) {
	if in == nil {
		return nil, nil
	}
	out := &Period{}
	for _, end := range []struct {
		name string
		in   *string
		out  **time.Time
	}{{"from", in.From, &out.From}, {"to", in.To, &out.To}} {
		if end.in == nil {
			continue
		}
		t, err := readTime("predicate.event.period."+end.name, *end.in)
		if err != nil {
			return nil, err
		}
		*end.out = &t
	}
	if out.From != nil && out.To != nil && !out.From.Before(*out.To) {
		return nil, problem.New("event.period", "predicate.event.period", "the period is empty: it runs from %s until before %s", *in.From, *in.To)
	}
	return out, nil
}

func readAfter(in *after) (*After, error) {
	if in == nil {
		return nil, nil
	}
	if in.Size == 0 {
		return nil, problem.New("event.after", "predicate.event.after.size", "the size is absent or 0, but a ledger begins with its genesis")
	}
	root, err := syntax.Base64(in.Root)
	if err != nil || len(root) != 32 {
		return nil, problem.New("event.after", "predicate.event.after.root", "%.60q is not base64 of 32 bytes", in.Root)
	}
	return &After{Size: in.Size, Root: [32]byte(root)}, nil
}

func readCorrects(in *corrects) (*Corrects, error) {
	if in == nil {
		return nil, nil
	}
	if in.Index == nil {
		return nil, problem.New("event.corrects", "predicate.event.corrects.index", "the index is absent")
	}
	if err := checkLine("predicate.event.corrects.reason", in.Reason); err != nil {
		return nil, err
	}
	return &Corrects{Index: *in.Index, Reason: in.Reason}, nil
}

func readMethod(in *method) (*Method, error) {
	if in == nil {
		return nil, problem.New("event.method", "predicate.event.method", "the method is absent")
	}
	if err := checkLine("predicate.event.method.name", in.Name); err != nil {
		return nil, err
	}
	if err := checkLine("predicate.event.method.version", in.Version); err != nil {
		return nil, err
	}
	config, err := syntax.Digest(in.Config)
	if err != nil {
		return nil, problem.New("event.method", "predicate.event.method.config", "%v", err)
	}
	return &Method{Name: in.Name, Version: in.Version, Config: config}, nil
}

const maxScope = 8

func checkScope(scope map[string]string) error {
	if len(scope) == 0 || len(scope) > maxScope {
		return problem.New("event.scope", "predicate.scope", "the scope has %d members, 1 to %d are allowed", len(scope), maxScope)
	}
	for _, name := range slices.Sorted(maps.Keys(scope)) {
		if err := checkLine("predicate.scope", name); err != nil {
			return err
		}
		if err := checkLine(place("predicate.scope", name), scope[name]); err != nil {
			return err
		}
	}
	return nil
}

// checkLine holds for every text that people read in lists: it is there, and
// no control character in it moves a cursor or begins a line.
func checkLine(where, s string) error {
	if s == "" {
		return problem.New("event.text", where, "the text is absent or empty")
	}
	if strings.ContainsFunc(s, unicode.IsControl) {
		return problem.New("event.text", where, "the text has a control character")
	}
	return nil
}

// Payload writes the statement, compact, members in the order of the package
// comment. Times are cut to microseconds, and have decimals only where they
// need them. It refuses what Parse would refuse.
func (e *Event) Payload() ([]byte, error) {
	p, err := e.predicate()
	if err != nil {
		return nil, fmt.Errorf("write event: %w", err)
	}
	st := statement{Type: StatementType, PredicateType: predicateType(e.Type, e.Version), Predicate: p}
	for _, a := range e.Subject {
		s := subject{Name: a.Name}
		s.Digest.SHA256 = hex.EncodeToString(a.SHA256[:])
		st.Subject = append(st.Subject, s)
	}
	payload, err := json.Marshal(st)
	if err != nil {
		return nil, fmt.Errorf("write event: %w", err)
	}
	if err := checkPayloadSize(len(payload)); err != nil {
		return nil, err
	}
	if _, err := parsePayload(payload, Builtin()); err != nil {
		return nil, err
	}
	return payload, nil
}

func (e *Event) predicate() (jsontext.Value, error) {
	if e.Own() {
		out := ownPredicate{Summary: e.Summary, Data: e.Data}
		out.Event.ID, out.Event.Ledger, out.Event.ObservedAt = e.ID, e.Ledger, formatTime(e.ObservedAt)
		return json.Marshal(out)
	}
	out := predicate{Scope: e.Scope, Outcome: e.Outcome, Summary: e.Summary, Data: e.Data}
	ev := &out.Event
	ev.ID, ev.Ledger, ev.ObservedAt = e.ID, e.Ledger, formatTime(e.ObservedAt)
	ev.Collector, ev.Seq, ev.Prev = e.Collector, e.Seq, hex.EncodeToString(e.Prev[:])
	if p := e.Period; p != nil {
		ev.Period = &period{From: formatEnd(p.From), To: formatEnd(p.To)}
	}
	if a := e.After; a != nil {
		ev.After = &after{Size: a.Size, Root: base64.StdEncoding.EncodeToString(a.Root[:])}
	}
	if c := e.Corrects; c != nil {
		ev.Corrects = &corrects{Index: &c.Index, Reason: c.Reason}
	}
	if m := e.Method; m != nil {
		ev.Method = &method{Name: m.Name, Version: m.Version, Config: hex.EncodeToString(m.Config[:])}
	}
	return json.Marshal(out, json.Deterministic(true)) // scope's names sorted
}

func formatTime(t time.Time) string {
	if t.Truncate(time.Microsecond).Nanosecond() == 0 {
		return syntax.FormatSeconds(t)
	}
	return syntax.FormatMicros(t)
}

func formatEnd(t *time.Time) *string {
	if t == nil {
		return nil
	}
	s := formatTime(*t)
	return &s
}
