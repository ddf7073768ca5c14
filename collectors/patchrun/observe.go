package patchrun

import (
	"encoding/json/v2"
	"fmt"
	"maps"
	"strings"
	"time"

	"evidence-ledger/collectors"
	"evidence-ledger/verify/event"
)

const (
	// maxArtifact leaves room, in a submission of at most 512 KiB, for base64 and
	// the envelope. Longer records need the object store.
	maxArtifact = 380_000
	// maxData leaves room in a payload of at most 48,000 bytes for everything
	// around the data.
	maxData = 32_000
	// maxText cuts a command or an error message; the artifact has the whole.
	maxText = 6_000
)

// data is the payload's data, by the schema of patch.run.completed.
type data struct {
	Tool      string    `json:"tool"`
	Packages  []Package `json:"packages"`
	StartedAt string    `json:"startedAt"`
	EndedAt   string    `json:"endedAt,omitzero"`
	Command   string    `json:"command,omitzero"`
	Error     string    `json:"error,omitzero"`
	Part      *part     `json:"part,omitzero"`
}

type part struct {
	K int `json:"k"`
	N int `json:"n"`
}

// observe turns a run into observations, several where its package list is too
// long for one event.
func (c *Collector) observe(run *Run, now time.Time) ([]collectors.Observation, error) {
	if size := max(len(run.Artifact), run.Oversize); size > maxArtifact {
		return nil, fmt.Errorf("%s: line %d: the %s run that begins here has %d bytes, more than the %d that a submission can carry: not sent",
			run.File, run.Line, run.Tool, size, maxArtifact)
	}
	all := data{Tool: run.Tool, StartedAt: run.Start.Format(time.RFC3339), Command: cut(run.Command), Error: cut(failure(run))}
	if !run.End.IsZero() {
		all.EndedAt = run.End.Format(time.RFC3339)
	}
	parts, err := split(all, run.Packages)
	if err != nil {
		return nil, fmt.Errorf("%s: line %d: %w", run.File, run.Line, err)
	}
	var observations []collectors.Observation
	for k, packages := range parts {
		d := all
		d.Packages = packages
		summary := summarize(run)
		if len(parts) > 1 {
			d.Part = &part{k + 1, len(parts)}
			summary += fmt.Sprintf(" (part %d of %d)", k+1, len(parts))
		}
		encoded, err := json.Marshal(d, json.Deterministic(true))
		if err != nil {
			return nil, fmt.Errorf("%s: line %d: %w", run.File, run.Line, err)
		}
		observations = append(observations, collectors.Observation{
			Type: Type, Key: run.Key, ObservedAt: now.UTC().Truncate(time.Microsecond), Period: period(run),
			Scope: maps.Clone(c.config.Scope), Outcome: outcome(run), Summary: summary, Data: encoded,
			Artifacts: []collectors.Artifact{{Name: artifactNames[run.Tool], MediaType: "text/plain", Data: run.Artifact}},
		})
	}
	return observations, nil
}

var artifactNames = map[string]string{"apt": "history.log", "dpkg": "dpkg.log"}

// period is half-open and the logs have whole seconds: a run that ends in a
// second ends before the next one begins. A run of which the end is not known is
// known for its first second alone.
func period(run *Run) *event.Period {
	from, to := run.Start, run.End
	switch {
	case to.IsZero():
		to = from
	case to.Before(from): // the clock was set back meanwhile
		from, to = to, from
	}
	to = to.Add(time.Second)
	return &event.Period{From: &from, To: &to}
}

func failure(run *Run) string {
	if run.Error == "" && len(run.Left) > 0 {
		return "dpkg's last word on these is that they are half done: " + strings.Join(run.Left, ", ")
	}
	return run.Error
}

// outcome is fail where the log says so, for dpkg where the run leaves a package
// half installed or half configured. Lines of dpkg that do not say how
// their packages ended are neither.
func outcome(run *Run) string {
	switch {
	case failure(run) != "":
		return "fail"
	case run.Tool == "dpkg" && !run.Settled:
		return "info"
	}
	return "pass"
}

// summarize counts; it takes no word from the log.
func summarize(run *Run) string {
	count := map[string]int{}
	for _, p := range run.Packages {
		count[p.Action]++
	}
	var words []string
	for _, w := range []struct{ action, text string }{
		{"install", "installed"}, {"upgrade", "upgraded"}, {"downgrade", "downgraded"}, {"reinstall", "reinstalled"},
		{"remove", "removed"}, {"purge", "purged"}, {"configure", "configured"}, {"trigger", "triggered"},
	} {
		if n := count[w.action]; n > 0 {
			words = append(words, fmt.Sprintf("%d %s", n, w.text))
		}
	}
	if run.Unread > 0 {
		words = append(words, fmt.Sprintf("%d not understood, see the artifact", run.Unread))
	}
	if len(words) == 0 {
		words = []string{"no packages"}
	}
	text := run.Tool + " run: " + strings.Join(words, ", ")
	if failure(run) != "" {
		text += "; failed"
	}
	return text
}

// split distributes packages so that each part's data stay below maxData, counted
// in encoded bytes.
func split(all data, packages []Package) ([][]Package, error) {
	all.Part, all.Packages = &part{99_999, 99_999}, []Package{}
	frame, err := json.Marshal(all)
	if err != nil {
		return nil, err
	}
	parts, room := [][]Package{{}}, maxData-len(frame)
	for _, p := range packages {
		encoded, err := json.Marshal(p)
		if err != nil {
			return nil, err
		}
		if room -= len(encoded) + 1; room < 0 {
			parts, room = append(parts, nil), maxData-len(frame)-len(encoded)-1
		}
		parts[len(parts)-1] = append(parts[len(parts)-1], p)
	}
	return parts, nil
}

// cut shortens s to maxText encoded bytes and marks where it did.
func cut(s string) string {
	size := 0
	for i, r := range s {
		if size += encodedSize(r); size > maxText {
			return s[:i] + " [...]"
		}
	}
	return s
}

// encodedSize is the number of bytes of r in a JSON string, at most.
func encodedSize(r rune) int {
	switch {
	case r < ' ':
		return len(`\u0000`)
	case r == '"' || r == '\\':
		return 2
	}
	return len(string(r))
}
