package patchrun_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/json/v2"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"evidence-ledger/collectors"
	"evidence-ledger/collectors/patchrun"
	"evidence-ledger/verify/event"
)

var _ collectors.Collector = (*patchrun.Collector)(nil)

// lisbon sets its clock back on 2026-10-25 at 02:00 summer time.
func lisbon(t testing.TB) *time.Location {
	zone, err := time.LoadLocation("Europe/Lisbon")
	if err != nil {
		t.Fatal(err)
	}
	return zone
}

func berlin(t testing.TB) *time.Location {
	zone, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	return zone
}

var noon = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

// host is a folder with logs and a collector that reads them.
type host struct {
	t    *testing.T
	dir  string
	now  time.Time
	zone *time.Location
	seen map[string]bool
	// marks counts the records that were marked as covered by another one.
	marks int
}

func newHost(t *testing.T) *host {
	return &host{t: t, dir: t.TempDir(), now: noon, zone: time.UTC, seen: map[string]bool{}}
}

func (h *host) write(name, text string) {
	h.t.Helper()
	if strings.HasSuffix(name, ".gz") {
		text = string(zip(h.t, text))
	}
	if err := os.WriteFile(filepath.Join(h.dir, name), []byte(text), 0o600); err != nil {
		h.t.Fatal(err)
	}
}

func zip(t testing.TB, text string) []byte {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func (h *host) collector() *patchrun.Collector {
	c, err := patchrun.New(patchrun.Config{
		History: []string{filepath.Join(h.dir, "history.log*")}, Dpkg: []string{filepath.Join(h.dir, "dpkg.log*")},
		Zone: h.zone, Scope: map[string]string{"host": "web-1.example"}, Now: func() time.Time { return h.now },
	})
	if err != nil {
		h.t.Fatal(err)
	}
	return c
}

// collect collects what is new and holds every observation to its contract.
func (h *host) collect() ([]collectors.Observation, error) {
	h.t.Helper()
	var all []collectors.Observation
	err := h.collector().Collect(context.Background(), func(k string) bool { return h.seen[k] }, func(o collectors.Observation) error {
		if o.CoveredBy != "" {
			if !h.seen[o.CoveredBy] || h.seen[o.Key] || o.Type != "" || len(o.Key) != 64 {
				h.t.Errorf("bad mark: %+v", o)
			}
			h.marks++
		} else {
			all = append(all, o)
		}
		h.seen[o.Key] = true
		return nil
	})
	for _, o := range all {
		checkObservation(h.t, o)
	}
	return all, err
}

func (h *host) mustCollect(want int) []collectors.Observation {
	h.t.Helper()
	all, err := h.collect()
	if err != nil {
		h.t.Fatal(err)
	}
	if len(all) != want {
		for _, o := range all {
			h.t.Logf("%s %s %.300s", o.Period.From, o.Summary, o.Data)
		}
		h.t.Fatalf("%d observations, want %d", len(all), want)
	}
	return all
}

type data struct {
	Tool      string              `json:"tool"`
	Packages  []patchrun.Package  `json:"packages"`
	StartedAt string              `json:"startedAt"`
	EndedAt   string              `json:"endedAt"`
	Command   string              `json:"command"`
	Error     string              `json:"error"`
	Part      *struct{ K, N int } `json:"part"`
}

func decode(t testing.TB, o collectors.Observation) data {
	t.Helper()
	var d data
	if err := json.Unmarshal(o.Data, &d, json.MatchCaseInsensitiveNames(true)); err != nil {
		t.Fatal(err)
	}
	return d
}

func checkObservation(t testing.TB, o collectors.Observation) {
	t.Helper()
	switch {
	case o.Type != patchrun.Type, len(o.Key) != 64, len(o.Scope) == 0, len(o.Artifacts) != 1,
		len(o.Artifacts[0].Data) == 0, o.Summary == "", o.ObservedAt.Location() != time.UTC,
		!o.Period.From.Before(*o.Period.To), len(o.Data) > 32_000,
		!slices.Contains([]string{"pass", "fail", "info"}, o.Outcome):
		t.Errorf("bad observation: %+v", o)
	}
	if strings.ContainsFunc(o.Summary, func(r rune) bool { return r < ' ' }) {
		t.Errorf("control character in %q", o.Summary)
	}
	checkSchema(t, o)
}

// checkSchema makes an event of the observation, which judges its data, and holds
// it to the limit of a payload.
func checkSchema(t testing.TB, o collectors.Observation) {
	t.Helper()
	e := event.Event{
		Type: o.Type, Version: 1, ID: "01935f3e-7c00-7000-8000-000000000001", Ledger: "ledger.example", ObservedAt: o.ObservedAt,
		Summary: o.Summary, Data: o.Data, Collector: "web-1", Seq: 1, Period: o.Period, Method: &event.Method{Name: "patchrun", Version: "1.0.0"},
		Scope: o.Scope, Outcome: o.Outcome, Subject: []event.Artifact{{Name: o.Artifacts[0].Name, SHA256: sha256.Sum256(o.Artifacts[0].Data)}},
	}
	if payload, err := e.Payload(); err != nil || len(payload) > event.MaxPayload {
		t.Errorf("payload of %d bytes: %v\n%.500s", len(payload), err, o.Data)
	}
}

func copySample(h *host) {
	for _, name := range []string{"history.log", "dpkg.log"} {
		text, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			h.t.Fatal(err)
		}
		h.write(name, string(text))
	}
}

