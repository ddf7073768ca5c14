package main

import (
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
)

// TestClaimsHaveTests: every test that SECURITY.md or README.md names exists.
func TestClaimsHaveTests(t *testing.T) {
	list, err := exec.Command("git", "ls-files", "../../*_test.go").Output()
	if err != nil {
		t.Fatal(err)
	}
	var sources strings.Builder
	for _, file := range strings.Fields(string(list)) {
		source, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		sources.Write(source)
	}
	named := 0
	for _, file := range []string{"../../SECURITY.md", "../../README.md"} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile("`(Test[A-Z][A-Za-z0-9]*)(?:/([a-z-]+))?`").FindAllSubmatch(text, -1) {
			named++
			if !strings.Contains(sources.String(), "func "+string(m[1])+"(") {
				t.Errorf("%s names %s, which does not exist", file, m[1])
			}
			if _, err := os.Stat("testdata/" + string(m[2]) + ".txt"); len(m[2]) > 0 && err != nil {
				t.Errorf("%s names a script that does not exist: %v", file, err)
			}
		}
	}
	if named < 20 {
		t.Errorf("only %d tests are named: is the pattern still right?", named)
	}
}

// TestWalkThrough: the commands of the README's walk-through are those that the
// script runs, block by block and to the byte.
func TestWalkThrough(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(readme), "\n## From one key to a quorum\n")
	section, _, _ = strings.Cut(section, "\n## ")
	written := regexp.MustCompile(`(?m)(?:^    .*\n)+`).FindAllString(section, -1)
	script, err := txtar.ParseFile("testdata/walk-through.txt")
	if err != nil {
		t.Fatal(err)
	}
	var run []string
	for _, f := range script.Files {
		if strings.HasSuffix(f.Name, ".sh") {
			run = append(run, regexp.MustCompile("(?m)^").ReplaceAllString(strings.TrimSuffix(string(f.Data), "\n"), "    ")+"\n")
			if !strings.Contains(string(script.Comment), "\nexec sh -ex "+f.Name+"\n") {
				t.Errorf("the script does not run %s", f.Name)
			}
		}
	}
	if len(written) < 5 || !slices.Equal(written, run) {
		t.Errorf("the README has\n%s\nthe script\n%s", strings.Join(written, "\n"), strings.Join(run, "\n"))
	}
}
