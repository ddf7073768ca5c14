package verify_test

import (
	"bytes"
	"context"
	"encoding/json/v2"
	"fmt"
	"go/ast"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"sort"
	"strings"
	"sync"
	"testing"
	"time"
)

// mutantSource is package mutant, which exists only in the overlay.
const mutantSource = `package mutant

import ("os"; "strconv")

var off = func() int { n, _ := strconv.Atoi(os.Getenv("` + mutantVariable + `")); return n }()

func Live(n int) bool { return n != off }

func Error(n int, err error) error { if n == off { return nil }; return err }
`

// site is one check that can be switched off: a condition, a returned problem
// or a call that reports.
type site struct {
	file string
	line int
	text string // the function and the line
}

// redundant are the checks without which no vector fails, by file, function
// and line, each with the reason.
var redundant = map[string]string{
	"checkpoint/proof.go Verify: if err := checkSize(c.Size); err != nil {":                   "a size that was parsed is in bounds; a caller may make a Checkpoint by hand, and tlog does not return for sizes over 2^62 (TestRefusedInclusion)",
	"checkpoint/proof.go CheckConsistency: if err := checkSize(n); err != nil {":              "as in Verify (TestRefusedConsistency)",
	"receipt.go Checkpoint: if err != nil {":                                                  "an identity that was parsed has a good key, and so has a state; a caller may make one by hand",
	"key/key.go Parse: if err != nil {":                                                       "what is no base64 is no bytes, and no bytes are no key: the same code in a better sentence",
	"event/statement.go Payload: if err := checkPayloadSize(len(payload)); err != nil {":      "about events that are written (TestPayloadRefuses)",
	"event/statement.go Payload: if _, err := parsePayload(payload, Builtin()); err != nil {": "about events that are written (TestPayloadRefuses)",
	"event/json.go checkTokens: if err != nil {":                                              "bytes that were read once can be read again",
	"read.go readEntries: if err := each(r); err != nil {":                                    "hands on a failure of the machine",
	"read.go skipUnreadable: if err := add(r); err != nil {":                                  "hands on a failure of the machine",
	"verify.go Log: if err != nil {":                                                          "hands on a failure of the machine",
}

// unjudged are files that refuse nothing of what a vector has.
var unjudged = map[string]string{
	"checkpoint/tree.go": "gives a node its tree again; a wrong tile gives another root (TestRestoreTree)",
	"problem/problem.go": "writes and reads problems",
}

// TestEveryCheckIsNeeded switches off every check below verify/, one after the
// other, and sees some vector fail. The sources are changed through an overlay
// of the go command: each `if wrong {` whose body returns or reports a problem,
// or hands one on, becomes `if mutant.Live(N) && (wrong) {`. The test is
// compiled once; an environment variable says which N is off.
func TestEveryCheckIsNeeded(t *testing.T) {
	if os.Getenv(mutantVariable) != "" {
		t.Skip("this is the test of the test")
	}
	dir := t.TempDir()
	sites, overlay := mutate(t, dir)
	bin := filepath.Join(dir, "vectors.test")
	build := exec.Command("go", "test", "-c", "-vet=off", "-overlay", overlay, "-o", bin, ".")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if out, err := runMutant(bin, -1); err != nil {
		t.Fatalf("with every check on the vectors fail: %v\n%s", err, out)
	}

	var mu sync.Mutex
	var alive []int
	next, wg := make(chan int), sync.WaitGroup{}
	for range runtime.NumCPU() {
		wg.Go(func() {
			for n := range next {
				if _, err := runMutant(bin, n); err == nil {
					mu.Lock()
					alive = append(alive, n)
					mu.Unlock()
				}
			}
		})
	}
	for i := range sites {
		next <- i + 1
	}
	close(next)
	wg.Wait()

	sort.Ints(alive)
	excused := map[string]bool{}
	for _, n := range alive {
		s := sites[n-1]
		key := s.file + " " + s.text
		if redundant[key] == "" {
			t.Errorf("%s:%d: no vector fails without this check: %s", s.file, s.line, s.text)
		}
		excused[key] = true
	}
	for key := range redundant {
		if !excused[key] {
			t.Errorf("a vector fails without it now, so it is no longer excused: %s", key)
		}
	}
	t.Logf("%d checks, %d seen to be needed, %d excused", len(sites), len(sites)-len(alive), len(excused))
}

// runMutant runs the vectors with check n off. A run that takes too long is
// one that fails.
func runMutant(bin string, n int) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, bin, "-test.run=^TestVectors$")
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%d", mutantVariable, n), "GOMAXPROCS=1")
	return cmd.CombinedOutput()
}

// mutate writes the changed sources and the overlay into dir.
func mutate(t *testing.T, dir string) (sites []site, overlay string) {
	t.Helper()
	cwd, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	replace := map[string]string{}
	write := func(path, name string, content []byte) {
		at := filepath.Join(dir, name)
		if err := os.WriteFile(at, content, 0o600); err != nil {
			t.Fatal(err)
		}
		replace[filepath.Join(cwd, path)] = at
	}
	write("mutant/mutant.go", "mutant.go.txt", []byte(mutantSource))
	fset, files := sources(t)
	var paths []string
	for path := range files {
		if unjudged[path] == "" {
			paths = append(paths, path)
		}
	}
	slices.Sort(paths)
	for i, path := range paths {
		src, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		m := &mutator{path: path, src: src, fset: fset, sites: sites}
		changed := m.file(files[path])
		if len(m.sites) > len(sites) {
			write(path, fmt.Sprintf("%d.go.txt", i), changed)
		}
		sites = m.sites
	}
	b, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		t.Fatal(err)
	}
	overlay = filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(overlay, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return sites, overlay
}