// TestSample reads testdata: four stanzas, two dpkg runs that none covers.
func TestSample(t *testing.T) {
	h := newHost(t)
	h.zone = berlin(t)
	copySample(h)
	all := h.mustCollect(6)
	for i, want := range []struct{ from, to, outcome, summary, artifact string }{
		{"2026-10-24T21:10:00Z", "2026-10-24T21:10:05Z", "pass", "apt run: 2 installed", "history.log"},
		{"2026-10-24T21:10:04Z", "2026-10-24T21:10:07Z", "pass", "dpkg run: 1 installed", "dpkg.log"},
		// 02:50 is summer time, 02:05 winter time, fifteen minutes later.
		{"2026-10-25T00:50:00Z", "2026-10-25T01:05:01Z", "fail", "apt run: 2 upgraded; failed", "history.log"},
		{"2026-10-26T08:00:00Z", "2026-10-26T08:00:01Z", "fail", "apt run: 1 purged; failed", "history.log"},
		{"2026-10-26T08:12:00Z", "2026-10-26T08:12:01Z", "fail", "dpkg run: 1 configured; failed", "dpkg.log"},
		{"2026-10-26T08:30:00Z", "2026-10-26T08:30:01Z", "pass", "apt run: 1 downgraded, 1 reinstalled, 1 removed", "history.log"},
	} {
		o := all[i]
		if got := o.Period.From.Format(time.RFC3339); got != want.from {
			t.Errorf("%d: from %s, want %s", i, got, want.from)
		}
		if got := o.Period.To.Format(time.RFC3339); got != want.to {
			t.Errorf("%d: to %s, want %s", i, got, want.to)
		}
		if o.Outcome != want.outcome || o.Summary != want.summary || o.Artifacts[0].Name != want.artifact {
			t.Errorf("%d: %s %q %s", i, o.Outcome, o.Summary, o.Artifacts[0].Name)
		}
	}
	if got, want := string(all[0].Artifacts[0].Data), `Start-Date: 2026-10-24  23:10:00
Commandline: apt-get install -y /home/~/Downloads/tool_1.0_amd64.deb
Install: tool:amd64 (1.0), libtool-data:amd64 (1.0-1, automatic)
End-Date: 2026-10-24  23:10:04
`; got != want {
		t.Errorf("artifact:\n%s\nwant:\n%s", got, want)
	}
	if got, want := string(all[0].Data), `{"tool":"apt","packages":[{"name":"tool","arch":"amd64","to":"1.0","action":"install"},`+
		`{"name":"libtool-data","arch":"amd64","to":"1.0-1","action":"install","automatic":true}],`+
		`"startedAt":"2026-10-24T21:10:00Z","endedAt":"2026-10-24T21:10:04Z","command":"apt-get install -y /home/~/Downloads/tool_1.0_amd64.deb"}`; got != want {
		t.Errorf("data:\n%s\nwant:\n%s", got, want)
	}
	if d := decode(t, all[3]); !strings.Contains(d.Error, "no End-Date") || d.EndedAt != "" {
		t.Errorf("an interrupted run: %+v", d)
	}
	if d := decode(t, all[4]); !strings.Contains(d.Error, "nano:amd64 half-configured") {
		t.Errorf("a run that leaves a package half done: %+v", d)
	}
	h.mustCollect(0)
}

