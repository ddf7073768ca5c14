package patchrun

import (
	"bytes"
	"crypto/sha256"
	"io"
	"iter"
	"slices"
	"strings"
	"time"
)

// quiet is the time without a line after which a dpkg run is over.
const quiet = 10 * time.Minute

// ParseDpkg reads one dpkg log and yields its runs in the file's order. A run
// begins with a `startup` line, or with the first line after more than ten
// minutes, or with the file: dpkg writes all lines of a process to the file that
// it opened, so no run goes over from one file to the next. What cannot be read
// is counted in faults; a run that a read error cuts off is not yielded.
func ParseDpkg(r io.Reader, zone *time.Location, faults *Faults) iter.Seq[*Run] {
	return func(yield func(*Run) bool) {
		p := &dpkgParser{zone: zone, faults: faults}
		in := newLines(r)
		for {
			l, err := in.next()
			if err == io.EOF {
				break
			}
			if err != nil {
				faults.stop(in.number, err)
				if p.run != nil {
					faults.add(p.run.Line, "the run that begins here is cut off")
				}
				return
			}
			if !p.take(l, yield) {
				return
			}
		}
		p.flush(yield)
	}
}

type dpkgParser struct {
	zone   *time.Location
	faults *Faults

	run      *Run
	identity []byte // the run's lines as they are, for its key
	size     int
	last     time.Time
	index    map[string]int    // name:arch -> place in run.Packages
	states   map[string]string // name:arch -> last state; "" for none

	wall  time.Time // of the run's first line
	equal equal
}

// take adds one line; false means that the caller wants no more.
func (p *dpkgParser) take(l line, yield func(*Run) bool) bool {
	if l.long {
		p.faults.add(l.number, "the line is over %d bytes", maxLine)
		return true
	}
	text := bytes.TrimLeft(l.text, "\x00") // left by a machine that lost power
	if len(text) < len(l.text) {
		p.faults.add(l.number, "%d zero bytes", len(l.text)-len(text))
	}
	if len(bytes.TrimSpace(text)) == 0 {
		return true
	}
	// Redacted before it is read, so that payload and artifact agree.
	clean := redact(text, "")
	wall, words, problem := dpkgLine(clean)
	if problem != "" {
		p.faults.add(l.number, "%s", problem)
		return true
	}
	t := instant(wall, p.zone, p.last)
	if p.run != nil && (words[0] == "startup" || t.Sub(p.last).Abs() > quiet) {
		if !p.flush(yield) {
			return false
		}
	}
	if p.run == nil {
		p.wall = wall
	}
	p.add(l.number, t, words, text, clean)
	return true
}

// dpkgLine takes one line apart; problem says why it cannot.
func dpkgLine(text []byte) (wall time.Time, words []string, problem string) {
	const stamp = len("2006-01-02 15:04:05")
	if len(text) <= stamp || text[stamp] != ' ' {
		return wall, nil, "not a line of a dpkg log"
	}
	wall, err := time.Parse(time.DateTime, string(text[:stamp]))
	if err != nil {
		return wall, nil, "no time at its beginning"
	}
	words = strings.Fields(printable(strings.TrimSpace(string(text[stamp:]))))
	want, ok := map[string]int{
		"startup": 3, "status": 4, "conffile": 3,
		"install": 4, "upgrade": 4, "configure": 4, "trigproc": 4, "disappear": 4, "remove": 4, "purge": 4,
	}[strings.Join(words[:min(1, len(words))], "")]
	if !ok {
		return wall, nil, "not a word that dpkg logs"
	}
	if words[0] == "conffile" && len(words) > want { // a path with spaces
		return wall, words, ""
	}
	if len(words) != want {
		return wall, nil, words[0] + " with an unexpected number of words"
	}
	return wall, words, dpkgWords(words)
}

// dpkgWords checks the package and the versions of a line.
func dpkgWords(words []string) (problem string) {
	if words[0] == "startup" || words[0] == "conffile" {
		return ""
	}
	name, rest := words[1], words[2:]
	if words[0] == "status" {
		name, rest = words[2], words[3:]
		if !word.MatchString(words[1]) {
			return "status with a state that is not a word"
		}
	}
	if !setName(&Package{}, name) {
		return words[0] + " of what is not a package"
	}
	for _, v := range rest {
		if !word.MatchString(v) {
			return words[0] + " with what is not a version"
		}
	}
	return ""
}

func (p *dpkgParser) add(number int, t time.Time, words []string, text, clean []byte) {
	if p.run == nil {
		p.run = &Run{Tool: "dpkg", File: p.faults.Path, Line: number, Start: t}
		p.index, p.states = map[string]int{}, map[string]string{}
		p.size, p.identity = 0, nil
	}
	run := p.run
	p.last = t
	if t.Before(run.Start) {
		run.Start = t
	}
	if t.After(run.End) {
		run.End = t
	}
	if p.size += len(text); p.size > maxRecord {
		run.Oversize = p.size
		return
	}
	p.identity = append(p.identity, text...)
	run.Artifact = append(run.Artifact, clean...)
	p.interpret(words)
}

// interpret reads one line into the run's package list. A package that the run
// unpacks and then configures is one item; one that it removes and then purges
// too.
func (p *dpkgParser) interpret(words []string) {
	switch words[0] {
	case "startup", "conffile":
	case "status":
		p.states[words[2]] = words[1]
	default:
		if _, seen := p.states[words[1]]; !seen {
			p.states[words[1]] = ""
		}
		next := dpkgPackage(words)
		at, seen := p.index[words[1]]
		switch {
		case !seen:
		case next.Action == "trigger" || next.Action == "configure" && p.run.Packages[at].Action != "trigger":
			return
		case next.Action == "purge" && p.run.Packages[at].Action == "remove":
			p.run.Packages[at].Action = "purge"
			return
		case p.run.Packages[at].Action == "trigger":
			p.run.Packages[at] = next
			return
		}
		p.index[words[1]] = len(p.run.Packages)
		p.run.Packages = append(p.run.Packages, next)
	}
}

// dpkgPackage: an action line has the installed version and the one to come,
// <none> for neither. dpkg says upgrade also for a lower version; equal ones are
// told apart here.
func dpkgPackage(words []string) Package {
	var p Package
	setName(&p, words[1])
	version := func(s string) string { return strings.TrimSuffix(s, "<none>") }
	installed, available := version(words[2]), version(words[3])
	p.Action = words[0]
	switch words[0] {
	case "install", "upgrade":
		p.From, p.To = installed, available
		if words[0] == "upgrade" && installed == available {
			p.Action = "reinstall"
		}
	case "configure", "trigproc":
		p.To = installed
		if words[0] == "trigproc" {
			p.Action = "trigger"
		}
	default:
		p.From = installed
		if words[0] == "disappear" {
			p.Action = "remove"
		}
	}
	return p
}

// flush yields the run in hand, if there is one.
func (p *dpkgParser) flush(yield func(*Run) bool) bool {
	run := p.run
	if run == nil {
		return true
	}
	p.run = nil
	run.Settled = len(p.states) > 0
	for name, state := range p.states {
		if strings.HasPrefix(state, "half-") {
			run.Left = append(run.Left, name+" "+state)
		}
		run.Settled = run.Settled && state != ""
	}
	slices.Sort(run.Left)
	base := sha256.Sum256(append([]byte("patchrun dpkg run\n"), p.identity...))
	run.Key = p.equal.key(p.wall, base)
	return yield(run)
}
