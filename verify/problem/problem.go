// Package problem is one violated rule of the formats.
//
// Every check below verify/ that refuses something returns a *Problem, so that
// a report, a quarantine record and an error on a terminal say the same thing:
// which rule of verify/FORMAT.md (Code), at which entry (Index), in which field
// or line (Where), in a sentence for people (Text), with what proves it
// (Evidence). Auditors call what they find a finding; we say problem.
//
// Invariants: a Code is listed in FORMAT.md and has a bad vector below
// verify/testdata (TestEveryRuleHasABadVector in verify); a check is written
// `if wrong { return problem.New(...) }`, so that TestEveryCheckIsNeeded can
// switch each one off and see a vector fail.
package problem

import (
	"encoding/json/jsontext"
	"encoding/json/v2"
	"errors"
	"fmt"
	"strings"
)

// NoIndex is the Index of a problem that belongs to no single entry.
const NoIndex = -1

// Problem is one violated rule. It is an error.
type Problem struct {
	// Code names the rule in FORMAT.md, as "event.payload-type".
	Code string `json:"code"`
	// Index is the entry's index, or NoIndex.
	Index int64 `json:"index"`
	// Where is the field, line, file or table row, as "predicate.event.seq";
	// empty where the whole thing is meant.
	Where string `json:"where,omitempty"`
	// Text is one sentence: what is wrong and what was expected.
	Text string `json:"text"`
	// Evidence holds the values that prove it, printable, by name.
	Evidence map[string]string `json:"evidence,omitempty"`
}

// New returns a problem that belongs to no entry yet; see At.
func New(code, where, format string, args ...any) *Problem {
	return &Problem{Code: code, Index: NoIndex, Where: where, Text: fmt.Sprintf(format, args...)}
}

// With adds one named value that proves the problem and returns p.
func (p *Problem) With(name, value string) *Problem {
	if p.Evidence == nil {
		p.Evidence = map[string]string{}
	}
	p.Evidence[name] = value
	return p
}

// Error returns one line: entry, code, where, text.
func (p *Problem) Error() string {
	var b strings.Builder
	if p.Index != NoIndex {
		fmt.Fprintf(&b, "entry %d: ", p.Index)
	}
	b.WriteString(p.Code)
	b.WriteString(": ")
	if p.Where != "" {
		b.WriteString(p.Where)
		b.WriteString(": ")
	}
	b.WriteString(p.Text)
	return b.String()
}

// MarshalJSON writes Index only where there is one.
func (p *Problem) MarshalJSON() ([]byte, error) {
	type plain struct {
		Code     string            `json:"code"`
		Index    *int64            `json:"index,omitempty"`
		Where    string            `json:"where,omitempty"`
		Text     string            `json:"text"`
		Evidence map[string]string `json:"evidence,omitempty"`
	}
	out := plain{Code: p.Code, Where: p.Where, Text: p.Text, Evidence: p.Evidence}
	if p.Index != NoIndex {
		out.Index = &p.Index
	}
	// What proves a problem may be foreign bytes; those that are no UTF-8 become
	// the replacement character.
	return json.Marshal(out, json.Deterministic(true), jsontext.AllowInvalidUTF8(true))
}

// UnmarshalJSON reads what MarshalJSON wrote: without Index there is none.
func (p *Problem) UnmarshalJSON(raw []byte) error {
	type plain Problem
	in := plain{Index: NoIndex}
	if err := json.Unmarshal(raw, &in); err != nil {
		return err
	}
	*p = Problem(in)
	return nil
}

// Of returns the problem inside err, or nil where err holds none: then err is
// a failure of the machine (a disk, a network), not a violated rule.
func Of(err error) *Problem {
	var p *Problem
	if errors.As(err, &p) {
		return p
	}
	return nil
}

// At returns a copy of the problem inside err with its entry's index set, or
// err itself where it holds no problem.
func At(index uint64, err error) error {
	p := Of(err)
	if p == nil {
		return err
	}
	q := *p
	q.Index = int64(index)
	return &q
}