// TestNamesNobody: what the sample's people are called is nowhere in what would
// be sent.
func TestNamesNobody(t *testing.T) {
	h := newHost(t)
	copySample(h)
	h.write("history.log.1", stanza("2026-01-01  10:00:00", "Commandline: apt-get -o Acquire::http::Proxy=http://rita:s3/cr@proxy.example:3128/ install /srv/rita/x.deb ~rita/y.deb file:/home/rita foo bar=rita@example.org\n"+
		"Requested-By: CORP\\rita (1002)\n of rita\nComment: for rita\nX-Unknown: rita\nInstall: foo:amd64 (1)\nError: cannot open /home/rita\n", "2026-01-01  10:00:01"))
	all, err := h.collect()
	if err == nil || !strings.Contains(err.Error(), "line 7: not a line of an apt history") || strings.Contains(err.Error(), "rita") {
		t.Errorf("error: %v", err)
	}
	for _, o := range all {
		sent := o.Summary + string(o.Data) + string(o.Artifacts[0].Data) + o.Artifacts[0].Name + fmt.Sprint(o.Scope)
		for _, name := range []string{"maria", "joao", "rita", "s3/cr", "1002", "Requested-By"} {
			if strings.Contains(sent, name) {
				t.Errorf("%s is in what would be sent: %s", name, sent)
			}
		}
	}
	if got, want := decode(t, all[0]).Command, "apt-get -o Acquire::http::Proxy=http://~@proxy.example:3128/ install /srv/~/x.deb ~~/y.deb file:/home/~ foo bar=~@example.org"; got != want {
		t.Errorf("command %q, want %q", got, want)
	}
}

func stanza(start, body, end string) string {
	text := "\nStart-Date: " + start + "\n" + body
	if end != "" {
		text += "End-Date: " + end + "\n"
	}
	return text
}

func day(d int) string { return fmt.Sprintf("2026-03-%02d  10:00:00", d) }

// TestRotation moves the logs on as logrotate does: the order is by age, and no
// record comes twice.
func TestRotation(t *testing.T) {
	h := newHost(t)
	one := func(d int) string {
		return stanza(day(d), fmt.Sprintf("Install: p%d:amd64 (1)\n", d), day(d))
	}
	hand := func(d int) string {
		return fmt.Sprintf("2026-03-%02d 11:00:00 startup archives install\n2026-03-%02d 11:00:00 install h%d:all <none> 1\n", d, d, d)
	}
	h.write("history.log-20250901.gz", one(1))
	h.write("history.log.10.gz", one(2))
	h.write("history.log.2.gz", one(3))
	h.write("history.log.1", one(4))
	h.write("history.log.1.gz", one(4)) // being compressed
	h.write("history.log", one(5))
	h.write("dpkg.log.2.gz", hand(1)+hand(2))
	h.write("dpkg.log.1", hand(3))
	h.write("dpkg.log", hand(4)+hand(5))
	var got []string
	for _, o := range h.mustCollect(10) {
		got = append(got, decode(t, o).Packages[0].Name)
	}
	if want := "p1 h1 p2 h2 p3 h3 p4 h4 p5 h5"; strings.Join(got, " ") != want {
		t.Errorf("order %v, want %s", got, want)
	}
	h.write("history.log.1", one(5))
	h.write("history.log.2.gz", one(4)) // and history.log is not yet gone
	h.write("dpkg.log.1.gz", hand(3))   // a copy while it is compressed
	h.mustCollect(0)
	h.write("history.log", "")
	h.mustCollect(0)
}

