package verify_test

import (
	"encoding/json/v2"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"evidence-ledger/verify/event"
)

// rule is one numbered rule of FORMAT.md.
type rule struct{ number, code string }

var ruleRE = regexp.MustCompile("(?m)^- \\*\\*([A-Z][0-9]+)\\*\\* `([a-z]+\\.[a-z0-9-]+)` [A-Z`]")

func readRules(t *testing.T) (out []rule) {
	t.Helper()
	text, err := os.ReadFile("FORMAT.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range ruleRE.FindAllStringSubmatch(string(text), -1) {
		out = append(out, rule{m[1], m[2]})
	}
	if bullets := strings.Count(string(text), "\n- "); bullets != len(out) {
		t.Errorf("FORMAT.md has %d lines that begin with a hyphen, but %d rules", bullets, len(out))
	}
	return out
}

// sources parses every file below verify/ that is not a test.
func sources(t *testing.T) (*token.FileSet, map[string]*ast.File) {
	t.Helper()
	fset, files := token.NewFileSet(), map[string]*ast.File{}
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		files[path], err = parser.ParseFile(fset, path, nil, parser.ParseComments)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return fset, files
}

// codesIn finds the codes in the sources: problem.New("code", ...) and
// p.Code, ... = "code", ...; anything but a literal is a mistake.
func codesIn(t *testing.T) []string {
	t.Helper()
	fset, files := sources(t)
	var codes []string
	for _, f := range files {
		ast.Inspect(f, func(n ast.Node) bool {
			var e ast.Expr
			switch n := n.(type) {
			case *ast.CallExpr:
				if isNew(n) {
					e = n.Args[0]
				}
			case *ast.AssignStmt:
				for i, l := range n.Lhs {
					if s, ok := l.(*ast.SelectorExpr); ok && s.Sel.Name == "Code" {
						e = n.Rhs[i]
					}
				}
			}
			if e == nil {
				return true
			}
			lit, ok := e.(*ast.BasicLit)
			if !ok {
				t.Errorf("%s: the code is no literal", fset.Position(e.Pos()))
				return true
			}
			code, err := strconv.Unquote(lit.Value)
			if err != nil {
				t.Fatal(err)
			}
			codes = append(codes, code)
			return true
		})
	}
	return sortedSet(codes)
}

// isNew tells whether the call makes a problem.
func isNew(call *ast.CallExpr) bool {
	s, ok := call.Fun.(*ast.SelectorExpr)
	if !ok {
		return false
	}
	x, ok := s.X.(*ast.Ident)
	return ok && x.Name == "problem" && s.Sel.Name == "New"
}

func sortedSet(list []string) []string {
	slices.Sort(list)
	return slices.Compact(list)
}

// TestEveryRuleHasABadVector: the codes in the sources are those of FORMAT.md,
// every rule there has a bad vector that names its code, every kind has a good
// one, and so has every schema.
func TestEveryRuleHasABadVector(t *testing.T) {
	rules := readRules(t)
	var documented, numbers []string
	for _, r := range rules {
		documented, numbers = append(documented, r.code), append(numbers, r.number)
	}
	if n := len(numbers); n != len(sortedSet(numbers)) {
		t.Errorf("a number in FORMAT.md is used twice")
	}
	compare(t, "FORMAT.md does not have the code", codesIn(t), documented)
	compare(t, "no source has the code of FORMAT.md", documented, codesIn(t))

	bad, schemas := map[rule]int{}, map[string][2]int{}
	good := map[string]int{}
	vectors := 0
	for _, f := range readVectors(t) {
		for _, v := range f.Vectors {
			vectors++
			if v.Expect == "" {
				good[f.Kind]++
			} else {
				bad[rule{v.Rule, v.Expect}]++
			}
			if f.Kind == "event" {
				countSchema(schemas, v)
			}
		}
	}
	for _, r := range rules {
		if bad[r] == 0 {
			t.Errorf("%s %s has no bad vector", r.number, r.code)
		}
		delete(bad, r)
	}
	for r := range bad {
		t.Errorf("a vector names %s %s, which FORMAT.md does not have", r.number, r.code)
	}
	for kind := range kinds {
		if good[kind] == 0 {
			t.Errorf("kind %s has no good vector", kind)
		}
	}
	for _, typ := range event.Builtin().Types() {
		if n := schemas[typ]; n[0] == 0 || n[1] == 0 {
			t.Errorf("schema %s has %d good and %d bad vectors", typ, n[0], n[1])
		}
	}
	t.Logf("%d rules, %d codes, %d vectors", len(rules), len(sortedSet(documented)), vectors)
}

func countSchema(schemas map[string][2]int, v *vector) {
	if v.Expect != "" && v.Expect != "event.schema" {
		return
	}
	env, err := event.ParseEnvelope(read[eventIn](v.In).Envelope)
	if err != nil {
		return
	}
	var st struct {
		PredicateType string `json:"predicateType"`
	}
	if json.Unmarshal(env.Payload, &st) != nil {
		return
	}
	typ := strings.TrimPrefix(st.PredicateType, event.PredicatePrefix)
	n := schemas[typ]
	if v.Expect == "" {
		n[0]++
	} else {
		n[1]++
	}
	schemas[typ] = n
}

// compare names what is in some and not in all.
func compare(t *testing.T, what string, some, all []string) {
	t.Helper()
	for _, s := range sortedSet(slices.Clone(some)) {
		if !slices.Contains(all, s) {
			t.Errorf("%s %s", what, s)
		}
	}
}
