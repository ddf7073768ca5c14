package event

import (
	"bytes"
	"encoding/json/jsontext"
	"encoding/json/v2"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"evidence-ledger/verify/problem"
)

// errNull is a null where a member of ours stands: json/v2 would read it as an
// absent member, and then two spellings would mean the same.
var errNull = errors.New("null is not allowed here")

// strict refuses unknown members and null. What json/v2 refuses by default
// (doubled members, wrong case, invalid UTF-8, bytes after the value) stays
// refused. A jsontext.Value is taken as it is, whatever is inside.
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
// member. The places in its problems are below prefix.
func decode(raw []byte, into any, prefix string) error {
	err := json.Unmarshal(raw, into, strict)
	if errors.Is(err, jsontext.ErrDuplicateName) {
		return problem.New("event.duplicate-member", dotted(prefix, pointerOf(err)), "the member stands there twice")
	}
	if _, ok := errors.AsType[*jsontext.SyntacticError](err); ok {
		return problem.New("event.json", dotted(prefix, pointerOf(err)), "not strict JSON: %v", err)
	}
	if err != nil {
		return problem.New("event.member", dotted(prefix, pointerOf(err)), "%s", memberText(err))
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
	if s, ok := errors.AsType[*json.SemanticError](err); ok && s.JSONKind != 0 {
		return "a JSON " + s.JSONKind.String() + " does not belong here"
	}
	return "the member has a value of a wrong kind"
}

func pointerOf(err error) jsontext.Pointer {
	if s, ok := errors.AsType[*jsontext.SyntacticError](err); ok {
		return s.JSONPointer
	}
	if s, ok := errors.AsType[*json.SemanticError](err); ok {
		return s.JSONPointer
	}
	return ""
}

// dotted writes a pointer below prefix as a place.
func dotted(prefix string, p jsontext.Pointer) string {
	var parts []string
	if prefix != "" {
		parts = append(parts, prefix)
	}
	return place(slices.AppendSeq(parts, p.Tokens())...)
}

// place writes where something is, as problems do: predicate.data.packages.0.
// Foreign names in it get no chance to move a cursor or to fill a screen.
func place(parts ...string) string {
	s := strings.Join(parts, ".")
	if strings.ContainsFunc(s, unicode.IsControl) {
		s = strconv.QuoteToGraphic(s)
	}
	return fmt.Sprintf("%.200s", s)
}

const maxInteger = 1 << 53

// checkTokens holds, for every token of a payload that decode has read, what
// applies in "data" too: integers, and no personal data.
func checkTokens(payload []byte) error {
	dec := jsontext.NewDecoder(bytes.NewReader(payload))
	for {
		token, err := dec.ReadToken()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err // decode has read these bytes before: never
		}
		switch token.Kind() {
		case jsontext.KindNumber:
			if s := token.String(); !integer(s) {
				return problem.New("event.number", dotted("", dec.StackPointer()), "%.40s is not an integer from -2^53 to 2^53", s)
			}
		case jsontext.KindString:
			if isName(dec) && hidden(token.String()) {
				return problem.New("event.disclosure", dotted("", dec.StackPointer()), "%q is reserved for personal data, which this version does not take", token.String())
			}
		}
	}
}

// integer tells whether a JSON number is `-?(0|[1-9][0-9]*)`, not -0, within
// 2^53. JSON itself has neither leading zeros nor a plus sign.
func integer(s string) bool {
	n, err := strconv.ParseInt(s, 10, 64)
	return err == nil && s != "-0" && -maxInteger <= n && n <= maxInteger
}

// isName tells whether the string just read is a member's name: inside an
// object every first, third, ... string is.
func isName(dec *jsontext.Decoder) bool {
	kind, length := dec.StackIndex(dec.StackDepth())
	return kind == jsontext.KindBeginObject && length%2 == 1
}

// hidden tells whether RFC 9901 gives the member's name a meaning.
func hidden(name string) bool { return name == "_sd" || name == "_sd_alg" || name == "..." }