func TestUnfinishedStanza(t *testing.T) {
	h := newHost(t)
	h.now = time.Date(2026, 3, 2, 9, 0, 0, 0, time.UTC)
	begun := stanza(day(1), "Commandline: apt-get install p\nInstall: p:amd64 (1)\n", "")
	dpkg := "2026-03-01 10:00:01 startup archives unpack\n2026-03-01 10:00:01 install p:amd64 <none> 1\n2026-03-01 10:00:02 status unpacked p:amd64 1\n"
	h.write("history.log", begun)
	h.write("dpkg.log", dpkg)
	h.mustCollect(0) // 23 hours old: it may still be going on

	followed := newHost(t)
	followed.now = h.now
	followed.write("history.log", begun+stanza(day(2), "Install: q:amd64 (1)\n", ""))
	followed.write("dpkg.log", dpkg)
	if o := followed.mustCollect(1)[0]; o.Outcome != "fail" || decode(t, o).Packages[0].Name != "p" {
		t.Errorf("a stanza that another one follows: %+v", o)
	}

	h.now = h.now.Add(2 * time.Hour)
	if o := h.mustCollect(1)[0]; o.Outcome != "fail" {
		t.Errorf("an old one: %+v", o)
	}
	h.write("history.log", begun+"End-Date: "+day(3)+"\n") // one run, one event: also when it ends after all
	h.mustCollect(0)
}

func TestSplit(t *testing.T) {
	h := newHost(t)
	var items []string
	for i := range 3000 {
		items = append(items, fmt.Sprintf("package-number-%d:amd64 (1:%d-1, 1:%d-2)", i, i, i))
	}
	h.write("history.log", stanza(day(1), "Commandline: apt-get \""+strings.Repeat("\\", 20_000)+"\nUpgrade: "+strings.Join(items, ", ")+"\n", day(1)))
	all, err := h.collect()
	if err != nil || len(all) < 3 {
		t.Fatalf("%d observations, %v", len(all), err)
	}
	var names []string
	for i, o := range all {
		d := decode(t, o)
		if d.Part == nil || d.Part.K != i+1 || d.Part.N != len(all) || o.Key != all[0].Key {
			t.Errorf("part %d: %+v", i, d.Part)
		}
		if !bytes.Equal(o.Artifacts[0].Data, all[0].Artifacts[0].Data) {
			t.Errorf("part %d has another artifact", i)
		}
		for _, p := range d.Packages {
			names = append(names, p.Name)
		}
	}
	if len(names) != 3000 || names[2999] != "package-number-2999" {
		t.Errorf("%d packages", len(names))
	}
}

func TestTooLarge(t *testing.T) {
	h := newHost(t)
	long := "Install: " + strings.Repeat("x:amd64 (1), ", 50_000) + "y:amd64 (1)\n"
	h.write("history.log", stanza(day(1), "Install: a:amd64 (1)\n", day(1))+stanza(day(2), long, day(2))+
		stanza(day(3), "Install: "+strings.Repeat("x", 17<<20)+"\nRemove: z:amd64 (1)\n", day(3))+stanza(day(4), "Install: b:amd64 (1)\n", day(4)))
	for range 2 { // it is not lost: it is named each time
		clear(h.seen)
		all, err := h.collect()
		if len(all) != 2 || err == nil {
			t.Fatalf("%d observations, %v", len(all), err)
		}
		for _, want := range []string{"history.log: line 6: the apt run that begins here has 650", "history.log: line 10: the apt run", "line 11: the line is over 16777216 bytes"} {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%q is not in: %v", want, err)
			}
		}
	}
}

