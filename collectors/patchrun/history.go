package patchrun

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"iter"
	"regexp"
	"strings"
	"time"
	"unicode/utf8"
)

// maxRecord is how much of one stanza or run is held in memory. What is longer
// is known by its times alone, and refused.
const maxRecord = 4 << 20

// Package is one item of a package list, as the schema of patch.run.completed
// has it.
type Package struct {
	Name      string `json:"name"`
	Arch      string `json:"arch,omitzero"`
	From      string `json:"from,omitzero"`
	To        string `json:"to,omitzero"`
	Action    string `json:"action,omitzero"`
	Automatic bool   `json:"automatic,omitzero"`
}

// Run is one apt stanza or one dpkg run.
type Run struct {
	Tool string // apt or dpkg
	File string // where it stands
	Line int    // its first line
	Key  string // see collectors.Observation
	// Start and End are UTC; End is zero where the log has none.
	Start, End time.Time
	Command    string
	Error      string
	Packages   []Package
	// Unread counts items of its package lists that could not be understood; the
	// artifact has them.
	Unread int
	// Artifact is the stanza's or the lines' bytes without what names a person.
	Artifact []byte
	// Oversize is its length where it is over maxRecord; then Artifact and
	// Packages are incomplete.
	Oversize int
	// Left lists packages that a dpkg run left half done; Settled tells that
	// every package it touched has a last state that is not.
	Left    []string
	Settled bool
	// coveredBy is the key of the stanza that a dpkg run is a part of.
	coveredBy string
}

// actions are the stanza's package lists and the schema's words for them.
// Disappeared: a package whose last file another one took over.
var actions = map[string]string{
	"Install": "install", "Upgrade": "upgrade", "Downgrade": "downgrade", "Reinstall": "reinstall",
	"Remove": "remove", "Purge": "purge", "Disappeared": "remove",
}

// opening are the fields that apt writes when a run begins; Error, Disappeared
// and End-Date follow at its end. The key is taken over the opening alone, so a
// stanza keeps it when it is completed after it was reported as interrupted.
func opening(field string) bool {
	return field == "Start-Date" || field == "Commandline" || actions[field] != "" && field != "Disappeared"
}

// known are the fields that the artifact keeps; withheld those that may name a
// person and are left out without a word. Other lines are left out too, and are
// reported: nobody knows whom they name.
func known(field string) bool {
	return opening(field) || field == "Disappeared" || field == "Error" || field == "End-Date"
}

func withheld(field string) bool {
	return strings.EqualFold(field, "Comment") || len(field) >= 12 && strings.EqualFold(field[:12], "Requested-By")
}

var (
	fieldLine = regexp.MustCompile(`^[A-Z][A-Za-z-]{1,40}:`)
	wallTime  = regexp.MustCompile(`^(\d{4}-\d\d-\d\d) +(\d\d:\d\d:\d\d)$`)
	account   = regexp.MustCompile(`^(?:[^\\\s]{1,64}\\)?([A-Za-z0-9_][A-Za-z0-9_.-]{0,63})(?:@\S{0,255})? \(`)
)

func parseWall(s string) (time.Time, error) {
	m := wallTime.FindStringSubmatch(strings.TrimSpace(s))
	if m == nil {
		return time.Time{}, errors.New("not YYYY-MM-DD  HH:MM:SS")
	}
	return time.Parse(time.DateTime, m[1]+" "+m[2])
}

// ParseHistory reads one apt history log and yields its stanzas in the file's
// order, a last one without End-Date too. What cannot be read is counted in
// faults. A stanza whose Start-Date cannot be read, or that a read error cuts
// off, is yielded as nil: there was one, nobody knows when it ended.
func ParseHistory(r io.Reader, zone *time.Location, faults *Faults) iter.Seq[*Run] {
	return func(yield func(*Run) bool) {
		p := &historyParser{zone: zone, faults: faults, file: faults.Path}
		in := newLines(r)
		for {
			l, err := in.next()
			if err == io.EOF {
				break
			}
			if err != nil {
				faults.stop(in.number, err)
				if p.open() {
					faults.add(p.line, "the stanza that begins here is cut off")
				}
				yield(nil)
				return
			}
			if !p.take(l, yield) {
				return
			}
		}
		p.flush(yield)
	}
}

// field is one field of a stanza with its continuation lines.
type field struct {
	name string
	raw  []byte
}

