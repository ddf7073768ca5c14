package verify

import (
	"cmp"
	"encoding/json/jsontext"
	"encoding/json/v2"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode"

	"evidence-ledger/verify/event"
	"evidence-ledger/verify/problem"
	"evidence-ledger/verify/syntax"
)

// Verdict is the outcome in one word; see Report.ExitCode.
type Verdict string

const (
	// Verified: no problem, and the identity that was given vouches for it.
	Verified Verdict = "verified"
	// Problems: something was changed, dropped, reordered, back-dated or forged.
	Problems Verdict = "problems"
	// Unvouched: consistent with itself, but no identity was given, so
	// nobody says that it is the ledger that it claims to be.
	Unvouched Verdict = "unvouched"
)

// MaxProblems is how many problems a report lists; it counts all of them.
const MaxProblems = 1000

// Signer is one key and what it signed.
type Signer struct {
	Name    string            `json:"name"`
	KeyID   string            `json:"keyid"`
	Entries uint64            `json:"entries"`
	Types   map[string]uint64 `json:"types"`
	First   uint64            `json:"first"`
	Last    uint64            `json:"last"`
}

// Report is what a verification found. Its JSON form is documented in
// verify/FORMAT.md.
type Report struct {
	Verdict      Verdict            `json:"verdict"`
	Origin       string             `json:"origin"`
	Organisation string             `json:"organisation"`
	Size         uint64             `json:"size"`
	Unreadable   uint64             `json:"unreadable"` // entries that are gone or cannot be read
	Root         string             `json:"root"`
	From         string             `json:"from,omitzero"`
	To           string             `json:"to,omitzero"`
	Checkpoints  uint64             `json:"checkpoints"`
	Tiles        uint64             `json:"tiles"`
	Artifacts    uint64             `json:"artifacts"`
	Streams      map[string]uint64  `json:"streams"`
	Signers      []*Signer          `json:"signers"`
	ProblemCount uint64             `json:"problemCount"`
	Problems     []*problem.Problem `json:"problems"`
	Notes        []string           `json:"notes"`
	NotChecked   []string           `json:"notChecked"`
	// Checkpoint is the signed note of the newest checkpoint that fits.
	Checkpoint string `json:"checkpoint"`

	signers map[string]*Signer
}

// Add lists a problem, or counts it where the list is full.
func (r *Report) Add(p *problem.Problem) {
	r.ProblemCount++
	if len(r.Problems) < MaxProblems {
		r.Problems = append(r.Problems, p)
	}
}

// Note states a fact that is no problem.
func (r *Report) Note(format string, args ...any) {
	r.Notes = append(r.Notes, fmt.Sprintf(format, args...))
}

// Decide sets the verdict and puts the problems into the order of the log.
func (r *Report) Decide(vouched bool) {
	slices.SortStableFunc(r.Problems, func(a, b *problem.Problem) int { return cmp.Compare(a.Index, b.Index) })
	for _, s := range r.signers {
		r.Signers = append(r.Signers, s)
	}
	r.signers = nil
	slices.SortFunc(r.Signers, func(a, b *Signer) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.First, b.First))
	})
	switch {
	case r.ProblemCount > 0:
		r.Verdict = Problems
	case vouched:
		r.Verdict = Verified
	default:
		r.Verdict = Unvouched
	}
}

// ExitCode is 0 for verified, 1 for problems, 2 where nobody vouches.
func (r *Report) ExitCode() int {
	switch r.Verdict {
	case Verified:
		return 0
	case Problems:
		return 1
	default:
		return 2
	}
}

// count books an entry for those who signed it; an admin has the name under
// which stream trust let its key in, the node is "node".
func (r *Report) count(index uint64, ev *event.Event, stream string, t time.Time, name func(keyID string) string) {
	if r.signers == nil {
		r.signers, r.Streams = map[string]*Signer{}, map[string]uint64{}
	}
	if r.From == "" {
		r.From = syntax.FormatMicros(t)
	}
	r.To = syntax.FormatMicros(t)
	r.Streams[stream]++
	for _, sig := range ev.Envelope.Signatures {
		s := r.signers[sig.KeyID]
		if s == nil {
			s = &Signer{Name: name(sig.KeyID), KeyID: sig.KeyID, Types: map[string]uint64{}, First: index}
			r.signers[sig.KeyID] = s
		}
		s.Entries++
		s.Types[ev.Type]++
		s.Last = index
	}
}

// JSON is the machine form, with sorted members.
func (r *Report) JSON() ([]byte, error) {
	return json.Marshal(r, json.Deterministic(true), json.FormatNilSliceAsNull(false), jsontext.AllowInvalidUTF8(true))
}

// WriteText is the form for people.
func (r *Report) WriteText(w io.Writer) error {
	p := &printer{w: w}
	if r.Origin == "" {
		p.line("ledger      unknown: its genesis does not hold")
	} else {
		p.line("ledger      %s (%s)", r.Origin, r.Organisation)
	}
	if r.From == "" {
		p.line("entries     %d, none of them readable", r.Size)
	} else {
		p.line("entries     %d, from %s to %s", r.Size, r.From, r.To)
	}
	p.line("root        %s", r.Root)
	p.line("checked     every byte of %s entries, %d signed checkpoints, %d tiles, %d artifacts", r.readable(), r.Checkpoints, r.Tiles, r.Artifacts)
	for _, name := range sortedKeys(r.Streams) {
		p.line("stream      %-32s %d", name, r.Streams[name])
	}
	for _, s := range r.Signers {
		p.line("signed by   %-20s key %.16s...  %d entries, %d to %d", s.Name, s.KeyID, s.Entries, s.First, s.Last)
	}
	for _, n := range r.Notes {
		p.line("note        %s", n)
	}
	for _, n := range r.NotChecked {
		p.line("not checked %s", n)
	}
	for _, q := range r.Problems {
		p.line("problem     %s", q.Error())
		for _, name := range sortedKeys(q.Evidence) {
			p.line("            %s: %s", name, strings.ReplaceAll(strings.TrimSpace(q.Evidence[name]), "\n", "\n              "))
		}
	}
	if more := r.ProblemCount - uint64(len(r.Problems)); more > 0 {
		p.line("            and %d more", more)
	}
	switch r.Verdict {
	case Verified:
		p.line("VERIFIED    nothing was changed, dropped, reordered or forged in %d entries", r.Size)
	case Problems:
		p.line("PROBLEMS    %d found in %d entries", r.ProblemCount, r.Size)
	default:
		p.line("NOT VOUCHED consistent with itself, nobody vouches for it: give the identity line with --identity")
	}
	return p.err
}

func (r *Report) readable() string {
	if r.Unreadable == 0 {
		return fmt.Sprint(r.Size)
	}
	return fmt.Sprintf("%d of %d", r.Size-r.Unreadable, r.Size)
}

type printer struct {
	w   io.Writer
	err error
}

func (p *printer) line(format string, args ...any) {
	if p.err == nil {
		_, p.err = io.WriteString(p.w, Printable(fmt.Sprintf(format, args...))+"\n")
	}
}

// Printable replaces what could steer a terminal: control characters but for
// line feeds, and text in another direction. What is in evidence is foreign.
func Printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r != '\n' && (unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r)) {
			return unicode.ReplacementChar
		}
		return r
	}, s)
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