func TestDamaged(t *testing.T) {
	good := func(d int) string { return stanza(day(d), fmt.Sprintf("Install: p%d:amd64 (1)\n", d), day(d)) }
	cut := zip(t, good(1)+good(2)+stanza(day(3), "Install: "+strings.Repeat("abc:amd64 (1), def:amd64 (2), ", 400), day(3)))
	for _, c := range []struct {
		name, history string
		events        int
		errors        []string
	}{
		{"empty", "", 0, nil},
		{"no LF at the end", strings.TrimSuffix(good(1), "\n"), 1, nil},
		{"CR LF", strings.ReplaceAll(good(1), "\n", "\r\n"), 1, nil},
		{"no empty lines", strings.ReplaceAll(good(1)+good(2), "\n\n", "\n"), 2, nil},
		{"rubbish between", good(1) + "\x7fELF\xff\n" + good(2), 2, []string{"1 not read: line 5: not a line of an apt history"}},
		{"zeros of a power loss", good(1) + strings.Repeat("\x00", 5000) + strings.TrimPrefix(good(2), "\n"), 2, []string{"line 5: 5000 zero bytes"}},
		{"bad Start-Date", good(1) + stanza("yesterday", "Install: x:amd64 (1)\n", day(2)) + good(3), 2, []string{"line 6: Start-Date"}},
		{"no such day", stanza("2026-02-30  10:00:00", "", day(2)), 0, []string{"line 2: Start-Date"}},
		{"bad End-Date", stanza(day(1), "", "soon") + good(2), 2, []string{"line 2: End-Date"}},
		{"no Start-Date", "Install: x:amd64 (1)\nEnd-Date: " + day(1) + "\n" + good(2), 1, []string{"2 not read: line 1: Install without a Start-Date"}},
		{"bad items", stanza(day(1), "Install: a b:amd64 (1), c:amd64 (1, d:amd64 (2), e:amd64 (3)\n", day(1)), 1, []string{"2 items not understood"}},
		{"cut gzip", string(cut[:len(cut)-40]), 2, []string{"reading stopped here: unexpected EOF", "line 10: the stanza that begins here is cut off"}},
		{"bad gzip", "\x1f\x8bnonsense", 0, []string{"line 0: reading stopped here"}},
		{"xz", "\xfd7zXZ\x00...", 0, []string{"compressed by xz or zstd"}},
		{"much rubbish", strings.Repeat("rubbish\n", 5000) + good(1), 1, []string{"5000 not read", "and 4990 more"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHost(t)
			h.write("history.log", c.history)
			all, err := h.collect()
			if len(all) != c.events {
				t.Errorf("%d observations, want %d", len(all), c.events)
			}
			if (err == nil) != (c.errors == nil) {
				t.Fatalf("error: %v", err)
			}
			for _, want := range c.errors {
				if !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), filepath.Join(h.dir, "history.log")) {
					t.Errorf("%q is not in: %v", want, err)
				}
			}
		})
	}
}

func TestDpkgRuns(t *testing.T) {
	const quiet = "2026-03-01 10:10:00 configure b:all 1 <none>\n2026-03-01 10:20:01 configure c:all 1 <none>\n"
	for _, c := range []struct {
		name, log string
		want      []string // outcome, package:action...
		error     string
	}{
		{"a lone line of each kind", "2026-03-01 10:00:00 startup archives install\n2026-03-02 10:00:00 conffile /etc/x y keep\n2026-03-03 10:00:00 install a:all <none> 1\n2026-03-04 10:00:00 status installed b 1\n",
			[]string{"info", "info", "info a:install", "pass"}, ""},
		{"ten minutes belong together, more does not", "2026-03-01 10:00:00 configure a:all 1 <none>\n" + quiet, []string{"info a:configure b:configure", "info c:configure"}, ""},
		{"unpack and configure are one item", "2026-03-01 10:00:00 upgrade a:amd64 1 2\n2026-03-01 10:00:00 configure a:amd64 2 <none>\n2026-03-01 10:00:00 trigproc m:all 3 <none>\n2026-03-01 10:00:00 status installed a:amd64 2\n2026-03-01 10:00:00 status installed m:all 3\n",
			[]string{"pass a:upgrade m:trigger"}, ""},
		{"remove and purge are one item", "2026-03-01 10:00:00 remove a:amd64 1 <none>\n2026-03-01 10:00:00 purge a:amd64 1 <none>\n2026-03-01 10:00:00 status not-installed a:amd64 <none>\n", []string{"pass a:purge"}, ""},
		{"the same version again", "2026-03-01 10:00:00 upgrade a:amd64 1 1\n", []string{"info a:reinstall"}, ""},
		{"rubbish does not hide the rest", "2026-03-01 10:00:00 startup archives install\nrubbish\n2026-03-01 10:00:00 frob a\n2026-13-01 10:00:00 install a:all <none> 1\n2026-03-01 10:00:00 install a:all <none>\n2026-03-01 10:00:00 install a:b:c <none> 1\n2026-03-01 10:00:01 disappear b:all 1 <none>\n",
			[]string{"info b:remove"}, "5 not read: line 2: not a line of a dpkg log; line 3: not a word that dpkg logs; line 4: no time at its beginning; line 5: install with an unexpected number of words; line 6: install of what is not a package"},
		{"equal runs in one second", strings.Repeat("2026-03-01 10:00:00 startup packages configure\n", 3), []string{"info", "info", "info"}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHost(t)
			h.write("dpkg.log", c.log)
			all, err := h.collect()
			if (err == nil) != (c.error == "") || err != nil && !strings.Contains(err.Error(), c.error) {
				t.Errorf("error: %v", err)
			}
			var got []string
			for _, o := range all {
				text := o.Outcome
				for _, p := range decode(t, o).Packages {
					text += " " + p.Name + ":" + p.Action
				}
				got = append(got, text)
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("got %q, want %q", got, c.want)
			}
			h.write("dpkg.log.1.gz", c.log)
			h.write("dpkg.log", "")
			if again, _ := h.collect(); len(again) > 0 {
				t.Errorf("%d come again after rotation", len(again))
			}
		})
	}
}