type historyParser struct {
	zone   *time.Location
	faults *Faults
	file   string

	line    int // first line of the stanza in hand
	fields  []field
	size    int
	account string
	current string // the field that a continuation line belongs to
	orphans bool   // fields without a Start-Date before them
	damaged bool   // a line of it was too long to be held

	latest time.Time // what the log tells of earlier
	equal  equal
}

func (p *historyParser) open() bool { return len(p.fields) > 0 }

// take adds one line; false means that the caller wants no more.
func (p *historyParser) take(l line, yield func(*Run) bool) bool {
	if l.long {
		p.faults.add(l.number, "the line is over %d bytes", maxLine)
		p.damaged, p.current = p.open(), ""
		return true
	}
	text := l.text
	if zeros := len(text) - len(bytes.TrimLeft(text, "\x00")); zeros > 0 {
		// A machine that lost power leaves a block of zeros before what was
		// written after it.
		p.faults.add(l.number, "%d zero bytes", zeros)
		text = text[zeros:]
	}
	if len(bytes.TrimSpace(text)) == 0 {
		p.current = ""
		return p.flush(yield)
	}
	name := strings.TrimSuffix(string(fieldLine.Find(text)), ":")
	if name == "" && (text[0] == ' ' || text[0] == '\t') && p.current != "" {
		name = p.current
		return p.keep(l.number, name, text, true)
	}
	if name == "Start-Date" && !p.flush(yield) {
		return false
	}
	p.current = name
	return p.keep(l.number, name, text, false)
}

func (p *historyParser) keep(number int, name string, text []byte, continued bool) bool {
	switch {
	case withheld(name):
		if m := account.FindSubmatch(text[min(len(text), len("Requested-By: ")):]); m != nil && !continued {
			p.account = string(m[1])
		}
	case !known(name):
		p.faults.add(number, "not a line of an apt history")
	case name != "Start-Date" && !p.open():
		p.faults.add(number, "%s without a Start-Date before it", name)
		p.orphans = true
	default:
		if !p.open() {
			p.line = number
		}
		if p.size += len(text); p.size > maxRecord && (name != "End-Date" || len(text) > 100) {
			return true
		}
		if continued {
			last := &p.fields[len(p.fields)-1]
			last.raw = append(last.raw, text...)
		} else {
			p.fields = append(p.fields, field{name, bytes.Clone(text)})
		}
	}
	return true
}

// flush yields the stanza in hand, if there is one.
func (p *historyParser) flush(yield func(*Run) bool) bool {
	if !p.open() {
		lost := p.orphans
		p.account, p.orphans = "", false
		return !lost || yield(nil)
	}
	run := p.finish()
	*p = historyParser{zone: p.zone, faults: p.faults, file: p.file, latest: p.latest, equal: p.equal}
	return yield(run)
}

func (p *historyParser) finish() *Run {
	run := &Run{Tool: "apt", File: p.file, Line: p.line}
	wall, err := parseWall(value(p.fields[0]))
	if err != nil {
		p.faults.add(p.line, "Start-Date: %v", err)
		return nil
	}
	run.Start = instant(wall, p.zone, p.latest)
	p.latest = run.Start
	if p.size > maxRecord || p.damaged {
		run.Oversize = max(p.size, maxLine)
	}
	identity := sha256.New()
	identity.Write([]byte("patchrun apt stanza\n"))
	for _, f := range p.fields {
		if opening(f.name) {
			identity.Write(f.raw)
		}
		f.raw = redact(f.raw, p.account)
		run.Artifact = append(run.Artifact, f.raw...)
		p.interpret(run, f)
	}
	run.Key = p.equal.key(wall, [32]byte(identity.Sum(nil)))
	return run
}

// equal tells equal records of one second apart by counting them in their file,
// whatever stands between them: rotation and compression keep a file together,
// and what is appended comes after. It does not count across files, where a
// repeat is mostly a copy that logrotate is about to compress.
type equal struct {
	wall   time.Time
	counts map[[32]byte]uint64 // of wall's second, by what identifies a record
}

// maxCounted bounds equal.counts. The further different records of one
// second are still told apart, not their repeats.
const maxCounted = 4096

