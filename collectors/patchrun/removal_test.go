package patchrun_test

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"evidence-ledger/collectors"
)

// TestHistoryRemovedFirst: once a stanza is sent, its dpkg runs are no runs of
// their own, also where dpkg's log is kept longer than apt's.
func TestHistoryRemovedFirst(t *testing.T) {
	const (
		covered = "2026-03-01 10:00:01 startup archives unpack\n2026-03-01 10:00:01 install p:amd64 <none> 1\n" +
			"2026-03-01 10:00:02 startup packages configure\n2026-03-01 10:00:02 configure p:amd64 1 <none>\n"
		alone = "2026-03-01 12:00:00 startup archives install\n2026-03-01 12:00:00 install h:all <none> 1\n"
	)
	apt := stanza(day(1), "Install: p:amd64 (1)\n", "2026-03-01  10:00:03")
	for _, c := range []struct {
		name string
		now  time.Time
	}{
		{"all is over", noon},
		{"the last dpkg run may be going on", time.Date(2026, 3, 1, 10, 1, 0, 0, time.UTC)},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHost(t)
			h.now = c.now
			h.write("history.log", apt)
			h.write("dpkg.log", covered)
			h.mustCollect(1)
			if h.marks != 2 {
				t.Errorf("%d dpkg runs are marked as covered, want 2", h.marks)
			}
			h.mustCollect(0)
			if h.marks != 2 {
				t.Errorf("what is marked is marked again: %d", h.marks)
			}
			h.now = noon
			h.write("history.log", "")
			h.write("dpkg.log.2.gz", covered)
			h.write("dpkg.log", alone)
			h.mustCollect(1)
		})
	}
	t.Run("sent before there were marks", func(t *testing.T) {
		h := newHost(t)
		h.write("history.log", apt)
		h.mustCollect(1)
		h.write("dpkg.log", covered)
		h.mustCollect(0)
		h.write("history.log", "")
		h.mustCollect(0)
	})
	t.Run("a stanza that cannot be sent covers nothing for good", func(t *testing.T) {
		h := newHost(t)
		h.write("history.log", stanza(day(1), "Install: "+strings.Repeat("p:amd64 (1), ", 40_000)+"p:amd64 (1)\n", "2026-03-01  10:00:03"))
		h.write("dpkg.log", covered)
		if all, err := h.collect(); len(all) != 0 || err == nil || h.marks != 0 {
			t.Errorf("%d observations, %d marks, %v", len(all), h.marks, err)
		}
		h.write("history.log", "")
		h.mustCollect(2)
	})
}

// TestEqualInOneSecond: each of the equal records of one second is an event,
// whatever stands between them, and none is one twice.
func TestEqualInOneSecond(t *testing.T) {
	a, b := stanza(day(1), "Reinstall: a:amd64 (1)\n", day(1)), stanza(day(1), "Reinstall: b:amd64 (1)\n", day(1))
	hand := func(name string) string {
		return fmt.Sprintf("2026-03-01 12:00:00 startup archives install\n2026-03-01 12:00:00 upgrade %s:all 1 1\n", name)
	}
	h := newHost(t)
	h.write("history.log", a+b)
	h.write("dpkg.log", hand("a")+hand("b"))
	h.mustCollect(4)
	h.write("history.log", a+b+a)
	h.write("dpkg.log", hand("a")+hand("b")+hand("a"))
	h.mustCollect(2)
	h.write("history.log", a+b+a+b+a+a)
	h.write("dpkg.log", hand("a")+hand("b")+hand("a")+hand("b")+hand("a")+hand("a"))
	h.mustCollect(6)
	h.write("history.log.1", a+b+a+b+a+a)
	h.write("history.log", stanza(day(2), "Reinstall: a:amd64 (1)\n", day(2)))
	h.write("dpkg.log.1.gz", hand("a")+hand("b")+hand("a")+hand("b")+hand("a")+hand("a"))
	h.write("dpkg.log", "")
	h.mustCollect(1)

	many := newHost(t) // more than a byte counts
	many.write("history.log", strings.Repeat(a+b, 300))
	many.mustCollect(600)
	many.mustCollect(0)
}

// record is one stanza or one dpkg run of a machine's logs.
type record struct {
	text   string // as it stands in the log: the artifact
	at     time.Time
	stanza *record // that a dpkg run belongs to
	ended  bool
	// due: a Collect had to report it, with the text of then; covered: a Collect
	// found its stanza.
	due     string
	covered bool
}

// machine writes both logs as apt, dpkg and logrotate do, and knows which event
// each record must have become.
type machine struct {
	*host
	files map[string][][]*record // by log, the live file first
	all   []*record
	open  *record // a stanza that apt has not ended yet
	names int
	got   map[string]int // events by artifact
}

const aptLog, dpkgLog = "history.log", "dpkg.log"

func (m *machine) add(log, text string, stanza *record) *record {
	r := &record{text: text, at: m.now, stanza: stanza}
	m.files[log][0] = append(m.files[log][0], r)
	m.all = append(m.all, r)
	return r
}

func (m *machine) name() string {
	m.names++
	return fmt.Sprint("p", m.names)
}

func (m *machine) begin(name string) {
	at := m.now.Format("2006-01-02  15:04:05")
	m.open = m.add(aptLog, "Start-Date: "+at+"\nInstall: "+name+":all (1)\n", nil)
}

func (m *machine) dpkg(name string) {
	at := m.now.Format(time.DateTime)
	m.add(dpkgLog, at+" startup archives unpack\n"+at+" install "+name+":all <none> 1\n", m.open)
}

func (m *machine) end() {
	m.open.text += "End-Date: " + m.now.Format("2006-01-02  15:04:05") + "\n"
	m.open.ended = true
	m.open = nil
}