// TestDpkgStillRunning: the last run of a file waits until it has been quiet for
// ten minutes.
func TestDpkgStillRunning(t *testing.T) {
	h := newHost(t)
	h.write("dpkg.log", "2026-11-24 09:00:00 startup archives install\n2026-11-24 11:55:00 startup archives install\n")
	h.mustCollect(1)
	h.write("dpkg.log", "2026-11-24 09:00:00 startup archives install\n2026-11-24 11:55:00 startup archives install\n2026-11-24 11:56:00 install a:all <none> 1\n")
	h.mustCollect(0)
	h.now = h.now.Add(10 * time.Minute)
	if o := h.mustCollect(1)[0]; len(decode(t, o).Packages) != 1 {
		t.Errorf("%s", o.Data)
	}
}

// TestCoverage: which dpkg runs are a stanza's.
func TestCoverage(t *testing.T) {
	run := func(at, name string) string {
		return "2026-03-01 " + at + " startup archives install\n2026-03-01 " + at + " install " + name + ":all <none> 1\n"
	}
	apt := func(start, end string) string {
		text := "\nStart-Date: 2026-03-01  " + start + "\nInstall: p:amd64 (1), q:amd64 (1)\n"
		if end != "" {
			text += "End-Date: 2026-03-01  " + end + "\n"
		}
		return text
	}
	later := stanza(day(20), "", day(20))
	for _, c := range []struct {
		name, history, dpkg string
		alone               int // dpkg runs that are events of their own
	}{
		{"inside", apt("10:00:00", "10:01:00"), run("10:00:30", "other"), 0},
		{"first second, its package", apt("10:00:00", "10:01:00"), run("10:00:00", "p"), 0},
		{"first second, another package", apt("10:00:00", "10:01:00"), run("10:00:00", "other"), 1},
		{"last second, another package", apt("10:00:00", "10:01:00"), run("10:01:00", "other"), 1},
		{"all in one second", apt("10:00:00", "10:00:00"), run("10:00:00", "p") + run("10:00:00", "q") + run("10:00:00", "other"), 1},
		{"before and after", apt("10:00:00", "10:01:00"), run("09:59:59", "p") + run("10:01:01", "p"), 2},
		{"no history", "", run("10:00:00", "p"), 1},
		{"two stanzas, one long", apt("10:00:00", "12:00:00") + apt("10:30:00", "10:31:00"), run("11:00:00", "other"), 0},
		{"interrupted: closely following", apt("10:00:00", "") + later, run("10:00:05", "p") + run("10:00:20", "q"), 0},
		{"interrupted: repaired by hand later", apt("10:00:00", "") + later, run("10:00:05", "p") + run("10:01:20", "q"), 1},
		{"interrupted: another package", apt("10:00:00", "") + later, run("10:00:05", "other"), 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHost(t)
			h.write("history.log", c.history)
			h.write("dpkg.log", c.dpkg)
			all, err := h.collect()
			if err != nil {
				t.Fatal(err)
			}
			alone := 0
			for _, o := range all {
				if decode(t, o).Tool == "dpkg" {
					alone++
				}
			}
			if alone != c.alone {
				t.Errorf("%d dpkg runs are events, want %d", alone, c.alone)
			}
		})
	}
}

