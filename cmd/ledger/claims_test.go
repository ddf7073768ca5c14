package main

import (
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
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