// mutator changes one file.
type mutator struct {
	path     string
	function string
	src      []byte
	fset     *token.FileSet
	sites    []site
	inserts  []insert
	done     map[ast.Stmt]bool // statements that a condition switches off
}

type insert struct {
	offset int
	text   string
}

func (m *mutator) file(f *ast.File) []byte {
	m.done = map[ast.Stmt]bool{}
	var results *ast.FieldList
	ast.Inspect(f, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncDecl:
			m.function, results = n.Name.Name, n.Type.Results
		case *ast.IfStmt:
			if m.refuses(n.Body.List) {
				m.site(n.Pos(), n.Cond.Pos(), "mutant.Live(%d) && (", n.Cond.End(), ")")
			}
		case *ast.SwitchStmt:
			m.cases(n)
		case *ast.ReturnStmt:
			if !m.done[n] && m.makes(n) && returnsError(results) {
				last := n.Results[len(n.Results)-1]
				m.site(n.Pos(), last.Pos(), "mutant.Error(%d, ", last.End(), ")")
			}
		case *ast.ExprStmt:
			if !m.done[n] && reports(n) {
				m.site(n.Pos(), n.Pos(), "if mutant.Live(%d) { ", n.End(), " }")
			}
		}
		return true
	})
	m.inserts = append(m.inserts, insert{m.fset.Position(f.Name.End()).Offset, "; import \"evidence-ledger/verify/mutant\""})
	sort.SliceStable(m.inserts, func(i, j int) bool { return m.inserts[i].offset < m.inserts[j].offset })
	var out bytes.Buffer
	at := 0
	for _, in := range m.inserts {
		out.Write(m.src[at:in.offset])
		out.WriteString(in.text)
		at = in.offset
	}
	out.Write(m.src[at:])
	return out.Bytes()
}

// cases: a switch without a tag is a row of conditions.
func (m *mutator) cases(s *ast.SwitchStmt) {
	for _, c := range s.Body.List {
		c := c.(*ast.CaseClause)
		if s.Tag == nil && len(c.List) == 1 && m.refuses(c.Body) {
			m.site(c.Pos(), c.List[0].Pos(), "mutant.Live(%d) && (", c.List[0].End(), ")")
		}
	}
}

// site notes a check and how it is switched off.
func (m *mutator) site(pos, before token.Pos, open string, after token.Pos, end string) {
	line := m.fset.Position(pos).Line
	text := strings.TrimSpace(strings.Split(string(m.src), "\n")[line-1])
	m.sites = append(m.sites, site{m.path, line, m.function + ": " + text})
	m.inserts = append(m.inserts,
		insert{m.fset.Position(before).Offset, fmt.Sprintf(open, len(m.sites))},
		insert{m.fset.Position(after).Offset, end})
}

// refuses tells whether a body, in its own statements, makes a problem,
// reports one, or returns the error that the condition was about.
func (m *mutator) refuses(body []ast.Stmt) (yes bool) {
	for _, s := range body {
		if m.makes(s) || reports(s) || handsOn(s) {
			m.done[s], yes = true, true
		}
	}
	return yes
}

// makes tells whether a statement, not one within it, calls problem.New.
func (m *mutator) makes(s ast.Stmt) (yes bool) {
	switch s.(type) {
	case *ast.ReturnStmt, *ast.AssignStmt, *ast.ExprStmt:
	default:
		return false
	}
	ast.Inspect(s, func(n ast.Node) bool {
		if _, ok := n.(*ast.FuncLit); ok {
			return false
		}
		call, ok := n.(*ast.CallExpr)
		yes = yes || ok && isNew(call)
		return true
	})
	return yes
}

// reports tells whether a statement adds to the report.
func reports(s ast.Stmt) bool {
	e, ok := s.(*ast.ExprStmt)
	if !ok {
		return false
	}
	call, ok := e.X.(*ast.CallExpr)
	if !ok {
		return false
	}
	f, ok := call.Fun.(*ast.SelectorExpr)
	return ok && (f.Sel.Name == "Add" || f.Sel.Name == "add") && len(call.Args) > 0
}

// handsOn tells whether a statement returns err, or what found(err) gives.
func handsOn(s ast.Stmt) bool {
	r, ok := s.(*ast.ReturnStmt)
	if !ok || len(r.Results) == 0 {
		return false
	}
	switch e := r.Results[len(r.Results)-1].(type) {
	case *ast.Ident:
		return e.Name == "err"
	case *ast.CallExpr:
		f, ok := e.Fun.(*ast.SelectorExpr)
		return ok && f.Sel.Name == "found"
	}
	return false
}

func returnsError(results *ast.FieldList) bool {
	if results == nil {
		return false
	}
	last, ok := results.List[len(results.List)-1].Type.(*ast.Ident)
	return ok && last.Name == "error"
}