// TestUnreadableHistory: dpkg runs of a time of which apt's history cannot be
// read wait, the others do not.
func TestUnreadableHistory(t *testing.T) {
	h := newHost(t)
	whole := zip(t, stanza(day(5), "Install: "+strings.Repeat("abc:amd64 (1), def:amd64 (2), ", 400)+"\n", day(5)))
	h.write("history.log.2", stanza(day(1), "", day(1)))
	h.write("history.log.1", string(whole[:len(whole)-30]))
	h.write("history.log", stanza(day(9), "", day(9)))
	h.write("dpkg.log", "2026-03-01 09:00:00 startup packages configure\n2026-03-05 10:00:00 startup packages configure\n2026-03-10 09:00:00 startup packages configure\n")
	all, err := h.collect()
	if err == nil || !strings.Contains(err.Error(), "1 dpkg runs wait") || len(all) != 4 {
		t.Errorf("%d observations, %v", len(all), err)
	}
	h.write("history.log.1", string(whole))
	h.mustCollect(2) // the stanza, in two parts, and no dpkg run
}

func TestSources(t *testing.T) {
	h := newHost(t)
	if _, err := h.collect(); !errors.Is(err, collectors.ErrNoSource) {
		t.Errorf("no file at all: %v", err)
	}
	if err := os.Mkdir(filepath.Join(h.dir, "history.log"), 0o700); err != nil {
		t.Fatal(err)
	}
	h.write("dpkg.log", "2026-03-01 09:00:00 startup packages configure\n")
	if all, err := h.collect(); err == nil || len(all) != 0 || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("a folder for a log: %d observations, %v", len(all), err)
	}
}

func TestEmitAndContext(t *testing.T) {
	h := newHost(t)
	copySample(h)
	full := errors.New("no space left")
	calls := 0
	err := h.collector().Collect(t.Context(), func(string) bool { return false }, func(collectors.Observation) error { calls++; return full })
	if !errors.Is(err, full) || calls != 1 {
		t.Errorf("emit fails: %v after %d calls", err, calls)
	}
	ctx, cancel := context.WithCancel(t.Context())
	calls = 0
	err = h.collector().Collect(ctx, func(string) bool { return false }, func(collectors.Observation) error { calls++; cancel(); return nil })
	if !errors.Is(err, context.Canceled) || calls != 1 {
		t.Errorf("cancelled: %v after %d calls", err, calls)
	}
}

// TestSummerTimeEnds: Lisbon's clock shows 01:00 to 02:00 twice on 2026-10-25.
func TestSummerTimeEnds(t *testing.T) {
	h := newHost(t)
	h.zone = lisbon(t)
	h.write("history.log", stanza("2026-10-25  01:10:00", "Install: a:all (1)\n", "2026-10-25  01:50:00")+
		stanza("2026-10-25  01:20:00", "Install: b:all (1)\n", "2026-10-25  01:20:05")+
		stanza("2026-03-29  01:30:00", "Install: c:all (1)\n", "2026-03-29  00:30:00"))
	h.write("dpkg.log", "2026-10-25 01:20:02 startup archives unpack\n2026-10-25 01:20:02 install zzz:all <none> 1\n")
	all, err := h.collect()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, o := range all {
		got = append(got, o.Period.From.Format(time.RFC3339)+" "+o.Period.To.Format(time.RFC3339))
	}
	want := []string{"2026-10-25T00:10:00Z 2026-10-25T00:50:01Z", "2026-10-25T01:20:00Z 2026-10-25T01:20:06Z"}
	if len(got) != 3 || !slices.Equal(got[:2], want) {
		t.Errorf("got %v, want %v and a third one", got, want)
	}
}
