package patchrun_test

import (
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"evidence-ledger/collectors/patchrun"
)

// seed adds our own sample; the real ones are too long to be good seeds, and
// TestRealSamples reads them.
func seed(f *testing.F, name string) {
	text, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
}

// FuzzParseHistory: an artifact is a history of one stanza, and reads like the
// stanza that it was made from.
func FuzzParseHistory(f *testing.F) {
	seed(f, "history.log")
	f.Add([]byte("Start-Date: 2026-01-01  10:00:00\nCommandline: a /home/x/y@z ~u://a:b/c@d\nRequested-By: u (1)\n more\nInstall: a (1),\n b:c (2, automatic)\nEnd-Date: 2026-01-01  10:00:00"))
	f.Add([]byte("\x00\x00Start-Date: 2026-01-01  10:00:00\r\nError:\n\nError: x\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		for run := range patchrun.ParseHistory(bytes.NewReader(text), time.UTC, &patchrun.Faults{}) {
			if run == nil || run.Oversize > 0 {
				continue
			}
			var again []*patchrun.Run
			for r := range patchrun.ParseHistory(bytes.NewReader(run.Artifact), time.UTC, &patchrun.Faults{}) {
				again = append(again, r)
			}
			if len(again) != 1 || again[0] == nil {
				t.Fatalf("%d stanzas in %q", len(again), run.Artifact)
			}
			a, b := *again[0], *run
			a.Line, a.Key, b.Line, b.Key = 0, "", 0, ""
			if !reflect.DeepEqual(a, b) {
				t.Fatalf("\n%+v\n%+v\n%q\n%q", a, b, a.Artifact, b.Artifact)
			}
		}
	})
}

// FuzzParseDpkg: the lines that are understood are all in one run's artifact, and
// the artifact reads like the run.
func FuzzParseDpkg(f *testing.F) {
	seed(f, "dpkg.log")
	f.Add([]byte("2026-01-01 10:00:00 trigproc a:b 1 2\n2026-01-01 10:00:00 configure a:b 1 <none>\n\x002026-01-01 10:10:01 purge a 1 1"))
	f.Fuzz(func(t *testing.T, text []byte) {
		for run := range patchrun.ParseDpkg(bytes.NewReader(text), time.UTC, &patchrun.Faults{}) {
			if run.Oversize > 0 {
				continue
			}
			var again []*patchrun.Run
			faults := &patchrun.Faults{}
			for r := range patchrun.ParseDpkg(bytes.NewReader(run.Artifact), time.UTC, faults) {
				again = append(again, r)
			}
			if len(again) != 1 || faults.Count() > 0 {
				t.Fatalf("%d runs in %q: %v", len(again), run.Artifact, faults.Err())
			}
			a, b := *again[0], *run
			a.Line, a.Key, b.Line, b.Key = 0, "", 0, ""
			if !reflect.DeepEqual(a, b) {
				t.Fatalf("\n%+v\n%+v\n%q", a, b, a.Artifact)
			}
		}
	})
}
