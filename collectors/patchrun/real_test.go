package patchrun_test

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"evidence-ledger/collectors"
	"evidence-ledger/collectors/patchrun"
)

// Real files that we did not write. What is expected of them was counted with
// grep and awk, not with the parser.
const samples = "../../../shared/samples/patch"

func TestRealSamples(t *testing.T) {
	if _, err := os.Stat(samples); err != nil {
		t.Logf("NOT RUN: the folder of real samples is not beside the repository: %v", err)
		return
	}
	h := newHost(t)
	for from, to := range map[string]string{"apt_history.log": "history.log", "dpkg.log": "dpkg.log"} {
		text, err := os.ReadFile(filepath.Join(samples, from))
		if err != nil {
			t.Fatal(err)
		}
		h.write(to, string(text))
	}
	all := h.mustCollect(10 + 4 + 1) // one stanza is so long that it comes in two parts
	keys := map[string]bool{}
	packages, outcomes := map[string]int{}, map[string]int{}
	automatic := 0
	for _, o := range all {
		d := decode(t, o)
		if !keys[o.Key] {
			outcomes[d.Tool+" "+o.Outcome]++
		}
		keys[o.Key] = true
		for _, p := range d.Packages {
			packages[d.Tool+" "+p.Action]++
			if p.Automatic {
				automatic++
			}
		}
		if bytes.Contains(o.Artifacts[0].Data, []byte("jxs")) || bytes.Contains(o.Data, []byte("jxs")) {
			t.Errorf("an account's name is in what would be sent: %s", o.Summary)
		}
	}
	equal(t, "packages", packages, realPackages)
	equal(t, "outcomes", outcomes, realOutcomes)
	if automatic != realAutomatic {
		t.Errorf("%d automatic, want %d", automatic, realAutomatic)
	}
}

func equal(t *testing.T, what string, got, want map[string]int) {
	t.Helper()
	for k := range got {
		if _, ok := want[k]; !ok {
			t.Errorf("%s: %d of %q", what, got[k], k)
		}
	}
	for k, n := range want {
		if got[k] != n {
			t.Errorf("%s: %d of %q, want %d", what, got[k], k, n)
		}
	}
}

// TestThisMachine reads the logs of the machine that the test runs on: as many
// events with apt as there are lines Start-Date, and all twice the same.
func TestThisMachine(t *testing.T) {
	paths, _ := filepath.Glob("/var/log/apt/history.log")
	text, err := fs.ReadFile(os.DirFS("/"), "var/log/apt/history.log")
	if err != nil || len(paths) == 0 {
		t.Logf("NOT RUN: this machine has no apt history that can be read: %v", err)
		return
	}
	c, err := patchrun.New(patchrun.Config{History: paths})
	if err != nil {
		t.Fatal(err)
	}
	keys := map[string]bool{}
	apt, dpkg := 0, 0
	begun := time.Now()
	err = c.Collect(t.Context(), func(k string) bool { return keys[k] }, func(o collectors.Observation) error {
		if o.CoveredBy != "" {
			keys[o.Key] = true
			return nil
		}
		checkObservation(t, o)
		if d := decode(t, o); d.Tool == "dpkg" {
			dpkg++
			t.Logf("dpkg run without a stanza: %s %s", o.Period.From, o.Summary)
		} else if !keys[o.Key] {
			apt++
		}
		keys[o.Key] = true
		return nil
	})
	if err != nil {
		t.Logf("not all was read: %v", err)
	}
	want := bytes.Count(append([]byte("\n"), text...), []byte("\nStart-Date:"))
	t.Logf("%d stanzas, %d dpkg runs of their own, in %v", apt, dpkg, time.Since(begun))
	if apt != want && apt != want-1 { // a last one may be going on
		t.Errorf("%d stanzas, want %d", apt, want)
	}
	err = c.Collect(t.Context(), func(k string) bool { return keys[k] }, func(o collectors.Observation) error {
		t.Errorf("comes again: %s", o.Summary)
		return nil
	})
	if err != nil {
		t.Logf("the second time: %v", err)
	}
}

// grep "^Install:" apt_history.log | grep -o "(" | wc -l, and so on.
var (
	realPackages  = map[string]int{"apt install": 780, "apt upgrade": 8, "apt remove": 8, "apt purge": 1, "dpkg install": 1}
	realOutcomes  = map[string]int{"apt pass": 9, "apt fail": 1, "dpkg info": 3, "dpkg fail": 1}
	realAutomatic = 728
)