func (e *equal) key(wall time.Time, base [32]byte) string {
	if e.counts == nil || !wall.Equal(e.wall) {
		e.wall, e.counts = wall, map[[32]byte]uint64{}
	}
	count, known := e.counts[base]
	if known || len(e.counts) < maxCounted {
		e.counts[base] = count + 1
	}
	if count == 0 {
		return hex.EncodeToString(base[:])
	}
	numbered := append(base[:], byte(count))
	if count > 0xff {
		numbered = binary.BigEndian.AppendUint64(base[:], count)
	}
	sum := sha256.Sum256(numbered)
	return hex.EncodeToString(sum[:])
}

// interpret reads one redacted field into run.
func (p *historyParser) interpret(run *Run, f field) {
	text := value(f)
	switch f.name {
	case "Start-Date":
	case "Commandline":
		run.Command = text
	case "Error":
		run.Error = strings.TrimPrefix(run.Error+"; "+text, "; ")
		if text == "" {
			run.Error += "the log says Error, but not which"
		}
	case "End-Date":
		wall, err := parseWall(text)
		if err != nil {
			p.faults.add(p.line, "End-Date of the stanza that begins here: %v", err)
			return
		}
		run.End = instant(wall, p.zone, run.Start)
		p.latest = run.End
	default:
		packages, unread := parseItems(text, actions[f.name])
		run.Packages = append(run.Packages, packages...)
		run.Unread += unread
		if unread > 0 {
			p.faults.add(p.line, "%s of the stanza that begins here: %d items not understood", f.name, unread)
		}
	}
}

// value is what follows the colon, on one line.
func value(f field) string {
	_, text, _ := bytes.Cut(f.raw, []byte(":"))
	lines := strings.Split(string(text), "\n")
	for i := range lines {
		lines[i] = strings.TrimSpace(lines[i])
	}
	return strings.TrimSpace(printable(strings.Join(lines, " ")))
}

// printable replaces what a JSON string or a terminal must not get.
func printable(s string) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	return strings.Map(func(r rune) rune {
		if r < ' ' && r != '\t' || r >= 0x7f && r < 0xa0 || r == '\u2028' || r == '\u2029' {
			return utf8.RuneError
		}
		return r
	}, s)
}

// parseItems reads `name:arch (old, new), name:arch (version, automatic), ...`.
func parseItems(text, action string) (packages []Package, unread int) {
	for text != "" {
		item := text
		if comma := itemEnd(text); comma >= 0 {
			item, text = text[:comma], strings.TrimSpace(text[comma+1:])
		} else {
			text = ""
		}
		if p, ok := parseItem(strings.TrimSpace(item), action); ok {
			packages = append(packages, p)
		} else {
			unread++
		}
	}
	return packages, unread
}

// itemEnd is the index of the first comma outside parentheses, or -1.
func itemEnd(text string) int {
	depth := 0
	for i := range len(text) {
		switch text[i] {
		case '(':
			depth++
		case ')':
			depth = max(0, depth-1)
		case ',':
			if depth == 0 {
				return i
			}
		}
	}
	return -1
}

// word is a package name, an architecture or a version: dpkg allows less, but a
// log of a package that we find odd is still evidence.
var word = regexp.MustCompile(`^[!-'*+\-./0-~]{1,200}$`)

func parseItem(item, action string) (Package, bool) {
	p := Package{Action: action}
	name, rest, versioned := strings.Cut(item, " (")
	if versioned && !strings.HasSuffix(rest, ")") || !setName(&p, name) {
		return p, false
	}
	var versions []string
	for _, v := range strings.Split(strings.TrimSuffix(rest, ")"), ",") {
		switch v = strings.TrimSpace(v); {
		case v == "automatic":
			p.Automatic = true
		case v == "":
		case !word.MatchString(v):
			return p, false
		default:
			versions = append(versions, v)
		}
	}
	switch len(versions) {
	case 0:
	case 1:
		if action == "remove" || action == "purge" {
			p.From = versions[0]
		} else {
			p.To = versions[0]
		}
	case 2:
		p.From, p.To = versions[0], versions[1]
	default:
		return p, false
	}
	return p, true
}

// setName splits name:arch.
func setName(p *Package, s string) bool {
	if !word.MatchString(s) {
		return false
	}
	name, arch, has := strings.Cut(s, ":")
	p.Name, p.Arch = name, arch
	return name != "" && (!has || arch != "" && !strings.Contains(arch, ":"))
}