func (m *machine) rotate(log string) {
	if len(m.files[log][0]) > 0 { // notifempty
		m.files[log] = append([][]*record{nil}, m.files[log]...)
	}
}

// remove takes away the oldest file.
func (m *machine) remove(log string) {
	n := len(m.files[log]) - 1
	if n > 0 && (m.open == nil || !slices.Contains(m.files[log][n], m.open)) {
		m.files[log] = m.files[log][:n]
	}
}

// store writes the files as logrotate leaves them: the live one and the one
// before it plain, the others compressed. copied: it is compressing one now.
func (m *machine) store(copied bool) {
	old, _ := filepath.Glob(filepath.Join(m.dir, "*.log*"))
	for _, path := range old {
		os.Remove(path)
	}
	for log, files := range m.files {
		for i, file := range files {
			var text string
			for _, r := range file {
				if log == aptLog {
					text += "\n"
				}
				text += r.text
			}
			m.write(log+[]string{"", ".1", fmt.Sprintf(".%d.gz", i)}[min(i, 2)], text)
			if copied && i == 1 && log == dpkgLog {
				m.write(log+".1.gz", text)
			}
		}
	}
}

// run collects; failing is the call of emit that fails, -1 for none.
func (m *machine) run(failing int) {
	full := errors.New("full")
	err := m.collector().Collect(m.t.Context(), func(k string) bool { return m.seen[k] }, func(o collectors.Observation) error {
		if failing == 0 {
			return full
		}
		failing--
		if o.CoveredBy != "" {
			m.seen[o.Key] = m.seen[o.Key] || m.seen[o.CoveredBy]
			return nil
		}
		m.seen[o.Key] = true
		m.got[string(o.Artifacts[0].Data)]++
		return nil
	})
	if err != nil && !errors.Is(err, full) && !errors.Is(err, collectors.ErrNoSource) {
		m.t.Fatal(err)
	}
}

// expect works out what a Collect that came to its end has reported.
func (m *machine) expect() {
	var stanzas []*record
	for _, file := range slices.Backward(m.files[aptLog]) {
		stanzas = append(stanzas, file...)
	}
	reported := map[*record]bool{}
	var going *record // it may still be going on
	for i, s := range stanzas {
		if !s.ended && i == len(stanzas)-1 && m.now.Sub(s.at) <= 24*time.Hour {
			going = s
			continue
		}
		s.due, reported[s] = cmp.Or(s.due, s.text), true
	}
	for _, file := range m.files[dpkgLog] {
		for i, r := range file {
			over := i < len(file)-1 || m.now.Sub(r.at) > 10*time.Minute
			switch {
			case r.covered:
			case reported[r.stanza]:
				r.covered = r.due == ""
			case going != nil && !r.at.Before(going.at):
			case over:
				r.due = r.text
			}
		}
	}
}

func (m *machine) check(t *rapid.T) {
	want := map[string]int{}
	for _, r := range m.all {
		if r.due != "" {
			want[r.due]++
		}
	}
	for text := range m.got {
		want[text] += 0
	}
	for text, n := range want {
		if m.got[text] != n {
			t.Fatalf("%d events of %d records:\n%s", m.got[text], n, text)
		}
	}
}

// TestRemoval: whatever is rotated and removed in whatever order, each record
// that a Collect could see is one event, or its stanza is.
func TestRemoval(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		m := &machine{host: newHost(t), got: map[string]int{}, files: map[string][][]*record{aptLog: {nil}, dpkgLog: {nil}}}
		logs := rapid.SampledFrom([]string{aptLog, dpkgLog})
		tick := func(r *rapid.T, d ...time.Duration) { m.now = m.now.Add(rapid.SampledFrom(d).Draw(r, "tick")) }
		collect := func(r *rapid.T) {
			m.store(rapid.Bool().Draw(r, "copied"))
			if rapid.IntRange(0, 3).Draw(r, "fails") == 0 {
				m.run(rapid.IntRange(0, 5).Draw(r, "at"))
			}
			m.run(-1)
			m.expect()
		}
		idle := func(r *rapid.T) {
			if m.open != nil {
				r.Skip()
			}
		}
		r.Repeat(map[string]func(*rapid.T){
			"begin": func(r *rapid.T) {
				idle(r)
				name := m.name()
				m.begin(name)
				for range rapid.IntRange(0, 3).Draw(r, "runs") {
					tick(r, 0, time.Second, 5*time.Second)
					m.dpkg(name)
				}
			},
			"end": func(r *rapid.T) {
				if m.open == nil {
					r.Skip()
				}
				tick(r, 0, time.Second, 5*time.Second)
				m.end()
			},
			"kill": func(r *rapid.T) { m.open = nil },
			"equal": func(r *rapid.T) {
				idle(r)
				names := []string{m.name(), m.name()}
				for _, i := range rapid.SliceOfN(rapid.IntRange(0, 1), 1, 5).Draw(r, "which") {
					m.begin(names[i])
					m.dpkg(names[i])
					m.end()
				}
			},
			"hand": func(r *rapid.T) {
				idle(r)
				names := []string{m.name(), m.name()}
				for _, i := range rapid.SliceOfN(rapid.IntRange(0, 1), 1, 5).Draw(r, "which") {
					m.dpkg(names[i])
				}
			},
			"rotate":  func(r *rapid.T) { m.rotate(logs.Draw(r, "log")) },
			"remove":  func(r *rapid.T) { m.remove(logs.Draw(r, "log")) },
			"wait":    func(r *rapid.T) { tick(r, time.Second, time.Minute, time.Hour, 25*time.Hour) },
			"collect": collect,
			"":        m.check,
		})
	})
}
